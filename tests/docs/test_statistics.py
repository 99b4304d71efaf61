"""The example of docs/statistics.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()


def test_the_example():
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    names = {}
    exec(code, names)
    # 0.4 0.6 0.5 and 0.2 0.9 0.8: without the ends 0.4 0.5 0.6 0.8
    value = names["iqm"](names["x"])
    assert value == pytest.approx(2.3 / 4)
    assert names["low"] < value < names["high"]
    # 10, 14, 12 win 6.5 of 9 pairs against 9, 11, 12; 0.2, 0.9, 0.8 win 5.5 against 0.1, 0.3, 0.9
    share, low, high = names["improvement"]
    assert share == pytest.approx(12 / 18)
    assert low < share < high
