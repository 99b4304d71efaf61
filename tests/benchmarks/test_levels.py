"""The benchmark of levels counts what it says, of tiny trainings."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import levels
import trainings
from environments import small_config
from levels import Level
from marsrl.envs import registry
from marsrl.envs.tasks import TASKS
from marsrl.runs.folder import RunFolder


def test_levels_are_of_what_is_measured():
    assert set(levels.LEVELS) <= set(TASKS)
    for task, level in levels.LEVELS.items():
        assert level.column in ("return", *registry.make(task).spec.metrics)
        config = levels.config_of(task, "mars")
        assert (config.task, config.total_steps, len(config.seeds)) == (task, *level[-2:])


def test_the_last_parameters_are_held_against_the_level(tmp_path, monkeypatch, capsys):
    task = "environments:Scripted"
    config = small_config(task=task, seeds=(0, 1), core="ff", total_steps=96, num_evaluations=2)
    monkeypatch.setattr(levels, "LEVELS", {task: Level("won", 0.5, 96, 2)})
    monkeypatch.setattr(levels, "config_of", lambda *_: config)
    monkeypatch.setattr(levels, "configure_jax", lambda: None)
    monkeypatch.setattr(sys, "argv", ["levels", "--out", str(tmp_path), "--tasks", task])
    levels.main()
    (run,) = tmp_path.glob("environments*")
    last = [row["won"] for row in RunFolder(run).rows() if row["kind"] == "last"]
    row = (tmp_path / "levels.md").read_text().splitlines()[-1]
    each = " ".join(f"{x:.3g}" for x in last)
    assert f"| {np.mean(last):.3g} | {each} | {sum(x >= 0.5 for x in last)} of 2 |" in row
    steps, scores = levels.measured(run, levels.LEVELS[task], "eval")
    assert steps.tolist() == [0, 48, 96]
    assert scores.shape == (2, 3)
    assert (tmp_path / "levels.png").stat().st_size > 0
    before = (run / "metrics.jsonl").read_bytes()
    levels.main()  # what is finished is kept
    assert (run / "metrics.jsonl").read_bytes() == before
    assert task in capsys.readouterr().out


def test_a_task_without_a_level_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["levels", "--out", str(tmp_path), "--tasks", "smax/2s3x"])
    with pytest.raises(SystemExit, match=r"tasks is 'smax/2s3x', expected one of smax/2s3z"):
        levels.main()


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 3))])
def test_panels_without_content_are_blank(count, grid):
    figure, axes = trainings.panels(count, columns=3)
    assert len(axes) == count
    assert axes[0].get_subplotspec().get_gridspec().get_geometry() == grid
    assert [ax.axison for ax in figure.axes] == [i < count for i in range(grid[0] * grid[1])]
