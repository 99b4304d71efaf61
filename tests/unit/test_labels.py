import pytest

from marsrl.bench.labels import base_of, check_label, objective_of, settings_of, with_settings
from marsrl.errors import UserError


@pytest.mark.parametrize(
    ("label", "objective", "base", "settings"),
    [
        ("mars", "mars", "mars", {}),
        ("mars@wide", "mars", "mars@wide", {}),
        ("mars@eps=0.4", "mars", "mars", {"eps": 0.4}),
        ("mars@eps=0.4,actor_lr=1e-05", "mars", "mars", {"eps": 0.4, "actor_lr": 1e-5}),
        ("mars@wide,eps=4", "mars", "mars@wide", {"eps": 4}),
        ("mars@core=ff,anneal_lr=false", "mars", "mars", {"core": "ff", "anneal_lr": False}),
        ("my_module:f@wide", "my_module:f", "my_module:f@wide", {}),
        ("a@b/c.py:f", "a@b/c.py:f", "a@b/c.py:f", {}),  # the @ is a folder's
        ("a@b/c.py:f@eps=1", "a@b/c.py:f", "a@b/c.py:f", {"eps": 1}),
    ],
)
def test_a_label_is_an_objective_with_a_name_and_settings(label, objective, base, settings):
    check_label(label)
    assert objective_of(label) == objective
    assert base_of(label) == base
    assert settings_of(label) == settings
    assert with_settings(base, settings) == label


def test_settings_come_behind_a_name():
    assert with_settings("mars@wide", {"eps": 0.4}) == "mars@wide,eps=0.4"
    assert with_settings("mars", {}) == "mars"
    for value in (True, 3, 1e-7, 0.1 + 0.2, 2.0, "layer"):
        made = settings_of(with_settings("mars", {"x": value}))["x"]
        assert (made, type(made)) == (value, type(value))


@pytest.mark.parametrize("value", ["a,b", "a=b", "a b", "", "my_module:f"])
def test_a_value_that_would_not_come_back_is_refused(value):
    with pytest.raises(UserError, match="cannot be part of a name"):
        with_settings("mars", {"core": value})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("mars@", "'mars@' is no name of a method; expected OBJECTIVE, OBJECTIVE@NAME or"),
        ("mars@a b", "is no name of a method"),
        ("mars@eps=", "is no name of a method"),
        ("mars@a@b", "is no name of a method"),
        ("mars@eps=1,eps=2", "makes a setting twice"),
    ],
)
def test_other_names_are_refused(label, message):
    with pytest.raises(UserError, match=message):
        check_label(label)
