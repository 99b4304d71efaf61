"""Where the runs of a benchmark come from: machines, versions, commits, and what they cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
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
    """What the runs of one objective took, each with its share of its process.

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
    """The different origins of the runs that have begun, the most frequent one first.

    A run that went on elsewhere is of each of its origins.
    """
    names = ("machine", "versions", "git")
    counts = Counter(
        key
        for run in runs
        for key in dict.fromkeys(
            json.dumps([origin[name] for name in names], sort_keys=True) for origin in run.origins
        )
    )
    return tuple(Origin(*json.loads(key), runs=count) for key, count in counts.most_common())


class Mixture(NamedTuple):
    """Something that the runs of a benchmark do not share.

    Attributes:
        name: "source", or a package.
        runs: value -> how many runs have it, the most frequent first; "A, then B" is a value of
            those that went on with another one.
        tasks: those on which the objectives do not share it either.
    """

    name: str
    runs: dict[str, int]
    tasks: tuple[str, ...]


def mixtures(runs: Iterable[RunRecord]) -> tuple[Mixture, ...]:
    """In which commit of the source and which versions of packages the runs differ that have begun.

    They can be compared all the same, but a reader must know: a difference between objectives on
    one of these tasks may be one between versions. A run that went on with another one has both.
    """
    begun = [run for run in runs if run.origins]
    names = dict.fromkeys(n for run in begun for x in run.origins for n in x["versions"])
    found = [_mixture("source", lambda x: source_of(x["git"]), begun)]
    found += [_mixture(n, lambda x, n=n: str(x["versions"].get(n)), begun) for n in names]
    return tuple(mixture for mixture in found if mixture is not None)


def _mixture(
    name: str, value_of: Callable[[dict[str, Any]], str], runs: list[RunRecord]
) -> Mixture | None:
    """The mixture of what `value_of` tells of an origin; None if it is the same of all."""
    counts: Counter[str] = Counter()
    cells: dict[str, dict[str, set[str]]] = {}
    single = set[str]()
    for run in runs:
        values = dict.fromkeys(map(value_of, run.origins))
        single.update(values)
        text = ", then ".join(values)
        counts[text] += 1
        cells.setdefault(run.task, {}).setdefault(run.objective, set()).add(text)
    if len(single) < 2:
        return None
    apart = [task for task, cell in cells.items() if len(set(map(frozenset, cell.values()))) > 1]
    return Mixture(name, dict(counts.most_common()), tuple(apart))


class Extension(NamedTuple):
    """Runs that were trained further than they were to be.

    Attributes:
        task: of all of them.
        objective: likewise.
        steps: in total, as first meant, and then as each time changed.
        runs: how many.
    """

    task: str
    objective: str
    steps: tuple[int, ...]
    runs: int


def extensions(runs: Iterable[RunRecord]) -> tuple[Extension, ...]:
    """Which runs were extended: their step sizes have gone to 0 more than once."""
    counts = Counter(
        (run.task, run.objective, (run.extended[0]["from"], *(x["to"] for x in run.extended)))
        for run in runs
        if run.extended
    )
    return tuple(Extension(*what, runs=number) for what, number in counts.items())


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
            name: cost.seconds.get(name, 0.0) + seconds for name, seconds in run.own_seconds.items()
        }
        found[run.objective] = Cost(
            run.objective,
            cost.steps + run.step,
            cost.seconds | parts,
            max(cost.peak_memory_mb, run.peak_memory_mb),
        )
    return tuple(found.values())
