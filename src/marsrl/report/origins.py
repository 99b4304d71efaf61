"""Where the runs of a benchmark come from: machines, versions, commits, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from marsrl.bench.results import RunRecord


class Origin(NamedTuple):
    """A machine with its software, and how many runs it made.

    Attributes:
        machine: cores, device, Python.
        versions: of the packages.
        git: commit and dirty flag of the source; None if it was an installed package.
        runs: how many.
    """

    machine: dict[str, Any]
    versions: dict[str, Any]
    git: dict[str, Any] | None
    runs: int


class Cost(NamedTuple):
    """What the runs of one objective took, each with its share of its program.

    Attributes:
        objective: its name.
        steps: environment steps.
        seconds: of wall time, by what for: compile, train, evaluate.
        peak_memory_mb: of the largest process.
    """

    objective: str
    steps: int
    seconds: dict[str, float]
    peak_memory_mb: float


def origins(runs: Iterable[RunRecord]) -> tuple[Origin, ...]:
    """The different origins of the runs that have begun, the most frequent one first."""
    counts: dict[str, int] = {}
    for run in runs:
        if run.machine:
            key = json.dumps([run.machine, run.versions, run.git], sort_keys=True)
            counts[key] = counts.get(key, 0) + 1
    return tuple(
        Origin(*json.loads(key), runs=count)
        for key, count in sorted(counts.items(), key=lambda item: -item[1])
    )


def costs(runs: Iterable[RunRecord]) -> tuple[Cost, ...]:
    """What each objective took, in the order of the runs."""
    found: dict[str, Cost] = {}
    for run in runs:
        cost = found.get(run.objective, Cost(run.objective, 0, {}, 0.0))
        parts = {
            name: cost.seconds.get(name, 0.0) + seconds / run.seeds_in_program
            for name, seconds in run.seconds.items()
            if run.seeds_in_program
        }
        found[run.objective] = Cost(
            run.objective,
            cost.steps + run.step,
            cost.seconds | parts,
            max(cost.peak_memory_mb, run.peak_memory_mb),
        )
    return tuple(found.values())
