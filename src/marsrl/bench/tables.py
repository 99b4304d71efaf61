"""What the files of results may hold; whatever else they hold is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from marsrl.bench.labels import objective_of
from marsrl.bench.progress import RunStatus
from marsrl.bench.records import RunRecord
from marsrl.bench.suite import Suite
from marsrl.errors import UserError, shown
from marsrl.extras import require

if TYPE_CHECKING:
    import pyarrow as pa

MAX_STEP = 2**53
"""More environment steps than anybody trains; JSON and floats hold it exactly."""
LARGEST = 1e100
"""The largest number of a table: sums and squares of it are finite too."""
_MAX_TEXT = 1_000  # characters of a text in runs.json
_STATUSES = get_args(RunStatus)


def check_records(path: Path, suite: Suite, runs: Iterable[RunRecord]) -> None:
    """Refuses runs whose values have another form, and those that are not the suite's.

    Raises:
        UserError: a value is wrong, a planned run is not there, or is there twice.
    """
    found: set[tuple[str, str, int]] = set()
    for number, run in enumerate(runs):
        for name in _RECORD:
            if fault := record_fault(name, getattr(run, name)):
                raise UserError(f"{path}: run {number} has {fault}")
        for name, value in (("task", run.task), ("objective", run.objective), ("seed", run.seed)):
            trained = objective_of(str(value)) if name == "objective" else value
            if run.config and name != "seed" and run.config.get(name, trained) != trained:
                raise UserError(
                    f"{path}: run {number} has {name} = {shown(value)}, and {name} = "
                    f"{shown(run.config[name])} in its config"
                )
            if value not in getattr(suite, f"{name}s"):
                raise UserError(
                    f"{path}: run {number} has {name} = {shown(value)}, expected one of the suite's"
                )
        if (run.status == "diverged") != (run.diverged_step is not None):
            raise UserError(
                f"{path}: run {number} has status = {run.status} and diverged_step = "
                f"{run.diverged_step}, expected a step if and only if it diverged"
            )
        key = run.task, run.objective, run.seed
        if key in found:
            raise UserError(f"{path} has seed {run.seed} of {run.objective} on {run.task} twice")
        found.add(key)
    for task in suite.tasks:
        for objective in suite.objectives:
            for seed in suite.seeds:
                if (task, objective, seed) not in found:
                    raise UserError(f"{path} has no run of seed {seed} of {objective} on {task}")


def record_fault(name: str, value: Any) -> str | None:
    """What is wrong with a value of a `RunRecord`; None if nothing is."""
    right, expected = _RECORD[name]
    return None if right(value) else f"{name} = {shown(value)}, expected {expected}"


def check_table(path: Path, suite: Suite, table: pa.Table) -> None:
    """Refuses rows that are not of a run of the suite, twice there, or not finite.

    Args:
        path: of the table.
        suite: whose runs it may have.
        table: `Results.episodes` or `Results.curves`, with the right columns.

    Raises:
        UserError: there is such a row.
    """
    arrow, compute = require("pyarrow", "bench"), require("pyarrow.compute", "bench")
    episodes = "episode" in table.schema.names
    known = {
        "task": suite.tasks,
        "objective": suite.objectives,
        "seed": suite.seeds,
        "phase": ("eval", "final", "last") if episodes else ("train", "eval"),
    }
    whole = [*known, "run", "family", "step", *(["episode", "return"] if episodes else [])]
    for name in whole:
        if table.column(name).null_count:
            raise UserError(f"{path} has a row without {name}")
    for name, values in known.items():
        for value in compute.unique(table.column(name)).to_pylist():
            if value not in values:
                expected = ", ".join(values) if name == "phase" else "one of the suite's"
                raise UserError(f"{path} has {name} = {shown(value)}, expected {expected}")
    for name in ("step", *(["episode"] if episodes else [])):
        for value in compute.min_max(table.column(name)).as_py().values():
            if value is not None and not 0 <= value <= MAX_STEP:
                raise UserError(f"{path} has {name} = {value}, expected 0 to {MAX_STEP}")
    for field in table.schema:
        if arrow.types.is_floating(field.type):
            right = compute.less_equal(compute.abs(table.column(field.name)), LARGEST)
            if not compute.all(right, min_count=0).as_py():  # of NaN nothing holds
                raise UserError(
                    f"{path} has a {field.name} that is not finite, or beyond {LARGEST}"
                )
    keys = ["task", "objective", "seed", "phase", "step", *(["episode"] if episodes else [])]
    counts = table.group_by(keys).aggregate([([], "count_all")])
    twice = counts.filter(compute.greater(counts.column("count_all"), 1)).slice(0, 1).to_pylist()
    for row in twice:
        place = ", ".join(f"{key} {row[key]}" for key in keys)
        raise UserError(f"{path} has {row['count_all']} rows of {place}, expected one")


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_STEP


def is_amount(value: Any) -> bool:
    """Whether it is a number that results can hold, 0 or greater."""
    return type(value) in (int, float) and 0 <= value <= LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def _is_plain(value: Any) -> bool:
    """JSON that a page can show: no texts that could be none of it, nor deep nesting."""
    return value is None or isinstance(value, bool | int | float) or _is_text(value)


def _is_table(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(_is_text(k) and of(x) for k, x in value.items())


def _is_setting(value: Any) -> bool:
    items = isinstance(value, list) and all(map(_is_plain, value))
    return _is_plain(value) or items or _is_table(value, _is_plain)


def _is_config(value: Any) -> bool:
    if not _is_table(value, _is_setting):
        return False
    seeds = value.get("seeds", [0])
    return isinstance(seeds, list) and bool(seeds) and all(map(_is_whole, seeds))


def _is_git(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _is_text(value.get("commit"))
        and isinstance(value.get("dirty"), bool)
    )


def _is_digest(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_resumed(value: Any) -> bool:
    names = ("versions", "machine", "git")
    return _are_notes(value, ("at", *names), {"sources"}) and all(
        record_fault(name, note[name]) is None for note in value for name in names
    )


def _is_extended(value: Any) -> bool:
    return _are_notes(value, ("from", "to", "at")) and all(
        _is_whole(x) for note in value for x in note.values()
    )


def _are_notes(value: Any, names: tuple[str, ...], perhaps: Set[str] = frozenset()) -> bool:
    """A list of tables with these keys, and perhaps others, of which `at` is a step."""
    return isinstance(value, list) and all(
        isinstance(note, dict) and set(note) - perhaps == set(names) and _is_whole(note["at"])
        for note in value
    )


_AMOUNTS = "a table of numbers, finite and 0 or greater"
_RECORD: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": (_is_text, "a name"),
    "objective": (_is_text, "a name"),
    "run": (_is_text, "an id"),
    "seed": (_is_whole, "a whole number, 0 or greater"),
    "status": (lambda value: value in _STATUSES, f"one of {', '.join(_STATUSES)}"),
    "step": (_is_whole, "a whole number, 0 or greater"),
    "diverged_step": (lambda x: x is None or _is_whole(x), "a whole number, 0 or greater, or null"),
    "seconds": (lambda value: _is_table(value, is_amount), _AMOUNTS),
    "seeds_in_program": (_is_whole, "a whole number, 0 or greater"),
    "peak_memory_mb": (is_amount, "a number, finite and 0 or greater"),
    "config": (_is_config, "a table of settings, and its seeds a list of whole numbers"),
    "versions": (lambda x: _is_table(x, lambda v: v is None or _is_text(v)), "a table of texts"),
    "machine": (lambda value: _is_table(value, _is_plain), "a table of plain values"),
    "source": (_is_digest, "null, or a digest"),
    "task_source": (_is_digest, "null, or a digest"),
    "network_source": (_is_digest, "null, or a digest"),
    "git": (_is_git, "null, or a table of commit and dirty"),
    "resumed": (_is_resumed, "a list of tables of at, versions, machine and git"),
    "extended": (_is_extended, "a list of tables of from, to and at, whole numbers"),
}
