"""Whether an objective, a task or a network of a user's own is still the one that a job has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from marsrl.bench.locks import FileLock
from marsrl.bench.plan import Job
from marsrl.errors import UserError
from marsrl.files import numbered, write_beside
from marsrl.runs.sources import NAMED, names_of, own_sources, source_digest

_NOTHING = "-"


def check_sources(jobs: Iterable[Job], folder: Path) -> None:
    """Refuses jobs whose objective, task or network has changed since they were begun.

    Args:
        jobs: also those that have ended: what is trained beside them is compared with them.
        folder: where the user's modules are.

    Raises:
        UserError: there is such a job.
    """
    for job in jobs:
        for kind, name in changed(job, folder).items():
            raise UserError(
                f"{name} has changed since {job.name} was begun: what the store has of it is of "
                f"another {kind}; train it anew with --retrain {name}, or give it another name"
            )


def changed(job: Job, folder: Path) -> dict[str, str]:
    """Which of a job's objective, task and network were others when it was begun: kind -> name."""
    before = recorded(job) if job.folder.exists() else {}
    return {
        kind: name
        for kind, name in names_of(job.config).items()
        if before.get(kind) and source_digest(name, folder) not in (None, before[kind])
    }


def recorded(job: Job) -> dict[str, str | None]:
    """The digests that were noted when a job was begun, by kind; older notes have not all."""
    try:
        words = job.source.read_text().split()
    except (OSError, UnicodeError):
        words = []
    digests = [word if word.isalnum() else None for word in words[: len(NAMED)]]
    return dict(zip_longest(NAMED, digests))


def note_source(job: Job, folder: Path) -> None:
    """Notes the digests of the objective, task and network of a job that is about to begin."""
    if not job.folder.exists():
        write_note(job, own_sources(job.config, folder))


def write_note(job: Job, digests: Mapping[str, str | None]) -> None:
    """The inverse of `recorded`; nothing is written where there is no digest."""
    if any(digests.values()):
        text = " ".join(digests.get(kind) or _NOTHING for kind in NAMED)
        write_beside(job.source, f"{text}\n".encode())


def is_outdated(job: Job, folder: Path, name: str) -> bool:
    """Whether a job has begun and is to be trained anew if this name is named for it.

    What comes with marsrl is always, a user's own only if the job's has changed: the same call
    again, after an interruption, leaves alone what was trained since.

    Args:
        job: the job.
        folder: where the user's modules are.
        name: its objective, task or network.
    """
    before = {recorded(job)[kind] for kind, known in names_of(job.config).items() if known == name}
    return job.folder.exists() and source_digest(name, folder) not in before - {None}


def set_aside(job: Job, folder: Path, name: str) -> bool:
    """Renames the folder of a job, so that it is trained anew; False if there is nothing to do.

    Args:
        job: the job.
        folder: where the user's modules are.
        name: its objective, task or network, on whose account this is done.

    Raises:
        UserError: somebody trains it.
    """
    if not is_outdated(job, folder, name):
        return False
    with FileLock(job.lock):
        job.folder.rename(numbered(job.folder.with_name(f"{job.folder.name}.retired")))
        for path in (job.source, job.failure):
            path.unlink(missing_ok=True)
    return True
