"""What several runs on one task scored, as numbers: the content of the comparison table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsrl.report.bootstrap import bootstrap_mean_interval
from marsrl.report.runs import Run, lowest
from marsrl.report.stats import Floats, mean_present, probability_of_improvement, steps_covered

MEASURES = {
    "training_return": "training return",
    "last_evaluation": "last evaluation",
    "final_score": "final score",
}
"""The scores of a seed, and what the table calls them."""
MEANS = ("gradient/dead", "gradient/corrective", "ratio/collapsed")
"""Diagnostics that are averaged over training."""


class Score(NamedTuple):
    """One measure of one objective.

    Attributes:
        per_seed: in the order of the seeds; NaN where nothing was measured.
        mean: over the seeds; NaN, as is the interval, if a seed's value is.
        low: end of the 95 % bootstrap interval.
        high: the other end.
    """

    per_seed: tuple[float, ...]
    mean: float
    low: float
    high: float


class Row(NamedTuple):
    """What one objective scored.

    Attributes:
        objective: its name.
        diverged: the environment step at which a seed diverged, for those that did.
        scores: by the keys of `MEASURES`.
        diagnostics: the means of `MEANS`, then the smallest `ratio/min` and largest `ratio/max`.
        beaten_by_first: probability that the first objective scores higher, by the keys of
            `MEASURES`; NaN where a score is missing. Empty for the first objective itself.
    """

    objective: str
    diverged: dict[int, int]
    scores: dict[str, Score]
    diagnostics: dict[str, float]
    beaten_by_first: dict[str, float]


class Comparison(NamedTuple):
    """Several objectives on one task, with the same seeds and budget.

    Attributes:
        task: its name.
        seeds: the training seeds of every objective.
        total_steps: environment steps per seed.
        differing: settings, besides the objective, that are not the same in all runs, and their
            values in the order of the rows.
        lowest_training: the lowest training return in any row of any run.
        lowest_evaluation: the lowest return of any evaluation, final ones included. A diverged
            seed scores these.
        rows: one per objective.
    """

    task: str
    seeds: tuple[int, ...]
    total_steps: int
    differing: dict[str, tuple[object, ...]]
    lowest_training: float
    lowest_evaluation: float
    rows: tuple[Row, ...]


def summarize(runs: list[Run]) -> Comparison:
    """Scores comparable runs, the first one against each of the others."""
    config = runs[0].config
    training = lowest(*(run.train_return for run in runs))
    evaluation = lowest(*(x for run in runs for x in (run.eval_return, run.final)))
    values = [_seed_scores(run, training, evaluation) for run in runs]
    return Comparison(
        task=config.task,
        seeds=config.seeds,
        total_steps=config.total_steps,
        differing=_differing(runs),
        lowest_training=training,
        lowest_evaluation=evaluation,
        rows=tuple(
            Row(
                objective=run.config.objective,
                diverged=run.diverged_steps,
                scores={measure: _score(x) for measure, x in own.items()},
                diagnostics=_diagnostics(run),
                beaten_by_first={} if own is values[0] else _improvement(values[0], own),
            )
            for run, own in zip(runs, values, strict=True)
        ),
    )


def _seed_scores(run: Run, training: float, evaluation: float) -> dict[str, Floats]:
    """Every measure (S,), where a diverged seed has the lowest return of all."""
    last_tenth = run.train_step > 0.9 * run.train_step.max(initial=0)
    ended = np.isfinite(run.diverged)
    return {
        "training_return": np.where(
            ended, training, mean_present(run.train_return[:, last_tenth], axis=1)
        ),
        "last_evaluation": np.where(ended, evaluation, run.eval_return[:, -1]),
        "final_score": np.where(ended, evaluation, run.final),
    }


def _score(x: Floats) -> Score:
    low, high = bootstrap_mean_interval(x) if np.isfinite(x).all() else (np.nan, np.nan)
    return Score(tuple(x.tolist()), float(x.mean()), float(low), float(high))


def _improvement(first: dict[str, Floats], other: dict[str, Floats]) -> dict[str, float]:
    return {
        measure: float(probability_of_improvement(x[None], other[measure][None]))
        if np.isfinite([x, other[measure]]).all()
        else np.nan
        for measure, x in first.items()
    }


def _diagnostics(run: Run) -> dict[str, float]:
    """Means over training of each seed, then over seeds; and the extremes of the ratio."""
    weights = steps_covered(run.train_step)
    of_seeds = {key: mean_present(run.train[key], axis=1, weights=weights) for key in MEANS}
    return {key: float(mean_present(x, axis=0)) for key, x in of_seeds.items()} | {
        "ratio/min": lowest(run.train["ratio/min"]),
        "ratio/max": -lowest(-run.train["ratio/max"]),
    }


def _differing(runs: list[Run]) -> dict[str, tuple[object, ...]]:
    configs = [run.config.to_dict() for run in runs]
    values = {key: tuple(config[key] for config in configs) for key in configs[0]}
    return {
        key: value
        for key, value in values.items()
        if key not in ("objective", "devices") and any(x != value[0] for x in value)
    }
