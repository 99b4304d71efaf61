"""Published results as run folders again, so that a store goes on from them.

Tables hold no parameters: the folders have neither checkpoints nor what the tables leave out, but
whatever reads the results of a store, and `bench run`, finds in them what it looks for.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from marsrl.bench.checks import check_alike
from marsrl.bench.launch import is_taken
from marsrl.bench.locks import FileLock
from marsrl.bench.plan import Job, adopt, differences, job_of, plan, rival_locks
from marsrl.bench.records import Results, RunRecord
from marsrl.bench.results import run_records
from marsrl.bench.rows import folder_rows
from marsrl.bench.sources import write_note
from marsrl.bench.suite import Suite
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.extras import require
from marsrl.files import path_of
from marsrl.runs.folder import RunFolder
from marsrl.runs.lock import HeldError
from marsrl.runs.sources import NAMED

if TYPE_CHECKING:
    import pyarrow as pa

_STATUS = {"done": {"status": "finished"}, "diverged": {"status": "diverged"}}


class Restored(NamedTuple):
    """What became of the jobs of published results.

    Attributes:
        written: jobs that the store has now.
        kept: jobs of which it had a seed already; they are as they were.
        unfinished: how many other runs the results have not, or not to their end.
    """

    written: list[Job]
    kept: list[Job]
    unfinished: int


def restore(results: Results, store: str | Path) -> Restored:
    """Writes a run folder for each job of which every seed has ended.

    Args:
        results: of a suite, as `marsrl.bench.results.read` gives them.
        store: a new one, or one whose suite agrees in the settings of what it has begun.

    Raises:
        UserError: the runs have no configuration (marl-eval's have none), theirs is not what this
            version of marsrl makes of the suite, or the store has begun a cell with other settings.
    """
    store = path_of(store, "store")
    programs = _programs(results)
    adopt(results.suite, store, partial(_check, results, store))
    written, kept = [], []
    for config, records in programs:
        job = job_of(store, records[0].objective, config)
        (written if _write(job, records, results) else kept).append(job)
    ended = sum(len(records) for _, records in programs)
    return Restored(written, kept, len(results.runs) - ended)


def _check(results: Results, store: Path, suite: Suite) -> None:
    """Refuses results that could not be compared with what the store has."""
    theirs = (run for job in plan(suite, store) for run in run_records(job))
    check_alike(store, [*theirs, *results.runs])


def _programs(results: Results) -> list[tuple[Config, list[RunRecord]]]:
    """The programs of which all seeds that the suite has are there and have ended, with their runs.

    What trained more seeds than the suite has was cut to it when the results were collected.
    """
    programs: dict[tuple[str, str, tuple[int, ...]], list[RunRecord]] = {}
    for run in results.runs:
        if run.status in ("done", "diverged"):
            if "seeds" not in run.config:
                raise UserError(
                    f"{run.objective} on {run.task} has no configuration, so nothing can go on "
                    "from it: expected results that `marsrl bench report` wrote of a store"
                )
            seeds = tuple(x for x in run.config["seeds"] if x in results.suite.seeds)
            key = run.task, run.objective, seeds
            programs.setdefault(key, []).append(run)
    return [
        (dataclasses.replace(_planned(results, runs[0]), seeds=seeds), runs)
        for (*_, seeds), runs in programs.items()
        if len(runs) == len(seeds)
    ]


def _planned(results: Results, run: RunRecord) -> Config:
    """The configuration that a store would plan for a run, which must be the run's."""
    config = results.suite.config(run.task, run.objective)
    # not by their ids: versions differ in what they count to them
    if differ := differences(run.config, config.to_dict()):
        raise UserError(
            f"{run.objective} on {run.task} was trained with other settings than this version of "
            f"marsrl gives it in {results.suite.name}: {differ}"
        )
    return config


def _write(job: Job, records: Sequence[RunRecord], results: Results) -> bool:
    """Writes a job's run folder, unless the store has begun one with a seed of it."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.lock)
    try:
        lock.take()
    except HeldError:  # somebody trains it
        return False
    try:
        if job.folder.exists() or any(map(is_taken, rival_locks(job))):
            return False
        beside = job.folder.with_name(f".{job.folder.name}")
        shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed here
        first = records[0]
        share = len(job.config.seeds) / len(first.config["seeds"])  # of what was cut to a suite
        names = ("versions", "git", "machine", "resumed", "extended")
        RunFolder.create(beside, job.config, {name: getattr(first, name) for name in names})
        folder = RunFolder(beside)
        folder.append(folder_rows(*(_of(job, t) for t in (results.episodes, results.curves))))
        folder.write_status(
            "finished" if any(run.status == "done" for run in records) else "diverged",
            max(run.step for run in records),
            {str(run.seed): _STATUS[run.status] | {"step": run.step} for run in records},
            seconds={name: x * share for name, x in first.seconds.items()},
            seeds_in_program=first.seeds_in_program,
            peak_memory_mb=first.peak_memory_mb,
        )
        digests = first.source, first.task_source, first.network_source
        write_note(job, dict(zip(NAMED, digests, strict=True)))
        beside.rename(job.folder)
        job.failure.unlink(missing_ok=True)
        return True
    finally:
        lock.release()


def _of(job: Job, table: pa.Table) -> pa.Table:
    """The rows of a job."""
    field = require("pyarrow.compute", "bench").field
    config = job.config
    mine = (field("task") == config.task) & (field("objective") == job.label)
    return table.filter(mine & field("seed").isin(config.seeds))
