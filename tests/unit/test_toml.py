import tomllib

import pytest

from marsrl.toml import line_of, to_toml

TEXT = """\
name = "x"
objectives = [
    "mars@eps=0.4",
]
[settings] # of all
width = 16
[objective."mars@eps=0.4"]
eps = 1
[objective.mars.task."lbf/8x8"]
"actor_lr" = 2
inline = { a = 1 }
"""


@pytest.mark.parametrize(
    ("places", "line"),
    [
        ([("name",)], 1),
        ([("objectives",)], 2),
        ([("settings", "width")], 6),
        ([("objective", "mars@eps=0.4", "eps")], 8),
        ([("objective", "mars", "task", "lbf/8x8", "actor_lr")], 10),
        ([("objective", "mars", "task", "lbf/8x8", "inline", "a")], 11),  # in the line around it
        ([("settings", "height")], 5),
        ([("sweep", "eps"), ("settings", "width")], 6),  # the first that is there
        ([("sweep", "eps")], None),
        ([()], None),
        ([], None),
    ],
)
def test_a_key_is_found_in_the_text(places, line):
    assert line_of(places, TEXT) == line


def test_values_survive_their_file():
    values = {
        "name": 'a "b" é',
        "seeds": [0, 1],
        "settings": {"width": 16, "task_settings": {}},
        "family": {"lbf": {"task_settings": {"a b": True}}},
        "objective": {"mars@eps=0.4": {"eps": 1e-5, "task": {"lbf/8x8": {"eps": 2.0}}}},
    }
    assert tomllib.loads(to_toml(values)) == values
    assert to_toml({"settings": {"width": 1}}) == "[settings]\nwidth = 1\n"
