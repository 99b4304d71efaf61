"""The picture on docs/paxmen.md is what its block draws, and the table of sizes is the rules'."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from marsrl.envs.paxmen.layout import HORIZON, build_layouts

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "paxmen.md").read_text()


def test_the_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(block, {})
    drawn, shown = (
        np.asarray(Image.open(folder / "paxmen-layouts.png"))
        for folder in (tmp_path, DOCS / "images")
    )
    assert (drawn.shape, np.abs(drawn.astype(int) - shown).mean() < 5) == (shown.shape, True)


def test_the_sizes():
    def row(name):
        (line,) = re.findall(rf"^\| {name}.*?\| (.*) \|$", PAGE, re.MULTILINE)
        return line.split(" | ")

    lengths = [
        {tuple(sorted(arm.length for arm in arms)) for arms in build_layouts(n).arms}
        for n in HORIZON
    ]
    assert row("corridors") == [", ".join(map(str, same)) for (same,) in lengths]
    assert row("steps") == [str(steps) for steps in HORIZON.values()]
    assert row("agents") == [str(n) for n in HORIZON]
