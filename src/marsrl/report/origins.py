"""Where the runs of a benchmark come from: machines, versions, commits, and what they cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from marsrl.bench.records import RunRecord


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


class Mixture(NamedTuple):
    """Something that the runs of a benchmark do not share.

    Attributes:
        name: "source", or a package.
        runs: value -> how many runs have it, the most frequent first.
        tasks: those on which the objectives do not share it either.
    """

    name: str
    runs: dict[str, int]
    tasks: tuple[str, ...]


def mixtures(runs: Iterable[RunRecord]) -> tuple[Mixture, ...]:
    """In which commit of the source and which versions of packages the runs differ that have begun.

    They can be compared all the same, but a reader must know: a difference between objectives on
    one of these tasks may be one between versions.
    """
    begun = [run for run in runs if run.machine]
    names = dict.fromkeys(name for run in begun for name in run.versions)
    found = [_mixture("source", {id(run): source_of(run.git) for run in begun}, begun)]
    found += [_mixture(n, {id(r): f"{r.versions.get(n)}" for r in begun}, begun) for n in names]
    return tuple(mixture for mixture in found if len(mixture.runs) > 1)


def _mixture(name: str, values: dict[int, str], runs: list[RunRecord]) -> Mixture:
    counts = Counter(values[id(run)] for run in runs)
    cells: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        of_task = cells.setdefault(run.task, {})
        of_task.setdefault(run.objective, set()).add(values[id(run)])
    apart = [task for task, cell in cells.items() if len(set(map(frozenset, cell.values()))) > 1]
    return Mixture(name, dict(counts.most_common()), tuple(apart))


def source_of(git: dict[str, Any] | None) -> str:
    """The commit, and whether it is all of the source."""
    if git is None:
        return "installed package"
    return f"commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}"


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
