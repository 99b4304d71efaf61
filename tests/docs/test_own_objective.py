"""The objective of docs/your-objective.md: it is what the page says, and trains."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from marsrl.objectives import make_objective

PAGE = (Path(__file__).parents[2] / "docs" / "your-objective.md").read_text()
SOURCE, USE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def module(monkeypatch):
    module = ModuleType("soft_wall")
    exec(compile(SOURCE, "soft_wall.py", "exec", dont_inherit=True), vars(module))
    monkeypatch.setitem(sys.modules, "soft_wall", module)
    return module


def test_the_use_that_the_page_shows(module, capsys):
    exec(USE, {})
    values = [float(word) for word in capsys.readouterr().out.strip(" []\n").split()]
    assert np.argmax(values) == 2
    assert values[1] == pytest.approx(1)


@pytest.mark.parametrize("advantage", [1.0, -2.0])
def test_the_first_step_is_the_policy_gradients(module, advantage):
    objective, h = module.factory(0.2), 1e-4
    low, high = objective(np.array([-h, h]), np.full(2, advantage))
    assert (high - low) / (2 * h) == pytest.approx(advantage, rel=1e-6)


def test_the_slope_is_zero_at_the_edge(module):
    objective, edge, h = module.factory(0.3), np.log(1.3), 1e-4
    low, high = objective(np.array([edge - h, edge + h]), np.ones(2))
    assert (high - low) / (2 * h) == pytest.approx(0, abs=1e-6)


def test_it_is_taken_by_its_path(tmp_path):
    (tmp_path / "soft_wall.py").write_text(SOURCE)
    objective = make_objective(f"{tmp_path}/soft_wall.py:factory", 0.2)
    assert objective(np.zeros(1), np.ones(1)) == pytest.approx(1)
