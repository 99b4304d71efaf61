"""Every block of docs/aerojax.md, with few episodes of one task."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "aerojax.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_variant():
    names = {}
    exec(BLOCKS[0], names)
    assert names["env"].spec.num_agents == 5


def test_the_table_of_scripted_teams(capsys):
    code = BLOCKS[1]
    for text, shorter in (
        ("EPISODES = 256", "EPISODES = 4"),
        ("in SCENARIOS:", "in ['track-3ag']:"),
    ):
        assert code.count(text) == 1
        code = code.replace(text, shorter)
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    pattern = r"track-3ag (\w+): return (-?[\d.]+) \+- [\d.]+, captures [\d.]+, lost [\d.]+"
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [match[1] for match in found] == ["random", "loiter", "heuristic"]
    random, loiter, heuristic = (float(match[2]) for match in found)
    assert random < loiter < heuristic
