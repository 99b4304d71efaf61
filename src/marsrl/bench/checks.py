"""What the runs of a store must have in common before they are compared, or trained further."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsrl.bench.plan import Job, differences
from marsrl.bench.progress import read_json, strays
from marsrl.bench.suite import Suite
from marsrl.errors import UserError

if TYPE_CHECKING:
    from marsrl.bench.results import RunRecord

COMPARABLE = (
    "task_settings",
    "total_steps",
    "num_evaluations",
    "eval_episodes",
    "eval_seed",
    "eval_longest",
    "eval_greedy",
)
"""What runs of a task must have in common for their scores to be comparable; in every other setting
objectives may differ, and reports say in which."""


def check_strays(suite: Suite, store: Path, jobs: Sequence[Job]) -> None:
    """Refuses a cell whose runs are all of other configurations than the suite's.

    Raises:
        UserError: there is such a cell.
    """
    begun = {job.folder.parent for job in jobs if job.folder.exists()}
    waiting = {(j.config.task, j.config.objective): j for j in jobs if j.folder.parent not in begun}
    for cell in strays(suite, store):
        for path in cell.glob("seeds-*/config.json"):
            config = read_json(path).get("config", {})
            job = waiting.get((config.get("task"), config.get("objective")))
            if job is not None:
                differ = differences(config, job.config.to_dict())
                raise UserError(
                    f"{cell} is the only folder with runs of {job.config.objective} on "
                    f"{job.config.task}, and the suite has other settings: "
                    f"{differ or 'only their id, which another version made'}"
                )


def check_version(jobs: Iterable[Job]) -> None:
    """Refuses to go on with jobs that another version of marsrl has begun.

    Raises:
        UserError: there is such a job.
    """
    ours = version("marsrl")
    for job in jobs:
        theirs = read_json(job.folder / "config.json").get("versions", {}).get("marsrl", ours)
        if theirs != ours:
            raise UserError(
                f"{job.folder} was begun by marsrl {theirs}, this is {ours}: what they train "
                "cannot be compared; install the former, or choose another --store"
            )


def check_alike(where: Path, runs: Collection[RunRecord]) -> None:
    """Refuses a task whose runs cannot be compared, and an objective that is not one thing.

    Runs of a task must agree in `COMPARABLE` and in the version of marsrl; those of one objective
    on it in every setting but seeds and devices, and wherever they are in their source.

    Args:
        where: what the error calls their place.
        runs: of any tasks.

    Raises:
        UserError: they do not.
    """
    sources: dict[str, str] = {}
    for run in runs:
        if run.source and sources.setdefault(run.objective, run.source) != run.source:
            raise UserError(
                f"{where}: {run.objective} on {run.task} was trained with another source than "
                "elsewhere: these are two objectives; train it anew with --retrain "
                f"{run.objective}"
            )
    first: dict[tuple[str, ...], RunRecord] = {}
    for run in runs:
        if not run.config:
            continue
        for cell in ((run.task, run.objective), (run.task,)):
            other = first.setdefault(cell, run)
            old, new = (_compared(x, within_objective=len(cell) > 1) for x in (other, run))
            if differ := differences(old, new):
                raise UserError(
                    f"{where}: {other.objective} and {run.objective} on {run.task} cannot be "
                    f"compared, they differ: {differ}"
                )


def _compared(run: RunRecord, within_objective: bool) -> dict[str, Any]:
    """What must be the same of two runs on a task."""
    marsrl = {"marsrl": run.versions.get("marsrl")}
    if within_objective:
        return run.config | dict.fromkeys(("seeds", "devices")) | marsrl
    return {name: run.config.get(name) for name in COMPARABLE} | marsrl
