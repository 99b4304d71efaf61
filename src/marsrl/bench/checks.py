"""What the runs of a store must have in common before they are compared, or trained further."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from marsrl.bench.plan import Job, differences
from marsrl.bench.progress import unplanned
from marsrl.bench.records import RunRecord
from marsrl.bench.suite import COMPARABLE, Suite
from marsrl.errors import UserError
from marsrl.runs.folder import CONFIG
from marsrl.runs.machine import CODE, DECISIVE
from marsrl.runs.records import read_or_empty


def check_unplanned(suite: Suite, store: Path, jobs: Sequence[Job]) -> None:
    """Refuses a cell whose runs are all of other configurations than the suite's.

    Raises:
        UserError: there is such a cell.
    """
    begun = {job.folder.parent for job in jobs if job.folder.exists()}
    waiting = {_method(j.folder.parent): j for j in jobs if j.folder.parent not in begun}
    for cell in unplanned(suite, store):
        job = waiting.get(_method(cell))
        if job is None:
            continue
        for path in cell.glob(f"seeds-*/{CONFIG}"):
            theirs = read_or_empty(path).get("config")
            differ = differences(theirs if isinstance(theirs, dict) else {}, job.config.to_dict())
            raise UserError(
                f"{cell} is the only folder with runs of {job.label} on {job.config.task}, and the "
                f"suite has other settings: {differ or 'only their id, which another version made'}"
            )


def check_version(jobs: Iterable[Job]) -> None:
    """Refuses to go on with jobs that another version of marsrl has begun.

    Raises:
        UserError: there is such a job.
    """
    ours = version("marsrl")
    for job in jobs:
        versions = read_or_empty(job.folder / CONFIG).get("versions")
        theirs = versions.get("marsrl", ours) if isinstance(versions, dict) else ours
        if theirs != ours:
            raise UserError(
                f"{job.folder} was begun by marsrl {theirs}, this is {ours}: what they train "
                "cannot be compared; install the former, or choose another folder"
            )


def check_same_code(jobs: Iterable[Job], ours: dict[str, str | None]) -> None:
    """Refuses to train beside runs of other code, or of other versions of what decides numbers.

    Commits that leave marsrl's code as it is do not count, nor do comments.

    Args:
        jobs: of the store; those that have not begun do not count either.
        ours: the versions that would train here.

    Raises:
        UserError: there is such a run.
    """
    others: dict[Job, None] = {}
    differ: dict[str, str] = {}
    for job in jobs:
        for theirs in _versions(job):
            for name in DECISIVE:
                old, new = theirs.get(name), ours[name]
                # a package that one of them lacks, no run there has used
                if old != new and (name == CODE or None not in (old, new)):
                    differ.setdefault(name, f"{name} {old or 'unknown'}, here {new}")
                    others[job] = None
    if others:
        first = next(iter(others)).name
        raise UserError(
            f"{len(others)} of the store's jobs, such as {first}, were begun with other code: "
            f"{'; '.join(differ.values())}; go on with theirs, choose another folder, or mix them "
            "with --mixed, which status and report will say"
        )


def _versions(job: Job) -> list[dict[str, Any]]:
    """The versions with which a job was begun, and those with which it went on."""
    content = read_or_empty(job.folder / CONFIG)
    later = content.get("resumed", [])
    noted = [content, *(later if isinstance(later, list) else ())]
    found = [note.get("versions") for note in noted if isinstance(note, dict)]
    return [versions for versions in found if isinstance(versions, dict)]


def check_alike(where: Path, runs: Collection[RunRecord]) -> None:
    """Refuses a task whose runs cannot be compared, and an objective that is not one thing.

    Runs of a task must agree in `COMPARABLE` and in the version of marsrl; those of one objective
    on it in every setting that numbers depend on. Objectives, tasks and networks of somebody's own
    must be of one source each wherever they are, as far as it is known.

    Args:
        where: what the error calls their place.
        runs: of any tasks.

    Raises:
        UserError: they do not.
    """
    sources: dict[tuple[str, str], str] = {}
    for run in runs:
        for (kind, name), digest in run.own_sources.items():
            if sources.setdefault((kind, name), digest) != digest:
                on = "" if kind == "task" else f" on {run.task}"
                raise UserError(
                    f"{where}: {name}{on} was trained with another source than elsewhere: "
                    f"these are two {kind}s; train it anew, in a store with --retrain {name}"
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
        return run.config | marsrl
    return {name: run.config.get(name) for name in COMPARABLE} | marsrl


def _method(cell: Path) -> Path:
    """The folder of a cell without its id: task and label."""
    return cell.with_name(cell.name.rpartition("-")[0])
