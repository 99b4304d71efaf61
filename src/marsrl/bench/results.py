"""The results of a benchmark: its run folders as two tables and a list of runs, and their files.

`episodes.parquet`, `curves.parquet` and `runs.json` hold all that a report needs, without the run
folders.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from marsrl.bench.checks import check_alike, check_strays
from marsrl.bench.plan import Job, differences, plan, store_suite
from marsrl.bench.progress import RunStatus, read_json, seed_states
from marsrl.bench.rows import (
    CURVE_COLUMNS,
    EPISODE_COLUMNS,
    check_finite,
    curve_rows,
    curve_table,
    episode_rows,
    episode_table,
    table_of,
)
from marsrl.bench.suite import Suite
from marsrl.envs.adapters import require
from marsrl.envs.tasks import BOUNDS_VERSION
from marsrl.errors import UserError, reason
from marsrl.files import write_beside
from marsrl.runs.folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa


class RunRecord(NamedTuple):
    """One run that a suite plans: a seed of a task and objective, trained or not.

    Attributes:
        task: its name.
        objective: its name.
        run: the id of the configuration, `Config.hash`.
        seed: the seed.
        status: done, running (started and not ended), failed, diverged or missing.
        step: environment steps reached.
        diverged_step: the step at which it diverged, if it did.
        seconds: of its program, so of all seeds in it together: compile, train, evaluate.
        seeds_in_program: how many those are; 0 if missing.
        peak_memory_mb: of its process.
        config: all settings; this and the following are empty if it is missing.
        versions: of the packages.
        machine: cores, device, Python.
        git: commit and dirty flag of marsrl's source, if it ran from a checkout.
    """

    task: str
    objective: str
    run: str
    seed: int
    status: RunStatus
    step: int = 0
    diverged_step: int | None = None
    seconds: dict[str, float] = {}  # noqa: RUF012 (never changed)
    seeds_in_program: int = 0
    peak_memory_mb: float = 0.0
    config: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    versions: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    machine: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    git: dict[str, Any] | None = None


class Results(NamedTuple):
    """Everything that is known of a suite's runs.

    Attributes:
        suite: what was planned.
        runs: one for each planned run, missing ones included, by task, objective and seed.
        episodes: one row per evaluation episode: family, task, objective, run, seed, step, phase
            (`eval` during training, `final` for the best parameters again), episode, return.
        curves: one row per rows point: family, task, objective, run, seed, step, seconds (wall
            time of the program so far), phase (`train` or `eval`), return, length, entropy,
            approx_kl and `marsrl.bench.rows.DIAGNOSTICS`; null where not measured.
    """

    suite: Suite
    runs: tuple[RunRecord, ...]
    episodes: pa.Table
    curves: pa.Table


def collect(store: Path) -> Results:
    """Reads the run folders of a store; those of unfinished runs as far as they have come.

    Seeds that the suite does not have are left out.

    Raises:
        UserError: the folder is no store, a cell has runs of other configurations only, a run is
            there twice, its configuration is not that of its folder's name, runs of a task are of
            different versions of marsrl, or an evaluation is not finite.
    """
    suite = store_suite(store)
    jobs = plan(suite, store)
    check_strays(suite, store, jobs)
    records: dict[tuple[str, str, int], RunRecord] = {}
    episodes, curves = [episode_table(())], [curve_table(())]
    for job in jobs:
        for record in _records(job):
            if record.seed not in suite.seeds:
                continue
            key = (record.task, record.objective, record.seed)
            if key in records:
                raise UserError(f"{job.folder.parent} has seed {record.seed} in two folders")
            records[key] = record
        if job.folder.exists():
            rows = [row for row in RunFolder(job.folder).rows() if row["seed"] in suite.seeds]
            check_finite(job, rows)
            episodes.append(episode_table(episode_rows(job, rows)))
            curves.append(curve_table(curve_rows(job, rows)))
    planned = ((t, o, s) for t in suite.tasks for o in suite.objectives for s in suite.seeds)
    check_alike(store, records.values())
    arrow = require("pyarrow", "bench")
    return Results(
        suite,
        tuple(records[key] for key in planned),
        arrow.concat_tables(episodes),
        arrow.concat_tables(curves),
    )


def write(results: Results, folder: Path) -> None:
    """Writes the three files; a reader finds the old or the new one of each, never a part."""
    parquet = require("pyarrow.parquet", "bench")
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("episodes", results.episodes), ("curves", results.curves)):
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        write_beside(folder / f"{name}.parquet", buffer.getvalue())
    head = {"bounds_version": BOUNDS_VERSION, "suite": results.suite.to_dict()}
    runs = ",\n".join(json.dumps(record._asdict()) for record in results.runs)
    text = f'{json.dumps(head)[:-1]}, "runs": [\n{runs}\n]}}\n'  # a line for each run
    write_beside(folder / "runs.json", text.encode())


def read(folder: Path) -> Results:
    """Reads what `write` wrote.

    Raises:
        UserError: a file is missing or damaged, was written by a version with other bounds of the
            tasks' scores, or holds a task whose runs differ in settings or versions of marsrl.
    """
    path = folder / "runs.json"
    try:
        content = json.loads(path.read_text())
        version = content["bounds_version"]
        suite = Suite.from_dict(content["suite"])
        runs = tuple(RunRecord(**record) for record in content["runs"])
    except OSError as error:
        raise UserError(f"{folder} holds no results: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no list of runs: {error}") from error
    if version != BOUNDS_VERSION:
        raise UserError(
            f"{path} was written with version {version} of the bounds of scores, this marsrl has "
            f"version {BOUNDS_VERSION}; write it again from its store: marsrl bench report STORE"
        )
    check_alike(path, runs)
    episodes = _read_table(folder / "episodes.parquet", EPISODE_COLUMNS)
    return Results(suite, runs, episodes, _read_table(folder / "curves.parquet", CURVE_COLUMNS))


def _read_table(path: Path, columns: dict[str, str]) -> pa.Table:
    arrow = require("pyarrow", "bench")
    parquet = require("pyarrow.parquet", "bench")
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    if table.schema != (expected := table_of((), columns).schema):
        raise UserError(
            f"{path} has the columns {', '.join(table.schema.names)}, expected "
            f"{', '.join(expected.names)} with types {', '.join(columns.values())}"
        )
    return table


def _records(job: Job) -> Iterator[RunRecord]:
    config = job.config
    states = seed_states(job)
    known = _run_json(job)
    status = read_json(job.folder / "status.json")
    for seed, state in states.items():
        yield RunRecord(
            config.task,
            config.objective,
            config.hash,
            seed,
            *state,
            seconds=status.get("seconds", {}),
            seeds_in_program=len(config.seeds) if known else 0,
            peak_memory_mb=status.get("peak_memory_mb", 0.0),
            **known,
        )


def _run_json(job: Job) -> dict[str, Any]:
    """What the run folder says of its configuration, versions and machine; empty if nothing yet."""
    path = job.folder / "config.json"
    content = read_json(path)
    if not content:
        return {}
    if content["hash"] != job.config.hash:
        raise UserError(
            f"{path} is of the configuration {content['hash']}, not of {job.config.hash} as the "
            f"folder says: {differences(content['config'], job.config.to_dict())}"
        )
    return {key: content[key] for key in ("config", "versions", "machine", "git")}
