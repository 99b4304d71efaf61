"""A suite: which tasks, objectives and seeds are trained with which settings, from a TOML file."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from marsrl.config import Config
from marsrl.envs.tasks import ENTRY_POINTS, FAMILIES, TASKS
from marsrl.errors import UserError, check_int, near_misses, shown
from marsrl.presets import preset
from marsrl.reading import read_toml

_BUILTIN = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}
_LONGEST_NAME = 200
_OWN_KEYS = ("task", "objective", "seeds")  # of a suite, not of its settings


class SuiteError(UserError):
    """Something in a suite is wrong.

    Attributes:
        keys: where in the file: a key at the top, or a table and a key in it; () if unknown.
    """

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


@dataclass(frozen=True)
class Suite:
    """A grid of runs: every task with every objective and every seed.

    Attributes:
        name: what pages and messages call it.
        tasks: names of `marsrl.envs.tasks.TASKS`.
        objectives: names of `marsrl.objectives.OBJECTIVES`, or your own `module:factory`.
        seeds: of every task and objective.
        settings: of `Config`, for all tasks, over those of the task's preset.
        family_settings: family -> settings, over the former.
        task_settings: task -> settings, over all the others.
        seeds_per_job: how many seeds one process trains in one program; default: all.
    """

    name: str
    tasks: tuple[str, ...]
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    family_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    task_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds_per_job: int | None = None

    def config(self, task: str, objective: str) -> Config:
        """The configuration of one cell, with all seeds; an objective of yours is not imported.

        Raises:
            UserError: a setting is unknown or impossible. An objective of somebody's own is not
                made: its name may be out of a file.
        """
        family = self.family_settings.get(task.partition("/")[0], {})
        settings = self.settings | family | self.task_settings.get(task, {})
        own = {"objective": objective, "seeds": self.seeds}
        return Config.from_dict(preset(task).to_dict() | settings | own)

    def check(self, make: bool = True) -> None:
        """Makes the configuration of every cell.

        Args:
            make: whether to make the objectives too, which imports those of yours.

        Raises:
            UserError: as `config` does, or an objective cannot be made.
        """
        for task in self.tasks:
            for objective in self.objectives:
                try:
                    config = self.config(task, objective)
                    if make:
                        config.make_objective()
                except UserError as error:
                    where = self._origin(task, objective, str(error))
                    raise SuiteError(f"{objective} on {task}: {error}", where) from error

    def _origin(self, task: str, objective: str, message: str) -> tuple[str, ...]:
        """The keys of what a message about a cell begins with, or names."""
        name, family = message.split()[0], task.partition("/")[0]
        tables = {
            ("task", task): self.task_settings.get(task, {}),
            ("family", family): self.family_settings.get(family, {}),
            ("settings",): self.settings,
        }
        for keys, settings in tables.items():
            if name in settings:
                return (*keys, name)
        if name == "seeds":
            return (name,)
        return ("objectives",) if repr(objective.partition(":")[0]) in message else ()

    def to_dict(self) -> dict[str, Any]:
        """The keys of a suite file; those that are at their default are left out."""
        values = dataclasses.asdict(self)
        for key in ("family", "task"):
            values[key] = values.pop(f"{key}_settings")
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if value not in ({}, None)
        }

    def to_toml(self) -> str:
        """The suite as a file that `read_suite` reads."""
        values = self.to_dict()
        tables = {"settings": values.pop("settings", {})}
        for key in ("family", "task"):
            for name, settings in values.pop(key, {}).items():
                tables[f"{key}.{_toml(name)}"] = settings
        parts = [_lines(values)]
        parts += [f"[{head}]\n{_lines(settings)}" for head, settings in tables.items() if settings]
        return "\n".join(parts)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Suite:
        """The inverse of `to_dict`; names of tasks may hold `*`, which expands in table order.

        Cells are not made, so that results can be read where their objectives cannot be imported;
        `check` makes them.

        Raises:
            UserError: a key is unknown, missing or of a wrong type, or a task is unknown.
        """
        _check_keys(values)
        for key in ("name", "tasks", "objectives", "seeds"):
            if key not in values:
                raise UserError(f"{key} is missing")
        name = values["name"]
        if not isinstance(name, str):
            raise SuiteError(f"name is {shown(name)}, expected a string", ("name",))
        _check_name("name", name)
        per_job = values.get("seeds_per_job")
        if per_job is not None:
            with _under("seeds_per_job"):
                check_int("seeds_per_job", per_job, 1, most=10_000)
        patterns = _items("tasks", values["tasks"], str)
        with _under("tasks"):
            tasks = select_tasks(patterns, tuple(TASKS))
        objectives = _items("objectives", values["objectives"], str)
        for objective in objectives:
            _check_name("objectives", objective)
        settings = values.get("settings", {})
        with _under("settings"):
            _check_settings("settings", settings)
        return Suite(
            name=name,
            tasks=tasks,
            objectives=objectives,
            seeds=_items("seeds", values["seeds"], int),
            settings=settings,
            family_settings=_tables("family", values.get("family", {}), tuple(FAMILIES)),
            task_settings=_tables("task", values.get("task", {}), tuple(TASKS)),
            seeds_per_job=per_job,
        )


def read_suite(source: str | Path, make: bool = True) -> Suite:
    """Reads and checks a suite.

    Args:
        source: the name of one that comes with marsrl, or the path of a TOML file.
        make: whether to make its objectives, which imports those of yours, and may be anybody's
            code: only for a suite that the user named.

    Raises:
        UserError: there is no such suite, or something in it is wrong: the message names the file,
            the line and the key.
    """
    path = _BUILTIN.get(str(source), Path(source))
    if not path.is_file():
        raise UserError(
            f"no suite, nor file, is called {shown(str(source))}{near_misses(source, _BUILTIN)}"
        )
    try:
        suite = _parse(path)
        suite.check(make)
    except SuiteError as error:
        line = _line_of(error.keys, path.read_text())
        raise UserError(f"{path}{f', line {line}' if line else ''}: {error}") from error
    except UserError as error:
        start = "" if str(path) in str(error) else f"{path}: "
        raise UserError(f"{start}{error}") from error
    return suite


def is_builtin(suite: Suite) -> bool:
    """Whether this is the suite that `read_suite` finds under its name."""
    return suite.name in _BUILTIN and _parse(_BUILTIN[suite.name]) == suite


def select_tasks(patterns: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    """The known tasks that any of the patterns (`lbf/*`) means, in the order of the patterns.

    Raises:
        UserError: a pattern means none.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matching = [task for task in known if fnmatchcase(task, pattern)]
        if not matching:
            if ":" in pattern or entry_points(group=ENTRY_POINTS, name=pattern):
                raise UserError(
                    f"tasks: {shown(pattern)} has no known bounds of scores, so no suite can have "
                    f"it; expected some of the benchmark's {len(TASKS)} tasks"
                )
            raise UserError(f"tasks: unknown task {shown(pattern)}{near_misses(pattern, known)}")
        chosen |= dict.fromkeys(matching)
    return tuple(chosen)


def _parse(path: Path) -> Suite:
    return Suite.from_dict(read_toml(path))


@contextmanager
def _under(key: str) -> Iterator[None]:
    """What is refused in this block stands under this key."""
    try:
        yield
    except UserError as error:
        keys = error.keys if isinstance(error, SuiteError) else ()
        raise SuiteError(str(error), (key, *keys)) from error


def _line_of(keys: tuple[str, ...], text: str) -> int | None:
    """The line of a TOML text that opens the table or sets the key; None if none does."""
    table = ()
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[([^\[\]]+)\]", line)
        entry = re.match(r"([^=#\[\]{}]+)=", line)
        if head:
            here = table = _path(head[1])
        elif entry:
            here = (*table, *_path(entry[1]))
        else:
            continue
        if keys and here[: len(keys)] == keys:
            return number
    return _line_of(keys[:-1], text) if len(keys) > 1 else None


def _path(dotted: str) -> tuple[str, ...]:
    """The parts of a TOML key, some of which may be quoted; () if it is none."""
    try:
        value = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path = []
    while isinstance(value, dict):
        ((key, value),) = value.items()
        path.append(key)
    return tuple(path)


def _check_keys(values: dict[str, Any]) -> None:
    known = ("name", "tasks", "objectives", "seeds", "seeds_per_job", "settings", "family", "task")
    for key in values:
        if key not in known:
            raise SuiteError(f"unknown key {shown(key)}{near_misses(key, known)}", (key,))


def _items(key: str, value: Any, kind: type) -> tuple[Any, ...]:
    expected = f"a list of different {'names' if kind is str else 'whole numbers'}"
    right = isinstance(value, list | tuple) and all(type(item) is kind for item in value)
    if not right or not value or len(set(value)) < len(value):
        raise SuiteError(f"{key} is {shown(value)}, expected {expected}", (key,))
    return tuple(value)


def _check_name(key: str, name: str) -> None:
    """Refuses what a console would obey, or a page could not hold."""
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        text = f"{key} has {shown(name)}, expected 1 to {_LONGEST_NAME} printable characters"
        raise SuiteError(text, (key,))


def _tables(key: str, values: Any, known: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    with _under(key):
        if not isinstance(values, dict):
            raise UserError(f"{key} is {shown(values)}, expected tables [{key}.NAME]")
        for name, settings in values.items():
            with _under(name):
                if name not in known:
                    closest = near_misses(name, known)
                    raise UserError(f"unknown {key} {shown(name)} in [{key}.{name}]{closest}")
                _check_settings(f"{key}.{name}", settings)
    return values


def _check_settings(where: str, values: Any) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{where} is {shown(values)}, expected a table of settings")
    known = [f.name for f in dataclasses.fields(Config) if f.name not in _OWN_KEYS]
    for key in values:
        with _under(key):
            if key in _OWN_KEYS:
                raise UserError(f"{where}.{key} must stand at the top of the suite, not in a table")
            if key not in known:
                raise UserError(f"unknown setting {where}.{key}{near_misses(key, known)}")


def _lines(values: dict[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value, ensure_ascii=False)  # JSON's other values are TOML's too
