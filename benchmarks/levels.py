"""How far the presets come: one task of each of six families against a level set as its goal.

    python benchmarks/levels.py --out runs/levels

MARS with each family's preset, for as many steps as the goal allows. Runs that are finished
are kept, interrupted ones resumed; `--tasks` trains some of them only. Writes the runs,
`levels.png`, the evaluations of every seed against the level, and `levels.md`, the scores of the
last parameters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from marsrl.config import Config
from marsrl.devices.startup import configure_jax
from marsrl.errors import UserError, check_choice
from marsrl.presets import preset
from marsrl.report import figures
from marsrl.report.stats import Floats
from marsrl.runs.folder import RunFolder
from timing import table
from trainings import ensure_trained, finished, folder, panels


class Level(NamedTuple):
    """What a team should come to.

    Attributes:
        column: of an evaluation.
        value: to be reached.
        steps: environment steps per seed in which it should be.
        seeds: how many.
    """

    column: str
    value: float
    steps: int
    seeds: int


LEVELS = {
    "smax/2s3z": Level("won", 1.0, 500_000, 5),
    "connector/5x5x3a": Level("connected", 0.94, 3_000_000, 5),
    "lbf/15x15-3p-5f": Level("return", 0.95, 5_000_000, 5),
    "paxmen/4ag": Level("return", 80.0, 1_500_000, 5),
    "mpe/simple_spread_v3-3ag": Level("return", -7.0, 10_000_000, 3),
    "rware/tiny-2ag": Level("return", 15.0, 10_000_000, 5),
}
"""Goals of this project, from the cheapest to the dearest."""


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for the runs, the table and the figure.
        tasks: what to train.
        objective: of all runs.
    """

    out: Path = Path("runs/levels")
    tasks: tuple[str, ...] = tuple(LEVELS)
    objective: str = "mars"

    def __post_init__(self):
        for task in self.tasks:
            check_choice("tasks", task, LEVELS)


def config_of(task: str, objective: str) -> Config:
    """The family's preset, for the level's steps and seeds."""
    level = LEVELS[task]
    seeds = tuple(range(level.seeds))
    return preset(task, objective=objective, seeds=seeds, total_steps=level.steps)


def measured(path: Path, level: Level, kind: str) -> tuple[Floats, Floats]:
    """The evaluations of one kind of a run.

    Returns:
        The steps (V,), and the level's column of each seed (S, V); NaN where one has diverged.
    """
    folder = RunFolder(path)
    rows = [row for row in folder.rows() if row["kind"] == kind]
    steps = sorted({row["step"] for row in rows})
    seeds = folder.config().seeds
    values = {(row["seed"], row["step"]): row[level.column] for row in rows}
    scores = [[values.get((seed, step), np.nan) for step in steps] for seed in seeds]
    return np.array(steps, float), np.array(scores, float)


def draw(paths: dict[str, Path], path: Path) -> None:
    """One panel per task: a line per seed, and the level."""
    figure, axes = panels(len(paths), columns=3)
    for ax, (task, run) in zip(axes, paths.items(), strict=True):
        level = LEVELS[task]
        figures.seed_curves(ax, *measured(run, level, "eval"), figures.COLORS[0])
        figures.references(ax, (level.value,))
        figures.dress(ax, task, ylabel=level.column, small=True)
    figures.save(figure, path)


def markdown(paths: dict[str, Path]) -> str:
    """Of each task the last parameters' score of every seed."""
    rows = []
    for task, path in paths.items():
        level = LEVELS[task]
        steps, scores = measured(path, level, "last")
        last = scores[:, -1]
        above = f"{np.sum(last >= level.value)} of {len(last)}"
        each = " ".join(f"{x:.3g}" for x in last)
        cells = (level.column, f"{steps[-1]:,.0f}", f"{level.value:g}", f"{last.mean():.3g}")
        rows.append((f"`{task}`", *cells, each, above))
    head = ("task", "measured", "steps", "level", "mean", "each seed", "seeds at the level")
    return table(head, rows)


def main() -> None:
    """Trains what is missing, then draws and tabulates what is there."""
    try:
        args = tyro.cli(Args, description=__doc__)
        configure_jax()
        for task in args.tasks:
            ensure_trained(config_of(task, args.objective), folder(args.out, task))
    except UserError as error:
        sys.exit(str(error))
    there = {task: folder(args.out, task) for task in LEVELS}
    paths = {task: path for task, path in there.items() if finished(path)}
    draw(paths, args.out / "levels.png")
    (args.out / "levels.md").write_text(markdown(paths))
    print(markdown(paths))


if __name__ == "__main__":
    main()
