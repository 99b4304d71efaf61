"""How the score answers to the size of the trust region: as it was set, and as it was measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from marsrl.bench.records import Results
from marsrl.report.bootstrap import Estimate
from marsrl.report.diagnostics import of_training
from marsrl.report.grids import Grid, read_traces
from marsrl.report.settings import REGION, Setting, base_objective
from marsrl.report.stats import Floats

MEASURES = ("update_kl", "approx_kl")
"""What a divergence was measured by, the better one first."""


class Point(NamedTuple):
    """What one label reached on some tasks.

    Attributes:
        label: its name.
        eps: the size of its region; None if it is not the same on all tasks, or over training,
            as where it is steered to a KL.
        kl: what an update moved the policy by, in nats: the geometric mean over tasks of the mean
            over training and seeds; NaN if it was not measured on one of them, as where every
            seed diverged in its first update.
        score: the mean over families with its interval.
    """

    label: str
    eps: float | None
    kl: float
    score: Estimate


class Response(NamedTuple):
    """The labels on some tasks, those of one objective that differ in their region as one line.

    Attributes:
        name: "overall" or a family.
        tasks: which.
        measure: of the divergence, of `MEASURES`; None if it was not measured.
        lines: each by ascending eps, or divergence.
    """

    name: str
    tasks: tuple[str, ...]
    measure: str | None
    lines: tuple[tuple[Point, ...], ...]

    @property
    def sweeps(self) -> bool:
        """Whether the labels of one line differ in eps."""
        return any(len({p.eps for p in line if p.eps is not None}) > 1 for line in self.lines)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """The labels whose divergence was not measured."""
        return tuple(p.label for line in self.lines for p in line if np.isnan(p.kl))


def mean_divergence(
    results: Results, grid: Grid, objectives: tuple[str, ...], tasks: tuple[str, ...]
) -> tuple[str | None, Floats]:
    """The measure that most of them logged, and its means (O, T) over training and seeds.

    NaN where it was not measured; None if none was anywhere.
    """
    traces = read_traces(results, "train", MEASURES)
    means = {
        measure: np.array(
            [
                [of_training(grid, traces[task], name, measure) for task in tasks]
                for name in objectives
            ]
        )
        for measure in MEASURES
    }
    known = {measure: int(np.isfinite(found).sum()) for measure, found in means.items()}
    best = max(MEASURES, key=lambda measure: known[measure])  # the first of equals
    return (best if known[best] else None), means[best]


def respond(
    results: Results,
    name: str,
    tasks: tuple[str, ...],
    settings: tuple[Setting, ...],
    scores: dict[str, Estimate],
    measure: str | None,
    kl: Floats,
) -> Response:
    """Puts labels of one objective that differ in nothing but their region on one line.

    Args:
        results: of the labels.
        name: of the group of tasks.
        tasks: T of them.
        settings: all of the runs.
        scores: of the labels, O of them.
        measure: of the divergence.
        kl: (O, T) means.
    """
    by_name = {setting.name: setting for setting in settings}
    shared = _begun_by_all(settings, tuple(scores))
    lines: dict[str, list[Point]] = {}
    for label, score, row in zip(scores, scores.values(), kl, strict=True):
        fixed = [
            (x.name, [x.values[label].get(task) for task in shared])
            for x in settings
            if x.differs and x.name not in REGION
        ]
        points = lines.setdefault(f"{base_objective(results.runs, label)} {fixed}", [])
        mean = float(np.exp(np.log(np.maximum(row, 1e-12)).mean()))
        points.append(Point(label, _size(by_name, label, tasks), mean, score))
    ordered = (
        sorted(points, key=lambda p: (p.eps or 0.0, np.isnan(p.kl), p.kl))
        for points in lines.values()
    )
    return Response(name, tasks, measure, tuple(map(tuple, ordered)))


def _begun_by_all(settings: tuple[Setting, ...], labels: tuple[str, ...]) -> list[str]:
    """The tasks that all labels have settings on: one that is ahead is not thereby another."""
    begun = [found for label in labels for x in settings[:1] if (found := set(x.values[label]))]
    return sorted(set.intersection(*begun)) if begun else []


def _size(settings: dict[str, Setting], label: str, tasks: tuple[str, ...]) -> float | None:
    """The eps of a label, if it is one number."""
    if "eps" not in settings:
        return None
    eps = settings["eps"].value(label, tasks)
    moving = [settings[name].values[label] for name in ("eps_end", "target_kl") if name in settings]
    moves = any(of.get(task) is not None for of in moving for task in tasks)
    return float(eps) if isinstance(eps, int | float) and not moves else None
