"""Whether an objective, or a task, of a user's own is still the one that was trained.

That is told by a digest of its source; nothing is imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from marsrl.bench.locks import FileLock
from marsrl.bench.plan import Job
from marsrl.digest import code_digest
from marsrl.envs.tasks import ENTRY_POINTS, TASKS
from marsrl.errors import UserError
from marsrl.files import write_beside

_NOTHING = "-"


def source_digest(name: str, folder: Path) -> str | None:
    """Twelve hex digits of the file of an objective or a task, and of those that it imports beside.

    Args:
        name: of the objective or the task.
        folder: where the user's modules are.

    Returns:
        None for what comes with marsrl, whose own digest tells it, or with JaxMARL, whose version
        does; and where there is no file.
    """
    module = _module_of(name)
    return code_digest(module, folder) if module else None


def check_sources(jobs: Iterable[Job], folder: Path) -> None:
    """Refuses to go on with jobs whose objective or task has changed since they were begun.

    Raises:
        UserError: there is such a job.
    """
    for job in jobs:
        for name in changed(job, folder):
            raise UserError(
                f"{name} has changed since {job.name} was begun: what the store has of it is of "
                f"another {'task' if name == job.config.task else 'objective'}; train it anew with "
                f"--retrain {name}, or give it another name"
            )


def changed(job: Job, folder: Path) -> list[str]:
    """Which of a job's objective and task were others when it was begun."""
    before, now = _recorded(job), _digests(job, folder)
    return [
        name
        for name in before
        if job.folder.exists() and None not in (before[name], now[name])
        if before[name] != now[name]
    ]


def recorded(job: Job) -> str | None:
    """The digest of the objective that was noted when a job was begun."""
    return _recorded(job)[job.config.objective]


def note_source(job: Job, folder: Path) -> None:
    """Notes the digests of the objective and the task of a job that is about to begin."""
    digests = _digests(job, folder).values()
    if not job.folder.exists() and any(digests):
        text = " ".join(digest or _NOTHING for digest in digests)
        write_beside(job.source, f"{text}\n".encode())


def set_aside(job: Job, folder: Path, name: str) -> bool:
    """Renames the folder of a job, so that it is trained anew; False if there is nothing to do.

    Done for what comes with marsrl always, for a user's own only if the job's has changed: the same
    call again, after an interruption, leaves alone what was trained since.

    Args:
        job: the job.
        folder: where the user's modules are.
        name: its objective or task, on whose account this is done.

    Raises:
        UserError: somebody trains it.
    """
    unchanged = source_digest(name, folder) == _recorded(job)[name] is not None
    if unchanged or not job.folder.exists():
        return False
    lock = FileLock(job.lock)
    lock.take()
    try:
        number = 1
        while (aside := job.folder.with_name(f"{job.folder.name}.retired-{number}")).exists():
            number += 1
        job.folder.rename(aside)
        for path in (job.source, job.failure):
            path.unlink(missing_ok=True)
    finally:
        lock.release()
    return True


def _digests(job: Job, folder: Path) -> dict[str, str | None]:
    return {name: source_digest(name, folder) for name in (job.config.objective, job.config.task)}


def _recorded(job: Job) -> dict[str, str | None]:
    """The digests of objective and task as they were noted; older notes have the first alone."""
    try:
        words = job.source.read_text().split()
    except (OSError, UnicodeError):
        words = []
    digests = [word if word.isalnum() else None for word in words[:2]]
    digests += [None] * (2 - len(digests))
    return dict(zip((job.config.objective, job.config.task), digests, strict=True))


def _module_of(name: str) -> str:
    """The module, or file, of an own objective or task; empty if it comes with a library."""
    module, colon, _ = name.rpartition(":")
    if colon:
        return "" if module == "jaxmarl" else module
    if "/" not in name or name in TASKS:
        return ""
    points = entry_points(group=ENTRY_POINTS, name=name)
    return next((point.value.partition(":")[0] for point in points), "")
