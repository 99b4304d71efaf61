"""The results of a benchmark: its run folders as two tables and a list of runs, and their files.

`episodes.parquet`, `curves.parquet` and `runs.json` hold all that a report needs, without the run
folders.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsrl.bench.checks import check_alike, check_unplanned
from marsrl.bench.damage import check_evaluations, check_sound
from marsrl.bench.plan import Job, plan, store_suite
from marsrl.bench.progress import seed_states
from marsrl.bench.records import Results, RunRecord
from marsrl.bench.rows import (
    CURVE_COLUMNS,
    EPISODE_COLUMNS,
    TRUST_REGION,
    check_finite,
    curve_rows,
    curve_table,
    episode_rows,
    episode_table,
    table_of,
)
from marsrl.bench.sources import recorded
from marsrl.bench.suite import Suite, check_evaluated_alike
from marsrl.bench.tables import check_records, check_table
from marsrl.envs.tasks import BOUNDS_VERSION
from marsrl.errors import UserError, reason, shown
from marsrl.extras import require
from marsrl.files import path_of, write_beside
from marsrl.reading import read_json
from marsrl.runs.folder import CONFIG, STATUS, RunFolder
from marsrl.runs.records import Row, read_or_empty
from marsrl.runs.sources import trained_with

if TYPE_CHECKING:
    import pyarrow as pa

_REPEATED = ("config", "versions", "machine", "git", "resumed", "extended")
"""What many runs share, and runs.json says once."""


def collect(store: str | Path) -> Results:
    """Reads the run folders of a store; those of unfinished runs as far as they have come.

    Seeds that the suite does not have are left out.

    Raises:
        UserError: the folder is no store, a cell has runs of other configurations only, a run is
            there twice, its configuration is not that of its folder's name, runs of a task are of
            different versions of marsrl, an evaluation is not finite, or a file is damaged.
    """
    store = path_of(store, "store")
    suite = store_suite(store)
    jobs = plan(suite, store)
    check_unplanned(suite, store, jobs)
    for job in jobs:
        check_sound(store, job)
    return read_jobs(suite, jobs, store)


def read_jobs(suite: Suite, jobs: Sequence[Job], where: Path) -> Results:
    """Reads the run folders of a suite's jobs, which are sound.

    Args:
        suite: what they are the runs of.
        jobs: with a folder for every run that the suite plans, whether or not it is there.
        where: what errors call their place.

    Raises:
        UserError: see `collect`.
    """
    records: dict[tuple[str, str, int], RunRecord] = {}
    episodes, curves = [episode_table(())], [curve_table(())]
    evaluated: dict[str, dict[str, frozenset[int]]] = {}
    for job in jobs:
        for record in run_records(job):
            if record.seed not in suite.seeds:
                continue
            key = (record.task, record.objective, record.seed)
            if key in records:
                raise UserError(f"{job.folder.parent} has seed {record.seed} in two folders")
            records[key] = record
        if job.folder.exists():
            rows = [row for row in RunFolder(job.folder).rows() if row["seed"] in suite.seeds]
            check_finite(job, rows)
            evaluated.setdefault(job.config.task, {}).update(_evaluated(job, rows, suite.seeds))
            episodes.append(episode_table(episode_rows(job, rows)))
            curves.append(curve_table(curve_rows(job, rows)))
    planned = ((t, o, s) for t in suite.tasks for o in suite.objectives for s in suite.seeds)
    runs = tuple(records[key] for key in planned)
    check_records(where, suite, runs)
    check_alike(where, runs)
    for task in suite.tasks:
        begun = {x.label: x.config for x in jobs if x.config.task == task and x.folder.exists()}
        check_evaluated_alike(task, begun)
    check_evaluations(where, evaluated)
    arrow = require("pyarrow", "bench")
    return Results(
        suite,
        runs,
        arrow.concat_tables(episodes),
        arrow.concat_tables(curves),
    )


def part(results: Results, tasks: tuple[str, ...]) -> Results:
    """What is known of some of the suite's tasks, as of a suite of these alone."""
    chosen = require("pyarrow.compute", "bench").field("task").isin(tasks)
    return Results(
        dataclasses.replace(results.suite, tasks=tasks),
        tuple(run for run in results.runs if run.task in tasks),
        results.episodes.filter(chosen),
        results.curves.filter(chosen),
    )


def write(results: Results, folder: str | Path) -> None:
    """Writes the three files; a reader finds the old or the new one of each, never a part."""
    folder = path_of(folder, "folder")
    parquet = require("pyarrow.parquet", "bench")
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, table in (("episodes", results.episodes), ("curves", results.curves)):
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        write_beside(folder / f"{name}.parquet", buffer.getvalue())
        sums[name] = _checksum(buffer.getvalue())
    records = [record._asdict() for record in results.runs]
    suite = results.suite.to_dict()
    sums["runs"] = _checksum(json.dumps([suite, records]).encode())
    said, records = _said_once(records)
    head = {"bounds_version": BOUNDS_VERSION, "suite": suite, "checksums": sums}
    lines = [f'"said": [\n{_lines(said)}\n]', f'"runs": [\n{_lines(records)}\n]']
    write_beside(folder / "runs.json", f"{json.dumps(head)[:-1]}, {', '.join(lines)}}}\n".encode())


def check_replaceable(results: Results, folder: Path, way: str = "choose another --out") -> None:
    """Refuses to write results over others: only over an earlier state of the same.

    Args:
        results: to write.
        folder: where.
        way: out, for the message: what the command at hand has.

    Raises:
        UserError: the folder is a store, holds a page of something else, or a run that has ended
            there and has not in these results.
    """
    if (folder / "suite.toml").exists():
        raise UserError(f"{folder} is a store of its own; {way}")
    if not (folder / "runs.json").exists():
        if (folder / "index.html").exists():
            raise UserError(f"{folder} has an index.html, and no results that are its own; {way}")
        return
    try:
        old = read(folder)
    except UserError as error:
        raise UserError(f"cannot tell which results {folder} holds: {error}; {way}") from error
    kept = {run[:4] for run in results.runs if run.status in ("done", "diverged")}
    for run in old.runs:
        if run.status in ("done", "diverged") and run[:4] not in kept:
            raise UserError(
                f"{folder} holds other results, such as seed {run.seed} of {run.objective} on "
                f"{run.task}, id {run.run or 'unknown'}; {way}"
            )


def read(folder: str | Path) -> Results:
    """Reads what `write` wrote.

    Raises:
        UserError: a file is missing or damaged, was written by a version with other bounds of the
            tasks' scores, or holds a task whose runs differ in settings or versions of marsrl.
    """
    folder = path_of(folder, "folder")
    path = folder / "runs.json"
    if not path.exists():
        raise UserError(f"{folder} holds no results: it has no runs.json")
    content = read_json(path)
    try:
        version, sums = content["bounds_version"], dict(content.get("checksums", {}))
        suite = Suite.from_dict(content["suite"])
        records = _said_again(content.get("said"), content["runs"])
        runs = tuple(RunRecord(**record) for record in records)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no list of runs: {reason(error)}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if version != BOUNDS_VERSION:
        raise UserError(
            f"{path} was written with version {shown(version)} of the bounds of scores, this "
            f"marsrl has version {BOUNDS_VERSION}; write it again from its store: "
            "marsrl bench report STORE"
        )
    check_records(path, suite, runs)
    check_alike(path, runs)
    expected = {"episodes": EPISODE_COLUMNS, "curves": CURVE_COLUMNS}
    tables = {
        name: _read_table(folder / f"{name}.parquet", columns, suite, sums.get(name))
        for name, columns in expected.items()
    }
    written = json.dumps([content["suite"], records]).encode()
    _check_sum(path, written, sums.get("runs"))
    return Results(suite, runs, **tables)


def _said_once(records: list[dict[str, Any]]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The values of `_REPEATED`, each once, and the records with places in that list for them."""
    said: dict[str, int] = {}

    def place(value: Any) -> int:
        return said.setdefault(json.dumps(value), len(said))

    short = [r | {name: place(r[name]) for name in _REPEATED} for r in records]
    return list(map(json.loads, said)), short


def _said_again(said: list[Any] | None, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The inverse of `_said_once`; records of before each was said once are as they were."""
    if said is None:
        return records
    return [
        r | {name: said[r[name]] for name in _REPEATED if type(r.get(name)) is int} for r in records
    ]


def _lines(values: list[Any]) -> str:
    """JSON of the items of a list, a line each."""
    return ",\n".join(map(json.dumps, values))


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_sum(path: Path, content: bytes, expected: str | None) -> None:
    """Refuses what is not what was written; results from before there were checksums are taken."""
    if expected not in (None, _checksum(content)):
        raise UserError(
            f"{path} is not what was written with runs.json: damaged, changed by hand, or of "
            "another report; write all three again: marsrl bench report STORE"
        )


def _read_table(
    path: Path, columns: dict[str, str], suite: Suite, checksum: str | None
) -> pa.Table:
    arrow = require("pyarrow", "bench")
    parquet = require("pyarrow.parquet", "bench")
    try:
        content = path.read_bytes()
        table = parquet.read_table(io.BytesIO(content))
        table.validate(full=True)  # that texts are texts, which nothing asks before they are used
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    table = _with_later_columns(table)
    if table.schema != (expected := table_of((), columns).schema):
        raise UserError(
            f"{path} has the columns {', '.join(table.schema.names)}, expected "
            f"{', '.join(expected.names)} with types {', '.join(columns.values())}"
        )
    check_table(path, suite, table)
    _check_sum(path, content, checksum)
    return table


def _with_later_columns(table: pa.Table) -> pa.Table:
    """A curve of before the trust region was measured, with nothing in its columns."""
    if "phase" in table.schema.names and "entropy" in table.schema.names:
        arrow = require("pyarrow", "bench")
        for name in TRUST_REGION:
            if name not in table.schema.names:
                table = table.append_column(name, arrow.nulls(len(table), arrow.float64()))
    return table


def _evaluated(job: Job, rows: list[Row], seeds: tuple[int, ...]) -> dict[str, frozenset[int]]:
    """The steps at which each finished run of a job with one of these seeds was evaluated."""
    return {
        f"seed {seed} of {job.folder}": frozenset(
            row["step"] for row in rows if row["kind"] == "eval" and row["seed"] == seed
        )
        for seed, state in seed_states(job).items()
        if state.status == "done" and seed in seeds
    }


def run_records(job: Job) -> Iterator[RunRecord]:
    """What the files of a job tell of each of its runs.

    Raises:
        UserError: its configuration is not that of its folder's name.
    """
    config = job.config
    states = seed_states(job)
    known = _run_json(job)
    status = read_or_empty(job.folder / STATUS)
    sources = _sources(job) if known else {}
    for seed, state in states.items():
        yield RunRecord(
            config.task,
            job.label,
            config.hash,
            seed,
            *state,
            seconds=status.get("seconds", {}),
            seeds_in_program=status.get("seeds_in_program", len(config.seeds)) if known else 0,
            peak_memory_mb=status.get("peak_memory_mb", 0.0),
            source=sources.get("objective"),
            task_source=sources.get("task"),
            network_source=sources.get("network"),
            **known,
        )


def _sources(job: Job) -> dict[str, str | None]:
    """The digests of own code; of a run that went on with another, both of them in one."""
    trained = trained_with(read_or_empty(job.folder / CONFIG))
    return recorded(job) | {kind: "+".join(digests) for kind, digests in trained.items()}


def _run_json(job: Job) -> dict[str, Any]:
    """What the run folder says of its configuration and origins; empty if nothing yet."""
    content = read_or_empty(job.folder / CONFIG)
    return {key: content[key] for key in _REPEATED if key in content}
