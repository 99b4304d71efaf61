"""Rows of run folders as rows of the results' tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from marsrl.bench.plan import Job
from marsrl.envs.tasks import family_of
from marsrl.errors import UserError
from marsrl.extras import require
from marsrl.runs.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

DIAGNOSTICS = (
    "gradient/dead",
    "gradient/corrective",
    "ratio/collapsed",
    "ratio/min",
    "ratio/max",
)
"""The failure modes that a curve tells, as `marsrl.objectives.diagnostics` measures them."""

TRUST_REGION = ("update_kl", "update_kl/agents", "eps", "gradient/low", "gradient/high")
"""What a curve tells of the trust region, if its run logged it: the KL divergence between the
policies before and after an update on its whole rollout, in nats, and its spread over agents; the
region's size; the shares of the squared gradient from ratios below 0.5 and above 2."""

_RUN_COLUMNS = {
    "family": "string",
    "task": "string",
    "objective": "string",
    "run": "string",
    "seed": "int64",
    "step": "int64",
}
EPISODE_COLUMNS = _RUN_COLUMNS | {"phase": "string", "episode": "int32", "return": "float64"}
CURVE_COLUMNS = (
    _RUN_COLUMNS
    | {"seconds": "float64", "phase": "string"}
    | dict.fromkeys(("return", "length", "entropy", "approx_kl", *DIAGNOSTICS), "float64")
    | dict.fromkeys(TRUST_REGION, "float64")
)


def episode_table(rows: Iterable[Row]) -> pa.Table:
    """Makes `Results.episodes` of rows that have its columns."""
    return table_of(rows, EPISODE_COLUMNS)


def curve_table(rows: Iterable[Row]) -> pa.Table:
    """Makes `Results.curves` of rows that have some of its columns; the others become null."""
    return table_of(rows, CURVE_COLUMNS)


def table_of(rows: Iterable[Row], columns: dict[str, str]) -> pa.Table:
    """Makes a table with these columns, name -> type."""
    arrow = require("pyarrow", "bench")
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in columns.items()])
    return arrow.Table.from_pylist(list(rows), schema)


def check_finite(job: Job, rows: list[Row]) -> None:
    """Raises UserError if an evaluation episode has no finite return."""
    for row in rows:
        if row["kind"] != "train" and None in row["returns"]:
            raise UserError(
                f"{job.folder}: the evaluation of seed {row['seed']} at step {row['step']} has an "
                "episode without a finite return"
            )


def episode_rows(job: Job, rows: list[Row]) -> Iterator[Row]:
    """A row for each evaluation episode."""
    for row in rows:
        if row["kind"] != "train":
            head = _head(job, row) | {"phase": row["kind"]}
            for number, value in enumerate(row["returns"]):
                yield head | {"episode": number, "return": value}


def curve_rows(job: Job, rows: list[Row]) -> Iterator[Row]:
    """A row for each logged point of training, and for each evaluation."""
    seconds = 0.0  # that an evaluation comes after
    for row in rows:
        if row["kind"] == "train":
            seconds = row["seconds"]
            measured = {
                "return": row["episode/return"],
                "length": row["episode/length"],
                **{name: row[name] for name in ("entropy", "approx_kl", *DIAGNOSTICS)},
                **{name: row.get(name) for name in TRUST_REGION},
            }
        elif row["kind"] == "eval":
            measured = {"return": row["return"], "length": row["length"]}
        else:
            continue
        yield _head(job, row) | {"seconds": seconds, "phase": row["kind"]} | measured


def folder_rows(episodes: pa.Table, curves: pa.Table) -> list[Row]:
    """The rows of a run folder from which `episode_rows` and `curve_rows` made these tables.

    Of each row there is what the tables keep of it.
    """
    rows: dict[tuple[str, int, int], Row] = {}

    def row_of(row: Row) -> Row:
        head = {"kind": row["phase"], "seed": row["seed"], "step": row["step"]}
        return rows.setdefault(tuple(head.values()), head)

    for row in curves.to_pylist():
        if row["phase"] == "train":
            names = ("seconds", "entropy", "approx_kl", *DIAGNOSTICS)
            measured = {name: row[name] for name in names}
            measured |= {name: row[name] for name in TRUST_REGION if row[name] is not None}
            measured |= {f"episode/{name}": row[name] for name in ("return", "length")}
        else:
            measured = {name: row[name] for name in ("return", "length")}
        row_of(row).update(measured)
    for row in episodes.to_pylist():
        row_of(row).setdefault("returns", []).append(row["return"])
    for row in rows.values():
        if row["kind"] in ("final", "last"):
            row["return"] = sum(row["returns"]) / len(row["returns"])
    return list(rows.values())


def _head(job: Job, row: Row) -> Row:
    return {
        "family": family_of(job.config.task),
        "task": job.config.task,
        "objective": job.label,
        "run": job.config.hash,
        "seed": row["seed"],
        "step": row["step"],
    }
