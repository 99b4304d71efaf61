"""A suite: which tasks, objectives and seeds are trained with which settings, from a TOML file."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from marsrl.config import Config
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.errors import UserError, check_int, near_misses
from marsrl.presets import preset

_BUILTIN = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}
_OWN_KEYS = ("task", "objective", "seeds")  # of a suite, not of its settings


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
        """The configuration of one cell, with all seeds.

        Raises:
            UserError: a setting is unknown or impossible, or the objective cannot be made.
        """
        family = self.family_settings.get(task.partition("/")[0], {})
        settings = self.settings | family | self.task_settings.get(task, {})
        own = {"objective": objective, "seeds": self.seeds}
        return Config.from_dict(preset(task).to_dict() | settings | own)

    def check(self) -> None:
        """Makes the configuration of every cell; raises UserError as `config` does."""
        for task in self.tasks:
            for objective in self.objectives:
                try:
                    self.config(task, objective)
                except UserError as error:
                    raise UserError(f"{objective} on {task}: {error}") from error

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

        Objectives are taken as they are, so that results can be read where they cannot be made;
        `check` makes them.

        Raises:
            UserError: a key is unknown, missing or of a wrong type, or a task is unknown.
        """
        _check_keys("", values, ("name", "tasks", "objectives", "seeds", "seeds_per_job"))
        for key in ("name", "tasks", "objectives", "seeds"):
            if key not in values:
                raise UserError(f"{key} is missing")
        if not isinstance(values["name"], str):
            raise UserError(f"name is {values['name']!r}, expected a string")
        per_job = values.get("seeds_per_job")
        if per_job is not None:
            check_int("seeds_per_job", per_job, 1)
        return Suite(
            name=values["name"],
            tasks=select_tasks(_items("tasks", values["tasks"], str), tuple(TASKS)),
            objectives=_items("objectives", values["objectives"], str),
            seeds=_items("seeds", values["seeds"], int),
            settings=_settings("settings", values.get("settings", {})),
            family_settings=_tables("family", values.get("family", {}), tuple(FAMILIES)),
            task_settings=_tables("task", values.get("task", {}), tuple(TASKS)),
            seeds_per_job=per_job,
        )


def read_suite(source: str | Path) -> Suite:
    """Reads and checks a suite.

    Args:
        source: the name of one that comes with marsrl, or the path of a TOML file.

    Raises:
        UserError: there is no such suite, or something in it is wrong: the line names the file,
            and the line (syntax) or the key.
    """
    path = _BUILTIN.get(str(source), Path(source))
    if not path.is_file():
        raise UserError(
            f"no suite, nor file, is called {str(source)!r}{near_misses(source, _BUILTIN)}"
        )
    try:
        suite = _parse(path)
        suite.check()
    except (UserError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}") from error
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
            raise UserError(f"tasks: unknown task {pattern!r}{near_misses(pattern, known)}")
        chosen |= dict.fromkeys(matching)
    return tuple(chosen)


def _parse(path: Path) -> Suite:
    return Suite.from_dict(tomllib.loads(path.read_text()))


def _check_keys(where: str, values: dict[str, Any], scalars: tuple[str, ...]) -> None:
    known = (*scalars, "settings", "family", "task")
    for key in values:
        if key not in known:
            raise UserError(f"{where}unknown key {key!r}{near_misses(key, known)}")


def _items(key: str, value: Any, kind: type) -> tuple[Any, ...]:
    expected = f"a list of different {'names' if kind is str else 'whole numbers'}"
    right = isinstance(value, list | tuple) and all(type(item) is kind for item in value)
    if not right or not value or len(set(value)) < len(value):
        raise UserError(f"{key} is {value!r}, expected {expected}")
    return tuple(value)


def _tables(key: str, values: Any, known: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    if not isinstance(values, dict):
        raise UserError(f"{key} is {values!r}, expected tables [{key}.NAME]")
    for name in values:
        if name not in known:
            raise UserError(f"unknown {key} {name!r} in [{key}.{name}]{near_misses(name, known)}")
    return {name: _settings(f"{key}.{name}", settings) for name, settings in values.items()}


def _settings(where: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{where} is {values!r}, expected a table of settings")
    known = [f.name for f in dataclasses.fields(Config) if f.name not in _OWN_KEYS]
    for key in values:
        if key in _OWN_KEYS:
            raise UserError(f"{where}.{key} must stand at the top of the suite, not in a table")
        if key not in known:
            raise UserError(f"unknown setting {where}.{key}{near_misses(key, known)}")
    return values


def _lines(values: dict[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value, ensure_ascii=False)  # JSON's other values are TOML's too
