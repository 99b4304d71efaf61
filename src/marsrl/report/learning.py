"""The learning curve of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marsrl.files import path_of
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from marsrl.report.runs import Run, lowest_once_diverged, read_run
from marsrl.runs.folder import CURVE


def learning_curve(run_dir: str | Path) -> Path:
    """Draws return against environment steps into the run folder.

    Evaluation: each seed thin, their mean thick with its 95 % bootstrap interval. Training: the
    mean, faint. A cross marks where a seed diverged; from then on it counts in the means
    as the run's lowest return.

    Returns:
        The path of `learning_curve.png`.

    Raises:
        UserError: the folder is missing, corrupt or incomplete (see `read_run`).
    """
    run_dir = path_of(run_dir, "run_dir")
    run = read_run(run_dir)
    figure = figures.new_figure(8, 5)
    ax = figure.add_subplot()
    color = figures.COLORS[0]
    training = lowest_once_diverged(run, run.train_step, run.train_return).mean(axis=0)
    evaluation = mean_band(lowest_once_diverged(run, run.eval_step, run.eval_return))
    figures.faint_curve(ax, run.train_step, training, "training, mean")
    figures.seed_curves(ax, run.eval_step, run.eval_return, color)
    figures.curve(ax, run.eval_step, *evaluation, "evaluation, mean and 95 % interval", color)
    for i in np.flatnonzero(np.isfinite(run.diverged)):
        figures.mark_divergence(ax, run.eval_step, run.eval_return[i], color)
    figures.dress(ax, _title(run), "return")
    figures.legend(ax)
    return figures.save(figure, run.path / CURVE)


def _title(run: Run) -> str:
    seeds = ", ".join(map(str, run.config.seeds))
    diverged = ", ".join(map(str, run.diverged_steps))
    title = f"{run.config.task}, {run.config.objective}, seeds {seeds}"
    return title + (f" (diverged: {diverged})" if diverged else "")
