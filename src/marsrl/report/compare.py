"""Several objectives on one task: a table and a figure from their run folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marsrl.errors import UserError
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from marsrl.report.runs import Run, lowest_once_diverged, read_run
from marsrl.report.scores import Comparison, summarize
from marsrl.report.stats import Floats, mean_present
from marsrl.report.table import to_json, to_markdown

SHARED = (
    "task",
    "seeds",
    "total_steps",
    "num_evaluations",
    "eval_episodes",
    "eval_seed",
    "eval_greedy",
)
"""Settings that scores must have in common to be compared."""
_PANELS = {
    "gradient/dead": "Dead gradients, share",
    "gradient/corrective": "Corrective outside, share",
    "ratio/collapsed": "Collapsed ratios, share",
    "entropy": "Entropy",
}


def compare(run_dirs: list[Path], out: Path) -> Comparison:
    """Compares the objectives of several runs on one task; the first one against each other.

    Writes `table.md`, `table.json` and `comparison.png` into `out`. A seed that diverged counts
    as the lowest return of all, and is never dropped.

    Args:
        run_dirs: finished runs, one per objective, alike in the settings of `SHARED`.
        out: a folder, made if need be.

    Raises:
        UserError: a run is unfinished, corrupt or incomplete, or the runs cannot be compared.
    """
    runs = [read_run(run_dir) for run_dir in run_dirs]
    _check(runs)
    comparison = summarize(runs)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(to_markdown(comparison))
    (out / "table.json").write_text(to_json(comparison))
    figures.save(_draw(runs, comparison), out / "comparison.png")
    return comparison


def _check(runs: list[Run]) -> None:
    most = len(figures.COLORS)
    if not 2 <= len(runs) <= most:
        raise UserError(f"got {len(runs)} runs, expected from 2 to {most} to compare")
    first, seen = runs[0], dict[str, Path]()
    for run in runs:
        for name in SHARED:
            ours, theirs = getattr(first.config, name), getattr(run.config, name)
            if ours != theirs:
                raise UserError(
                    f"{name} must be the same in all runs, but is {ours!r} in {first.path} and "
                    f"{theirs!r} in {run.path}"
                )
        objective = run.config.objective
        if objective in seen:
            raise UserError(f"{seen[objective]} and {run.path} have the same objective {objective}")
        seen[objective] = run.path
        _check_complete(run)


def _check_complete(run: Run) -> None:
    if not run.finished:
        raise UserError(f"{run.path} is not finished; resume it first")
    missing = np.isnan(run.final) & np.isinf(run.diverged)
    if missing.any():
        seed = run.config.seeds[int(missing.argmax())]
        raise UserError(f"{run.path}: seed {seed} has no final row with a finite return")


def _draw(runs: list[Run], comparison: Comparison) -> Figure:
    figure = figures.new_figure(12, 7)
    grid = figure.add_gridspec(3, 4, width_ratios=(1.3, 1.3, 1, 1))
    returns = figure.add_subplot(grid[:, :2])
    _draw_returns(returns, runs, comparison)
    cells = [grid[row, column] for row in range(3) for column in (2, 3)]
    for cell, (key, title) in zip(cells, _PANELS.items(), strict=False):
        ax = figure.add_subplot(cell)
        for run, color in zip(runs, figures.COLORS, strict=False):
            figures.line(ax, run.train_step, mean_present(run.train[key], axis=0), color)
        figures.dress(ax, title, small=True)
        ax.set_xlim(returns.get_xlim())
    ratios = figure.add_subplot(cells[4])
    for run, color in zip(runs, figures.COLORS, strict=False):
        low = np.fmin.reduce(run.train["ratio/min"], axis=0)
        high = np.fmax.reduce(run.train["ratio/max"], axis=0)
        figures.span(ratios, run.train_step, low, high, color)
    figures.dress(ratios, "Ratio, smallest and largest", small=True)
    ratios.set_xlim(returns.get_xlim())
    _draw_scores(figure.add_subplot(cells[5]), comparison)
    return figure


def _draw_returns(ax: Axes, runs: list[Run], comparison: Comparison) -> None:
    end = max(run.eval_step[-1] for run in runs)
    for run, row, color in zip(runs, comparison.rows, figures.COLORS, strict=False):
        step, counted = _counted(run, comparison.lowest_evaluation, end)
        diverged = f", {len(row.diverged)} diverged" if row.diverged else ""
        label = f"{row.objective}{diverged}"
        figures.seed_curves(ax, run.eval_step, run.eval_return, color)
        figures.curve(ax, step, *mean_band(counted), label, color)
        for i in np.flatnonzero(np.isfinite(run.diverged)):
            figures.mark_divergence(ax, run.eval_step, run.eval_return[i], color)
    seeds = ", ".join(map(str, comparison.seeds))
    title = f"{comparison.task}, seeds {seeds}: mean and 95 % interval"
    figures.dress(ax, title, "evaluation return")
    figures.legend(ax)


def _counted(run: Run, lowest: float, end: float) -> tuple[Floats, Floats]:
    """Steps (V,) and returns (S, V) as they count: a diverged seed has the lowest one.

    A run stops once all of its seeds have diverged; its curve goes on to the end all the same.
    """
    step = run.eval_step
    counted = lowest_once_diverged(run, step, run.eval_return, lowest)
    if np.isfinite(run.diverged).all():
        unseen = sorted({x for x in (run.diverged.max(), end) if x > step[-1]})
        step = np.append(step, unseen)
        counted = np.pad(counted, ((0, 0), (0, len(unseen))), constant_values=lowest)
    return step, counted


def _draw_scores(ax: Axes, comparison: Comparison) -> None:
    for place, (row, color) in enumerate(zip(comparison.rows, figures.COLORS, strict=False)):
        final = row.scores["final_score"]
        ends = np.array([final.low, final.high])
        figures.score(ax, place, np.array(final.per_seed), ends, final.mean, color)
    figures.dress_scores(ax, "Final score", len(comparison.rows))
