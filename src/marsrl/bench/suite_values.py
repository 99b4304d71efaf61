"""The values of a suite file, each checked where it stands, and the points of its sweeps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from itertools import product
from typing import Any

from marsrl.bench.labels import Scalar, base_of, settings_of, with_settings
from marsrl.config import Config
from marsrl.envs.tasks import ENTRY_POINTS, TASKS, Bounds
from marsrl.errors import UserError, check_int, near_misses, shown
from marsrl.toml import Keys
from marsrl.trust import is_foreign

_LONGEST_NAME = 200
_LONGEST_TEXT = 500
_MOST_METHODS = 1_000
_OWN_KEYS = ("task", "objective", "seeds")  # of a suite, not of its settings
_INNER_TABLES = ("family", "task", "sweep")  # of an objective's table, besides its settings

Table = dict[str, Any]
Axes = dict[str, list[Scalar]]


class SuiteError(UserError):
    """Something in a suite is wrong.

    Attributes:
        places: where in the file it may stand, the likeliest first: a key at the top, or a table
            and a key in it; () if unknown.
    """

    def __init__(self, message: str, *places: Keys) -> None:
        super().__init__(message)
        self.places = places


@contextmanager
def under(key: str) -> Iterator[None]:
    """What is refused in this block stands under this key."""
    try:
        yield
    except UserError as error:
        places = error.places if isinstance(error, SuiteError) else ((),)
        raise SuiteError(str(error), *((key, *keys) for keys in places)) from error


def check_keys(values: Table, known: Sequence[str]) -> None:
    """Refuses a key that is none of these.

    Raises:
        SuiteError: with the key.
    """
    for key in values:
        if key not in known:
            raise SuiteError(f"unknown key {shown(key)}{near_misses(key, known)}", (key,))


def items(key: str, value: Any, kind: type) -> tuple[Any, ...]:
    """A list of different strings or whole numbers, at least one.

    Raises:
        SuiteError: it is something else.
    """
    expected = f"a list of different {'names' if kind is str else 'whole numbers'}"
    right = isinstance(value, list | tuple) and all(type(item) is kind for item in value)
    if not right or not value or len(set(value)) < len(value):
        raise SuiteError(f"{key} is {shown(value)}, expected {expected}", (key,))
    return tuple(value)


def check_count(key: str, value: Any) -> None:
    """Refuses what is no number of things that share a process.

    Raises:
        SuiteError: with the value.
    """
    with under(key):
        check_int(key, value, 1, most=10_000)


def check_name(key: str, name: Any) -> None:
    """Refuses what a console would obey, or a page could not hold.

    Raises:
        SuiteError: with the name.
    """
    if not isinstance(name, str):
        raise SuiteError(f"{key} is {shown(name)}, expected a string", (key,))
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        text = f"{key} has {shown(name)}, expected 1 to {_LONGEST_NAME} printable characters"
        raise SuiteError(text, (key,))


def check_chosen(value: Any, methods: Collection[str]) -> None:
    """Refuses what does not say in words how settings were found, of all methods or of each.

    Raises:
        SuiteError: it is neither a text nor a table of them, or a method of it is unknown.
    """
    texts = value if isinstance(value, dict) else {"": value}
    known = dict.fromkeys((*methods, *map(base_of, methods)))
    for name, text in texts.items():
        place = ("chosen", name) if name else ("chosen",)
        if name and name not in known:
            near = near_misses(name, known)
            raise SuiteError(f"unknown objective {shown(name)} in [chosen]{near}", place)
        if (
            not isinstance(text, str)
            or not 0 < len(text) <= _LONGEST_TEXT
            or not text.isprintable()
        ):
            expected = f"1 to {_LONGEST_TEXT} printable characters"
            raise SuiteError(f"{'.'.join(place)} is {shown(text)}, expected {expected}", place)


def settings_tables(where: str, values: Any, known: Collection[str]) -> dict[str, Table]:
    """Tables of settings by name, `[family.lbf]`.

    Raises:
        UserError: a name is none of those that are known, or a setting of its table is none.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is {shown(values)}, expected tables [{where}.NAME]")
    for name, settings in values.items():
        with under(name):
            if name not in known:
                kind, near = where.rpartition(".")[2], near_misses(name, known)
                raise UserError(f"unknown {kind} {shown(name)} in [{where}.{name}]{near}")
            check_settings(f"{where}.{name}", settings)
    return values


def check_settings(where: str, values: Any) -> None:
    """Refuses what is no table of settings that a table of a suite may have.

    Raises:
        SuiteError: with the setting.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where} is {shown(values)}, expected a table of settings")
    for key in values:
        with under(key):
            _check_setting(where, key)


def objective_tables(
    values: Any, entries: Sequence[str], families: Collection[str], tasks: Collection[str]
) -> dict[str, Table]:
    """Tables `[objective.NAME]`: settings, and tables `family`, `task` and `sweep`.

    Args:
        values: as the file has them.
        entries: the objectives that the file lists.
        families: that a table may be of.
        tasks: likewise.

    Raises:
        SuiteError: a name is no objective of the suite, or something in its table is wrong.
    """
    known = list(dict.fromkeys((*entries, *map(base_of, entries))))
    with under("objective"):
        if not isinstance(values, dict):
            raise UserError(f"objective is {shown(values)}, expected tables [objective.NAME]")
        for name, table in values.items():
            where = f"objective.{name}"
            with under(name):
                if name not in known and base_of(name) not in known:
                    text = f"unknown objective {shown(name)} in [{where}], expected one that stands"
                    raise UserError(f"{text} in objectives{near_misses(name, known)}")
                if not isinstance(table, dict):
                    raise UserError(f"{where} is {shown(table)}, expected a table of settings")
                inner = {key: table[key] for key in _INNER_TABLES if key in table}
                check_settings(where, {k: x for k, x in table.items() if k not in inner})
                axes(f"{where}.sweep", inner.get("sweep", {}), may_be_empty=True)
                for key, of in (("family", families), ("task", tasks)):
                    with under(key):
                        settings_tables(f"{where}.{key}", inner.get(key, {}), of)
    return values


def axes(where: str, values: Any, may_be_empty: bool = False) -> Axes:
    """The axes of a sweep, setting -> values.

    Raises:
        SuiteError: a setting is unknown, or its values are not a list of different plain values.
    """
    with under(where.rpartition(".")[2]):
        if not isinstance(values, dict):
            raise UserError(f"{where} is {shown(values)}, expected axes: eps = [0.1, 0.2]")
        for key, points in values.items():
            with under(key):
                _check_setting(where, key)
                right = isinstance(points, list | tuple) and (points or may_be_empty)
                plain = right and all(isinstance(x, bool | int | float | str) for x in points)
                if not plain or len(set(points)) < len(points):
                    raise UserError(
                        f"{where}.{key} is {shown(points)}, expected a list of different values"
                    )
    return values


def bounds_tables(values: Any) -> dict[str, dict[str, float]]:
    """Bounds of the scores of tasks outside the benchmark, by task.

    Raises:
        SuiteError: one is of a task of the benchmark, or of no name of a task, or no two numbers.
    """
    with under("bounds"):
        if not isinstance(values, dict):
            raise UserError(f"bounds is {shown(values)}, expected tables [bounds.TASK]")
        for task, table in values.items():
            where = f'bounds."{task}"'
            with under(task):
                check_name("bounds", task)
                if task in TASKS:
                    raise UserError(f"{where}: the bounds of the benchmark's tasks are its own")
                if not (
                    is_foreign("task", task)
                    or task.startswith("jaxmarl:")
                    or "/" in task.strip("/")
                ):
                    raise UserError(
                        f"{where}: {shown(task)} is no task; expected module:factory, "
                        "path/file.py:factory, jaxmarl:NAME, pettingzoo:MODULE, gymnasium:ID, or a "
                        "task of an installed package"
                    )
                if not isinstance(table, dict):
                    raise UserError(f"{where} is {shown(table)}, expected low = ..., high = ...")
                check_keys(table, Bounds._fields)
                _check_bounds(where, table)
    return values


def points(entries: Sequence[str], sweep: Axes, tables: dict[str, Table]) -> tuple[str, ...]:
    """The labels of all methods: of every objective that the file lists, its points in order.

    An objective's own axes come in place of the common ones of the same setting, and an axis of a
    setting that its name makes is none.

    Raises:
        UserError: there are too many, or one is there twice.
    """
    found: list[str] = []
    for entry in entries:
        own: Axes = {}
        for name in (base_of(entry), entry):
            own |= tables.get(name, {}).get("sweep", {})
        made = settings_of(entry)
        along = {name: xs for name, xs in (sweep | own).items() if xs and name not in made}
        number = math.prod(map(len, along.values()))
        if len(found) + number > _MOST_METHODS:
            raise UserError(
                f"sweep: {entry} has {number:,} points, expected at most {_MOST_METHODS:,} of all "
                "objectives together"
            )
        for values in product(*along.values()):
            label = with_settings(entry, dict(zip(along, values, strict=True)))
            check_name("objectives", label)
            found.append(label)
    for label in found:
        if found.count(label) > 1:
            raise UserError(f"objectives: {label} is there twice, by name and by a sweep")
    return tuple(found)


def no_bounds(task: str) -> str | None:
    """Why a task that may exist is none of a suite without bounds of its scores."""
    if ":" not in task and not entry_points(group=ENTRY_POINTS, name=task):
        return None
    return (
        f"tasks: {shown(task)} has no known bounds of scores; give the mean return of a random "
        f'policy, which counts as 0, and of a good one, as 1: [bounds."{task}"] with low = ... and '
        "high = ..."
    )


def _check_setting(where: str, key: str) -> None:
    if key in _OWN_KEYS:
        raise UserError(f"{where}.{key} must stand at the top of the suite, not in a table")
    known = [f.name for f in dataclasses.fields(Config) if f.name not in _OWN_KEYS]
    if key not in known:
        raise UserError(f"unknown setting {where}.{key}{near_misses(key, known)}")


def _check_bounds(where: str, table: dict[str, Any]) -> None:
    for key in Bounds._fields:
        value: Any = table.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            missing = "is missing" if key not in table else f"is {shown(value)}"
            raise SuiteError(f"{where}: {key} {missing}, expected a mean return", (key,))
    if not table["low"] < table["high"]:
        text = f"{where}: low = {table['low']} and high = {table['high']}, expected low < high"
        raise SuiteError(text, ("low",))
