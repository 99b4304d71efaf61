"""The examples of docs/learner.md run as they stand there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "learner.md"


def test_the_algorithm_in_ten_lines(capsys):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    assert len(examples) == 2
    names = {}
    for example in examples:
        exec(compile(example, PAGE, "exec"), names)
    *of_two_seeds, sizes = capsys.readouterr().out.splitlines()
    assert len(of_two_seeds) == 2
    for line in of_two_seeds:
        assert len(re.findall(r"\d\.\d+|\d\.", line)) == 2
    assert sizes == "[0.2 1.  4. ]"
