"""What the runs of a trial have come to, as their files tell; also while they train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from marsrl.config import Config
from marsrl.envs.tasks import Bounds
from marsrl.report.stats import mean_present, steps_covered
from marsrl.runs.folder import METRICS, STATUS
from marsrl.runs.log import Log
from marsrl.runs.records import Row, read_or_empty

WORST = -math.inf
"""The score of a trial that failed or diverged."""

Score = Literal["last", "auc", "best"]


class Measured(NamedTuple):
    """The measurements of one run so far.

    Attributes:
        evaluations: the score of each evaluation after the one before training, as far as all
            seeds have it: the mean over seeds; the worst where a return is not finite.
        diverged: whether a seed has.
        kl: mean divergence of an update, over the steps of training and then over seeds; NaN if not
            measured.
        seconds: that the run has taken.
    """

    evaluations: tuple[float, ...] = ()
    diverged: bool = False
    kl: float = math.nan
    seconds: float = 0.0


def measure(folder: Path, config: Config, bounds: Bounds | None) -> Measured:
    """Reads a run folder; what is not there yet is not measured.

    Args:
        folder: of the run.
        config: of the run, for its seeds.
        bounds: of its task's scores; default: scores are returns.
    """
    rows = list(Log(folder / METRICS).rows())
    status = read_or_empty(folder / STATUS)
    seeds, seconds = status.get("seeds", {}), status.get("seconds", {})
    return Measured(
        _evaluations(rows, config.seeds, bounds),
        any(seed.get("status") == "diverged" for seed in seeds.values()),
        _kl(rows),
        sum(seconds.values()),
    )


def num_steps(config: Config) -> int:
    """How many evaluations a whole run has after the one before training."""
    return min(config.num_evaluations, config.num_updates)


def combine(evaluations: Sequence[float], kind: Score) -> float:
    """The score of evaluations so far: the last one, their mean, or the best of them."""
    if not evaluations:
        return WORST
    if kind == "auc":
        return sum(evaluations) / len(evaluations)
    return evaluations[-1] if kind == "last" else max(evaluations)


def _evaluations(
    rows: list[Row], seeds: tuple[int, ...], bounds: Bounds | None
) -> tuple[float, ...]:
    by_step: dict[int, dict[int, float]] = {}
    for row in rows:
        if row["kind"] == "eval" and row["step"] > 0:
            value = row.get("return")
            by_step.setdefault(row["step"], {})[row["seed"]] = WORST if value is None else value
    complete = [values for _, values in sorted(by_step.items()) if set(values) == set(seeds)]
    low, high = bounds or Bounds(0.0, 1.0)
    return tuple((sum(values.values()) / len(values) - low) / (high - low) for values in complete)


def _kl(rows: list[Row]) -> float:
    """Of the policy over whole updates where that is logged, else as the minibatches saw it.

    The mean over each seed's steps, then over seeds, as in reports: rows are not evenly spaced.
    """
    train: dict[int, list[Row]] = {}
    for row in rows:
        if row["kind"] == "train":
            train.setdefault(row["seed"], []).append(row)
    for name in ("update_kl", "approx_kl"):
        means = np.array([_mean_over_steps(of_seed, name) for of_seed in train.values()])
        if np.isfinite(means).any():
            return float(mean_present(means, axis=0))
    return math.nan


def _mean_over_steps(rows: list[Row], name: str) -> float:
    rows = sorted(rows, key=lambda row: row["step"])
    covered = steps_covered(np.array([row["step"] for row in rows], np.float64), np.True_)
    values = [math.nan if row.get(name) is None else row[name] for row in rows]
    return float(mean_present(np.array(values, np.float64), axis=0, weights=covered))
