"""Trainings that a benchmark compares: trained once, and drawn beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.report import figures
from marsrl.report.runs import Run, read_run
from marsrl.report.series import plot
from marsrl.runs.folder import RunFolder
from marsrl.runs.runner import resume, train
from timing import table


def ensure_trained(config: Config, path: Path) -> None:
    """Trains, resumes or keeps a run."""
    if not path.exists():
        train(config, path)
        return
    run = RunFolder.open(path)
    if run.config() != config.settled():
        raise UserError(f"{path} is a run of another configuration; choose another --out")
    if run.status()["status"] not in ("finished", "diverged"):
        resume(path, expected=config)


def folder(out: Path, task: str) -> Path:
    """Where the run of a task is."""
    return out / task.replace("/", "-")


def finished(path: Path) -> Run | None:
    """The run, if there is one that has come to its end."""
    try:
        run = read_run(path)
    except UserError:
        return None
    return run if run.finished else None


def panels(count: int, columns: int, width: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of so many small panels, each `width` inches wide, in rows of `columns` at most."""
    columns = max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    figure = figures.new_figure(width * columns, 2.9 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def side_by_side(kind: str, configs: Mapping[str, Config], out: Path, figure: str) -> str:
    """Trains what is missing and draws the returns over training.

    Args:
        kind: what distinguishes the configurations, the head of the table's first column.
        configs: each to be trained in the folder `out` / its name.
        out: where the figure goes, too.
        figure: its file's name.

    Returns:
        The final returns of all seeds, as Markdown.
    """
    rows = []
    for name, config in configs.items():
        ensure_trained(config, out / name)
        final = [r["return"] for r in RunFolder(out / name).rows() if r["kind"] == "final"]
        rows.append((name, " ".join(f"{x:.4g}" for x in final), f"{np.mean(final):.4g}"))
    plot([out / name for name in configs], ("return",), out / figure)
    return table((kind, "final return of each seed", "mean"), rows)
