"""The example of docs/learner.md runs as it stands there."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "learner.md"


@pytest.mark.slow
def test_the_algorithm_in_ten_lines(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    exec(compile(example, PAGE, "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    for line in printed:
        assert len(re.findall(r"\d\.\d+|\d\.", line)) == 2
