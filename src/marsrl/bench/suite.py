"""A suite: which tasks, objectives and seeds are trained with which settings, from a TOML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import chain, combinations, pairwise
from pathlib import Path
from typing import Any

from marsrl.bench.labels import base_of, check_label, objective_of, settings_of
from marsrl.bench.suite_values import (
    SuiteError,
    Table,
    axes,
    bounds_tables,
    check_chosen,
    check_count,
    check_keys,
    check_name,
    check_settings,
    items,
    no_bounds,
    objective_tables,
    points,
    settings_tables,
    under,
)
from marsrl.config import Config
from marsrl.digest import file_of
from marsrl.envs.tasks import FAMILIES, TASKS, Bounds, check_named, family_of
from marsrl.errors import UserError, near_misses, shown
from marsrl.presets import preset
from marsrl.reading import read_toml
from marsrl.toml import Keys, line_of, to_toml

_BUILTIN = {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}
_NEEDED = ("name", "tasks", "objectives", "seeds")
_COUNTS = ("seeds_per_job", "points_per_job")
_TABLES = ("settings", "family", "task", "objective", "sweep", "bounds", "chosen")

COMPARABLE = (
    "task_settings",
    "total_steps",
    "num_evaluations",
    "eval_episodes",
    "eval_seed",
    "eval_longest",
    "eval_greedy",
)
"""What runs of a task must have in common for their scores to be comparable; in every other setting
methods may differ, and reports say in which."""


@dataclass(frozen=True)
class Suite:
    """A grid of runs: every task with every method and every seed.

    A method is an objective with its settings. Its label is the objective's name, or that with an
    `@` and what tells it from others: `mars`, `mars@wide`, `mars@eps=0.4` (see `bench.labels`).

    Attributes:
        name: what pages and messages call it.
        tasks: names of `marsrl.envs.tasks.TASKS`, or of `bounds`.
        objectives: labels of the methods; what stands before an `@` is a name of
            `marsrl.objectives.OBJECTIVES`, or your own `module:factory`.
        seeds: of every task and method.
        settings: of `Config`, for all tasks, over those of the task's preset.
        family_settings: family -> settings, over the former.
        task_settings: task -> settings, over both.
        seeds_per_job: how many seeds one process trains in one program; default: all.
        objective_settings: label, or label without the settings that it makes -> settings, over all
            the others; in it tables `family` and `task`, of the same form as the suite's, over
            these. What a label makes is over everything.
        bounds: of the scores of tasks outside the benchmark, task -> low and high.
        points_per_job: how many methods that differ in nothing but `config.INPUTS` one process
            trains, side by side where it can.
        chosen: how the settings were found, in words: of all methods, or by label, or by label
            without the settings that it makes.
        removed: labels of methods that were taken out of a store's suite; what is said of them
            above stays, so that they come back as they were.
    """

    name: str
    tasks: tuple[str, ...]
    objectives: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Table = field(default_factory=dict)
    family_settings: dict[str, Table] = field(default_factory=dict)
    task_settings: dict[str, Table] = field(default_factory=dict)
    seeds_per_job: int | None = None
    objective_settings: dict[str, Table] = field(default_factory=dict)
    bounds: dict[str, dict[str, float]] = field(default_factory=dict)
    points_per_job: int = 1
    chosen: str | dict[str, str] = ""
    removed: tuple[str, ...] = ()

    def chosen_of(self, method: str) -> str:
        """How a method's settings were found; empty if the suite does not say."""
        if isinstance(self.chosen, str):
            return self.chosen
        return self.chosen.get(method) or self.chosen.get(base_of(method), "")

    def config(self, task: str, method: str) -> Config:
        """The configuration of one cell, with all seeds; an objective of yours is not imported.

        Args:
            task: one of `tasks`.
            method: one of `objectives`.

        Raises:
            UserError: a setting is unknown or impossible. An objective of somebody's own is not
                made: its name may be out of a file.
        """
        own = {"objective": objective_of(method), "seeds": self.seeds}
        for name in ("task", *own):
            if name in settings_of(method):
                raise UserError(f"{name} is no setting that a name can make", "objective")
        settings: Table = {}
        for layer in self._layers(task, method).values():
            settings |= layer
        return preset(task, **settings | own).settled()

    def bounds_of(self, task: str) -> Bounds:
        """The mean returns that count as scores of 0 and 1."""
        own = self.bounds.get(task)
        return Bounds(**own) if own else Bounds(TASKS[task].low, TASKS[task].high)

    def check(self, make: bool = True, names: bool = True) -> None:
        """Makes the configuration of every cell.

        Args:
            make: whether to make the objectives too, which imports those of yours.
            names: whether to look, importing nothing, whether what it names is there and its
                methods differ and can be compared.

        Raises:
            UserError: as `config` does, or an objective cannot be made.
        """
        if names:
            self._check_names()
        same = set(combinations(self.objectives, 2))
        for task in self.tasks:
            configs = {method: self._checked(task, method, make) for method in self.objectives}
            if names:
                self._check_comparable(task, configs)
                ids = {method: config.hash for method, config in configs.items()}
                same = {(a, b) for a, b in same if ids[a] == ids[b]}
        if names and same:
            pair = " and ".join(min(same))
            raise SuiteError(f"{pair} have the same settings on every task", ("objectives",))

    def check_comparable(self) -> None:
        """The part of `check` that asks whether methods can be compared; nothing is imported.

        Raises:
            UserError: two of them on a task cannot.
        """
        for task in self.tasks:
            configs = {method: self.config(task, method) for method in self.objectives}
            self._check_comparable(task, configs)

    def _layers(self, task: str, method: str) -> dict[Keys, Table]:
        """The settings of a cell by where they stand; each is over those before it."""
        family = family_of(task)
        layers: dict[Keys, Table] = {
            ("settings",): self.settings,
            ("family", family): self.family_settings.get(family, {}),
            ("task", task): self.task_settings.get(task, {}),
        }
        for name in dict.fromkeys((base_of(method), method)):
            table = self.objective_settings.get(name, {})
            inner = {key: table.get(key, {}) for key in ("family", "task")}
            where = ("objective", name)
            layers[where] = {key: value for key, value in table.items() if key not in inner}
            layers[*where, "family", family] = inner["family"].get(family, {})
            layers[*where, "task", task] = inner["task"].get(task, {})
        return layers | {("objectives",): settings_of(method)}

    def _checked(self, task: str, method: str, make: bool) -> Config:
        try:
            config = self.config(task, method)
            if make:
                config.make_objective()
        except UserError as error:
            places = self._places(task, method, error.field)
            raise SuiteError(f"{method} on {task}: {error}", *places) from error
        return config

    def _places(self, task: str, method: str, setting: str | None) -> tuple[Keys, ...]:
        """Where in the file a cell's setting may stand."""
        if setting in ("seeds", "objective"):
            return (("seeds" if setting == "seeds" else "objectives",),)
        for keys, settings in reversed(self._layers(task, method).items()):
            if setting in settings and keys != ("objectives",):
                return ((*keys, setting),)
            if setting in settings:
                own = [("objective", name, "sweep", setting) for name in (method, base_of(method))]
                return (*own, ("sweep", setting), keys)
        return ()

    def _check_names(self) -> None:
        """Refuses labels of no form, and tasks that are nowhere; nothing is imported."""
        with under("objectives"):
            for label in self.objectives:
                check_label(label)
        with under("tasks"):
            for task in self.tasks:
                if task not in TASKS:
                    _check_exists(task)

    def _check_comparable(self, task: str, configs: dict[str, Config]) -> None:
        (first, one), *others = configs.items()
        for label, other in others:
            for name in COMPARABLE:
                values = getattr(one, name), getattr(other, name)
                if values[0] != values[1]:
                    raise SuiteError(
                        f"{first} and {label} on {task} have {name} = {shown(values[0])} and "
                        f"{shown(values[1])}: their scores could not be compared",
                        *self._places(task, label, name),
                        *self._places(task, first, name),
                    )
            try:
                check_evaluated_alike(task, {first: one, label: other})
            except UserError as error:
                names = ("num_envs", "rollout_length")
                places = [self._places(task, x, name) for x in (label, first) for name in names]
                raise SuiteError(str(error), *chain(*places)) from error

    def to_dict(self) -> dict[str, Any]:
        """The keys of a suite file; those that are at their default are left out."""
        values = dataclasses.asdict(self)
        default = dataclasses.asdict(Suite("", (), (), ()))
        return {
            key.removesuffix("_settings"): list(value) if isinstance(value, tuple) else value
            for key, value in values.items()
            if value != default[key]
        }

    def to_toml(self) -> str:
        """The suite as a file that `read_suite` reads; a sweep is the methods that it made."""
        return to_toml(self.to_dict())

    @staticmethod
    def from_dict(values: Table) -> Suite:
        """The inverse of `to_dict`; names of tasks may hold `*`, which expands in table order.

        Sweeps expand into methods. Cells are not made, so that results can be read where their
        objectives cannot be imported; `check` makes them.

        Raises:
            UserError: a key is unknown, missing or of a wrong type, or a task is unknown.
        """
        check_keys(values, (*_NEEDED, *_COUNTS, *_TABLES, "removed"))
        for key in _NEEDED:
            if key not in values:
                raise UserError(f"{key} is missing")
        check_name("name", values["name"])
        for key in _COUNTS:
            if key in values:
                check_count(key, values[key])
        bounds = bounds_tables(values.get("bounds", {}))
        known = {"family": (*FAMILIES, *map(family_of, bounds)), "task": (*TASKS, *bounds)}
        patterns = items("tasks", values["tasks"], str)
        with under("tasks"):
            tasks = select_tasks(patterns, known["task"])
        entries = items("objectives", values["objectives"], str)
        removed = items("removed", values["removed"], str) if "removed" in values else ()
        for name in entries:
            check_name("objectives", name)
        with under("settings"):
            check_settings("settings", settings := values.get("settings", {}))
        for key, names in known.items():
            with under(key):
                settings_tables(key, values.get(key, {}), names)
        own = objective_tables(
            values.get("objective", {}), (*entries, *removed), known["family"], known["task"]
        )
        sweep = axes("sweep", values.get("sweep", {}))
        with under("objectives"):
            objectives = points(entries, sweep, own)
        if "chosen" in values:
            check_chosen(values["chosen"], (*objectives, *removed))
        return Suite(
            name=values["name"],
            tasks=tasks,
            objectives=objectives,
            seeds=items("seeds", values["seeds"], int),
            settings=settings,
            family_settings=values.get("family", {}),
            task_settings=values.get("task", {}),
            objective_settings=_without_sweeps(own),
            bounds=bounds,
            removed=removed,
            **{key: values[key] for key in (*_COUNTS, "chosen") if key in values},
        )


def check_evaluated_alike(task: str, configs: dict[str, Config]) -> None:
    """Refuses methods of one budget whose evaluations are not after the same steps.

    Args:
        task: of all of them.
        configs: by method.

    Raises:
        UserError: it names two of them, what an update of each is, and a budget that suits both.
    """
    for (first, one), (label, other) in pairwise(configs.items()):
        sizes = one.steps_per_update, other.steps_per_update
        if sizes[0] != sizes[1] and one.evaluation_steps != other.evaluation_steps:
            updates = " and ".join(f"{x.num_envs} x {x.rollout_length}" for x in (one, other))
            unit = math.lcm(*sizes) * one.num_evaluations
            raise UserError(
                f"{first} and {label} on {task} have num_envs x rollout_length = {updates} and "
                "are evaluated after different steps: their scores could not be compared; expected "
                "updates of one size, or a budget that suits both, nearest: "
                f"total_steps = {-(-one.total_steps // unit) * unit}"
            )


def read_suite(source: str | Path, make: bool = True, names: bool = True) -> Suite:
    """Reads and checks a suite.

    Args:
        source: the name of one that comes with marsrl, or the path of a TOML file.
        make: whether to make its objectives, which imports those of yours, and may be anybody's
            code: only for a suite that the user named.
        names: as for `Suite.check`; a store may outlive what it names.

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
        suite.check(make, names)
    except SuiteError as error:
        line = line_of(error.places, path.read_text())
        raise UserError(f"{path}{f', line {line}' if line else ''}: {error}") from error
    except UserError as error:
        start = "" if str(path) in str(error) else f"{path}: "
        raise UserError(f"{start}{error}") from error
    return suite


def is_builtin(suite: Suite) -> bool:
    """Whether this is the suite that `read_suite` finds under its name."""
    return suite.name in _BUILTIN and _parse(_BUILTIN[suite.name]) == suite


def select_tasks(patterns: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The known tasks that any of the patterns (`lbf/*`) means, in the order of the patterns.

    Raises:
        UserError: a pattern means none.
    """
    known = tuple(known)
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matching = [task for task in known if task == pattern or fnmatchcase(task, pattern)]
        if not matching:
            if any(sign in pattern for sign in "*?["):
                families = ", ".join(dict.fromkeys(map(family_of, known)))
                raise UserError(f"tasks: no task is like {shown(pattern)}; families: {families}")
            unknown = f"tasks: unknown task {shown(pattern)}{near_misses(pattern, known)}"
            raise UserError(no_bounds(pattern) or unknown)
        chosen |= dict.fromkeys(matching)
    return tuple(chosen)


def _parse(path: Path) -> Suite:
    return Suite.from_dict(read_toml(path))


def _without_sweeps(tables: dict[str, Table]) -> dict[str, Table]:
    settings = {
        name: {key: value for key, value in table.items() if key != "sweep"}
        for name, table in tables.items()
    }
    return {name: table for name, table in settings.items() if table}


def _check_exists(task: str) -> None:
    """Refuses a task outside the benchmark that nothing here can make; it is not imported."""
    module, colon, _ = task.rpartition(":")
    check_named(task)
    if colon and module != "jaxmarl" and file_of(module, Path.cwd()) is None:
        package = module.partition(".")[0]
        if module.endswith(".py") or find_spec(package) is None:
            raise UserError(f"{shown(task)} names no module: there is no {module} here")
