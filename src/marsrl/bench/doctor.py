"""What is wrong with a store, and what can be made right again: `marsrl doctor STORE`.

Nothing is deleted that is not made anew from something else, but for what an interruption left
unfinished.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from marsrl.bench.damage import faults
from marsrl.bench.locks import store_lock
from marsrl.bench.plan import Job, plan, store_suite, write_suite
from marsrl.bench.results import collect, read, write
from marsrl.errors import UserError
from marsrl.files import TEMPORARY, remove, unused, write_beside
from marsrl.runs.folder import METRICS, RunFolder
from marsrl.runs.lock import is_held
from marsrl.runs.records import DamagedError, Row, to_line

if TYPE_CHECKING:
    from marsrl.runs.doctor import Finding

_ABANDONED = 3600.0  # seconds after which nobody is still writing a file
_TIMES = ("seconds", "steps_per_second")


def is_store(path: Path) -> bool:
    """Whether a folder is, or was, a store."""
    return any((path / name).exists() for name in ("suite.toml", "runs"))


def find_faults(store: Path) -> list[Finding]:
    """Everything that is wrong with a store; nothing is changed.

    A job that is being trained is left out.

    Raises:
        UserError: it is no store.
    """
    if not is_store(store):
        raise UserError(f"{store} is no store: it has no suite.toml")
    try:
        jobs = plan(store_suite(store), store)
    except UserError as error:
        return [_suite_fault(store, error), *_leftovers(store)]
    found = [fault for job in jobs if not is_held(job.lock) for fault in _job_faults(job)]
    return [*found, *_table_faults(store, sound=not found), *_leftovers(store)]


def repair(store: Path) -> tuple[list[Finding], list[Finding]]:
    """Mends what can be mended, and returns that, and what is left.

    Raises:
        UserError: it is no store, or others change its suite.
    """
    mended: list[Finding] = []
    with store_lock(store):
        for _ in range(3):  # a store whose suite is back has jobs, and then tables
            found = [finding for finding in find_faults(store) if finding.mend]
            if not found:
                break
            for finding in found:
                if finding.mend:
                    finding.mend()
                    mended.append(finding)
    return mended, find_faults(store)


def _suite_fault(store: Path, error: UserError) -> Finding:
    from marsrl.runs.doctor import Finding

    path = store / "suite.toml"
    try:
        suite = read(store).suite
    except UserError:
        remedy = "run the suite again on this store: marsrl bench run SUITE --store STORE"
        return Finding(str(error), f"move {path} away, then {remedy}")

    def mend() -> None:
        if path.is_file():
            path.replace(unused(store / "suite.toml.damaged"))
        write_suite(suite, store)

    return Finding(str(error), f"writes {path} anew from runs.json", mend)


def _job_faults(job: Job) -> list[Finding]:
    """What is wrong with a run folder: in itself, else with what the suite expects of it."""
    from marsrl.runs import doctor

    if not job.folder.is_dir() or not doctor.is_run(job.folder):
        anew = f"move {job.folder} away; bench run trains it anew"
        return [doctor.Finding(fault, anew) for fault in faults(job)]
    if twins := _twins(job):
        return [twins]
    try:
        found = doctor.examine(job.folder, usable=False)
    except UserError:  # somebody writes it
        return []
    anew = f"if nothing else helps, move {job.folder} away; bench run trains it anew"
    return found or [doctor.Finding(fault, anew) for fault in faults(job)]


def _twins(job: Job) -> Finding | None:
    """Rows that an interruption of an older version wrote twice, if they are alike."""
    from marsrl.runs.doctor import Finding

    folder = RunFolder(job.folder)
    try:
        rows = list(folder.rows())
    except DamagedError:
        return None
    first: dict[tuple[object, ...], Row] = {}
    for row in rows:
        other = first.setdefault((row["kind"], row["seed"], row["step"]), row)
        if _untimed(other) != _untimed(row):
            return None
    if len(first) == len(rows) or folder.log.damaged():
        return None

    aside = unused(job.folder / f"{METRICS}.damaged")

    def mend() -> None:
        write_beside(aside, folder.log.content())
        folder.replace_log(b"".join(map(to_line, first.values())))

    count = len(rows) - len(first)
    text = f"{folder.log.path} has {count} row(s) twice, alike but for times"
    remedy = f"keeps the first of each; the file as it is becomes {aside.name}"
    return Finding(text, remedy, mend)


def _untimed(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in _TIMES}


def _table_faults(store: Path, sound: bool) -> Iterator[Finding]:
    """Faults of the tables, which are made anew of sound run folders."""
    from marsrl.runs.doctor import Finding

    if sound:
        try:
            collect(store)
        except UserError as error:
            text = str(error).partition("; see what")[0]
            yield Finding(text, "nothing can: this is for you to settle")
            return
    if (store / "runs.json").exists():
        try:
            read(store)
        except UserError as error:
            mend = (lambda: write(collect(store), store)) if sound else None
            yield Finding(str(error), "writes the tables anew from the runs", mend)


def _leftovers(store: Path) -> Iterator[Finding]:
    """Unfinished files that are too old for anybody to be still writing them."""
    from marsrl.runs.doctor import Finding

    places = [store, *store.glob("runs/*/*"), *store.glob("runs/*/*/seeds-*")]
    now = time.time()
    for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
        unfinished = path.name.endswith(TEMPORARY) or path.name.startswith(".seeds-")
        if unfinished and now - path.lstat().st_mtime > _ABANDONED:
            text = f"{path} was left unfinished by an interruption"
            yield Finding(text, "deletes it", lambda path=path: remove(path))
