"""A run folder, read into arrays with one row per seed, and checked to be complete."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from marsrl.bench.damage import check_run_sound
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.files import path_of
from marsrl.report.stats import Floats, lowest
from marsrl.runs.folder import RunFolder
from marsrl.runs.records import Row


class Run(NamedTuple):
    """The measurements of one run: S seeds, T training rows and V evaluations of each.

    Attributes:
        path: the run folder.
        config: what was run.
        finished: True once every seed has finished or diverged.
        diverged: (S,) the environment step at which a seed diverged; infinite if it did not.
        train_step: (T,) environment steps.
        train_return: (S, T) mean return of the episodes that ended; NaN where none did, and from
            the step on at which a seed diverged.
        eval_step: (V,) environment steps.
        eval_return: (S, V); NaN from the step on at which a seed diverged.
    """

    path: Path
    config: Config
    finished: bool
    diverged: Floats
    train_step: Floats
    train_return: Floats
    eval_step: Floats
    eval_return: Floats

    @property
    def diverged_steps(self) -> dict[int, int]:
        """The step of each seed that diverged."""
        pairs = zip(self.config.seeds, self.diverged, strict=True)
        return {seed: int(step) for seed, step in pairs if math.isfinite(step)}


def read_run(path: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        UserError: it is none, a file is damaged, or a seed lacks a row that the other seeds have.
    """
    path = path_of(path, "path")
    folder = RunFolder.open(path)
    config = folder.config().settled()
    check_run_sound(path, config.seeds)
    states = folder.status()["seeds"]
    for seed in config.seeds:
        if str(seed) not in states:
            raise UserError(f"{path / 'status.json'} has nothing of seed {seed}")
    of_seeds = [states[str(seed)] for seed in config.seeds]
    diverged = np.array(
        [state["step"] if state["status"] == "diverged" else math.inf for state in of_seeds]
    )
    rows: dict[str, list[Row]] = {"train": [], "eval": []}
    for row in folder.rows():
        if row["kind"] in rows:
            rows[row["kind"]].append(row)
    for kind in rows:
        # a run whose seeds all diverge at once has nothing but the evaluation before training
        if not rows[kind] and (kind == "eval" or np.isinf(diverged).any()):
            raise UserError(f"{folder.log.path} has no rows of kind {kind!r}")
    train_step, train_return = _grid(path, rows["train"], "episode/return", config.seeds, diverged)
    eval_step, eval_return = _grid(path, rows["eval"], "return", config.seeds, diverged)
    unmeasured = np.isnan(eval_return) & (eval_step < diverged[:, None])
    for seed, step in np.argwhere(unmeasured):
        raise UserError(
            f"{path}: the evaluation of seed {config.seeds[seed]} at step {eval_step[step]:.0f} "
            "has no finite return"
        )
    return Run(
        path=path,
        config=config,
        finished={state["status"] for state in of_seeds} <= {"finished", "diverged"},
        diverged=diverged,
        train_step=train_step,
        train_return=train_return,
        eval_step=eval_step,
        eval_return=eval_return,
    )


def lowest_once_diverged(run: Run, step: Floats, values: Floats) -> Floats:
    """Lets a diverged seed count as the lowest value from its divergence on; nothing is dropped.

    Args:
        run: knows who diverged, and when.
        step: (T,) environment steps.
        values: (S, T).
    """
    return np.where(step >= run.diverged[:, None], lowest(values), values)


def _grid(
    path: Path, rows: Sequence[Row], key: str, seeds: tuple[int, ...], diverged: Floats
) -> tuple[Floats, Floats]:
    """The logged steps (T,), and a key's values at them (S, T)."""
    found = {(row["seed"], row["step"]): row[key] for row in rows}
    steps = sorted({step for _, step in found})
    values = np.full((len(seeds), len(steps)), np.nan)
    for i, (seed, end) in enumerate(zip(seeds, diverged, strict=True)):
        for t, step in enumerate(steps):
            if step < end:
                if (seed, step) not in found:
                    raise UserError(f"{path}: seed {seed} has no row at step {step}, others have")
                value = found[seed, step]
                values[i, t] = np.nan if value is None else value
    return np.array(steps, np.float64), values
