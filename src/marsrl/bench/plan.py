"""The jobs of a suite in a store, how far each has come, and in which order they start.

A store is a folder: `suite.toml`, and under `runs/TASK/LABEL-ID/` a run folder `seeds-0-1-2` for
each job, with its output in `.log` beside it, a `.lock` that its process holds, and a `.failed`
with the reason if it crashed twice, and a `.source` that tells an own objective, task or network
from later ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from marsrl.bench.labels import base_of
from marsrl.bench.locks import store_lock
from marsrl.bench.suite import Suite, read_suite
from marsrl.bench.suite_values import Table
from marsrl.config import INPUTS, OUTSIDE, Config, recorded
from marsrl.envs.tasks import family_of
from marsrl.errors import UserError, command, near_misses, reason, shown
from marsrl.files import write_beside
from marsrl.objectives import OBJECTIVES

T = TypeVar("T")
_SEAL = "# checksum "


class Job(NamedTuple):
    """Some seeds of a cell, trained in one program.

    Attributes:
        config: the cell's configuration with the job's seeds.
        folder: its run folder.
        label: of its method, an objective with its settings.
    """

    config: Config
    folder: Path
    label: str

    @property
    def log(self) -> Path:
        """The output of its processes, one after another."""
        return self.folder.with_suffix(".log")

    @property
    def lock(self) -> Path:
        """Locked by whoever trains it, until its process has ended."""
        return self.folder.with_suffix(".lock")

    @property
    def failure(self) -> Path:
        """Why it failed, if it did."""
        return self.folder.with_suffix(".failed")

    @property
    def source(self) -> Path:
        """The digests of an own objective's, task's and network's source when it was begun."""
        return self.folder.with_suffix(".source")

    @property
    def name(self) -> str:
        """What messages call it."""
        seeds = " ".join(map(str, self.config.seeds))
        return f"{self.config.task} {self.label}, seeds {seeds}"


def plan(suite: Suite, store: Path) -> list[Job]:
    """All jobs of a suite, in the order in which they should start.

    Tasks take turns by family, and all methods of a task follow each other: a benchmark that
    stops early has whole comparisons, of every family. (Longest first would fill the last hour
    better, but leave the short families for the end.) With few seeds per job, all cells get their
    first seeds before any gets more.

    Run folders keep the seeds that they were started with; the seeds that no folder has are split
    into new jobs.

    Args:
        suite: what to train.
        store: where; it need not exist.
    """
    families: dict[str, list[str]] = {}
    for task in suite.tasks:
        families.setdefault(family_of(task), []).append(task)
    cells = [
        _cell_jobs(suite, store, label, suite.config(task, label))
        for task in _take_turns(families.values())
        for label in suite.objectives
    ]
    return _take_turns(cells)


def job_of(store: Path, label: str, config: Config) -> Job:
    """The job of these seeds of a cell."""
    seeds = "-".join(map(str, config.seeds))
    return Job(config, cell_folder(store, label, config) / f"seeds-{seeds}", label)


def batches(jobs: Iterable[Job], size: int) -> list[list[Job]]:
    """Jobs that share a process: up to `size` that differ in nothing but `config.INPUTS`.

    Each batch stands where its first job stood.
    """
    found: list[list[Job]] = []
    filling: dict[str, list[Job]] = {}
    for job in jobs:
        program = _program(job.config)
        batch = filling.get(program)
        if batch is None or len(batch) == size:
            filling[program] = batch = []
            found.append(batch)
        batch.append(job)
    return found


def shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """The share `index` (from 1) of `count`; together the shares are all jobs, each once.

    All methods of a task and its seeds are in one share: if shares run on different machines, what
    they train must not differ in the method too.
    """
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.config.task, min(job.config.seeds)), []).append(job)
    return [job for group in list(groups.values())[index - 1 :: count] for job in group]


def cell_folder(store: Path, label: str, config: Config) -> Path:
    """Where the jobs of a cell are; no two labels and configurations have the same."""
    return task_folder(store, config.task) / f"{_slug(label)}-{config.hash}"


def task_folder(store: Path, task: str) -> Path:
    """Where the cells of a task are."""
    return store / "runs" / _slug(task)


def store_suite(store: Path) -> Suite:
    """The suite of a store, whose objectives need not be here.

    Raises:
        UserError: the folder is no store, or its suite is wrong.
    """
    path = store / "suite.toml"
    if not path.is_file():
        raise UserError(f"{store} is no store: it has no suite.toml; marsrl bench run makes one")
    _check_seal(path)
    return read_suite(path, make=False, names=False)


def adopt(suite: Suite, store: Path, check: Callable[[Suite], None] | None = None) -> Suite:
    """Makes a suite the store's; what the store's has beyond it in tasks, methods, seeds stays.

    It stays with its settings: those of families and tasks that the suite does not name, and of
    methods, are the store's.

    Args:
        suite: what is to be trained.
        store: where.
        check: called with the suite that the store is about to have; if it raises, nothing has
            been written.

    Returns:
        The suite that the store has now.

    Raises:
        UserError: a cell that has begun, or that the suite does not name, would get other
            settings, the methods could not be compared, or the folder holds results alone, which
            those of a new store would replace.
    """
    while True:
        before = _suite_of(store)
        grown = _merged(suite, store)
        if check:
            check(grown)  # without the lock: it takes long, and others wait for that
        store.mkdir(parents=True, exist_ok=True)
        with store_lock(store):  # or what two add at a time is lost
            if _suite_of(store) == before:  # else somebody has added to it meanwhile
                if grown != before:
                    write_suite(grown, store)
                return grown


def _suite_of(store: Path) -> Suite | None:
    return store_suite(store) if (store / "suite.toml").exists() else None


def retire(label: str, store: Path) -> Suite:
    """Takes a method out of a store's suite, the inverse of `adopt`; its runs stay there.

    Raises:
        UserError: the store does not plan it, or nothing else.
    """
    with store_lock(store):
        suite = store_suite(store)
        if label not in suite.objectives:
            closest = near_misses(label, suite.objectives)
            raise UserError(f"{store} has no objective {shown(label)}{closest}")
        others = tuple(name for name in suite.objectives if name != label)
        if not others:
            raise UserError(f"{label} is the only objective of {store}")
        suite = dataclasses.replace(
            suite,
            objectives=others,
            removed=(*suite.removed, label),
        )
        write_suite(suite, store)
    return suite


def write_suite(suite: Suite, store: Path) -> None:
    """Writes a store's suite; to be called by who has its lock."""
    write_beside(store / "suite.toml", _sealed(suite.to_toml()).encode())


def _merged(suite: Suite, store: Path) -> Suite:
    """A suite with what a store's has beyond it; see `adopt`."""
    if (store / "suite.toml").exists():
        return _grown(suite, store_suite(store), store)
    if (store / "runs.json").exists():
        raise UserError(
            f"{store} holds results without their run folders; choose another folder, which "
            f"{command('bench', 'restore', store, '--store', 'STORE')} fills with them"
        )
    return suite


def _grown(suite: Suite, old: Suite, store: Path) -> Suite:
    """A suite with what a store's old one has beyond it."""
    every = (*old.objectives, *old.removed)
    others = [label for label in every if label not in suite.objectives]
    known = (*suite.objectives, *map(base_of, suite.objectives), *suite.objective_settings)
    theirs, ours = old.objective_settings, suite.objective_settings
    tables = _tables_of(others, theirs) | {
        name: _with_beyond(ours.get(name, {}), theirs.get(name, {}), suite.tasks)
        for name in dict.fromkeys(known)
    }
    places = _with_beyond(_places(suite), _places(old), suite.tasks)
    grown = dataclasses.replace(
        suite,
        tasks=_union(old.tasks, suite.tasks),
        objectives=_union(old.objectives, suite.objectives),
        seeds=_union(old.seeds, suite.seeds),
        family_settings=places.get("family", {}),
        task_settings=places.get("task", {}),
        objective_settings={name: table for name, table in tables.items() if table},
        bounds=old.bounds | suite.bounds,
        chosen=_chosen(suite, old, others),
        removed=tuple(label for label in others if label in old.removed),
    )
    for task, bounds in old.bounds.items():
        if bounds != grown.bounds[task] and task_folder(store, task).exists():
            raise UserError(
                f"{store} has begun {task} with scores of {_ends(bounds)} as 0 and 1, and not "
                f"{_ends(grown.bounds[task])}; keep them, or choose another folder"
            )
    _check_kept(store, old, suite, grown)
    try:
        grown.check_comparable()
    except UserError as error:
        raise UserError(f"with what {store} has already: {error}") from error
    return grown


def _places(suite: Suite) -> Table:
    """The settings of a suite's families and tasks, as tables in a table."""
    return {"family": suite.family_settings, "task": suite.task_settings}


def _with_beyond(table: Table, old: Table, tasks: Iterable[str]) -> Table:
    """A table of settings whose inner ones are its own for these tasks, and an old one's beyond."""
    tasks = set(tasks)
    whole = {name: x for name, x in table.items() if name not in ("family", "task")}
    for key, named in (("family", set(map(family_of, tasks))), ("task", tasks)):
        inner = {name: x for name, x in old.get(key, {}).items() if name not in named}
        inner |= {name: x for name, x in table.get(key, {}).items() if name in named}
        whole |= {key: inner} if inner else {}
    return whole


def _chosen(suite: Suite, old: Suite, others: Iterable[str]) -> str | dict[str, str]:
    """How settings were found: as each suite says of its own methods."""
    texts = {label: suite.chosen_of(label) for label in suite.objectives}
    texts |= {label: old.chosen_of(label) for label in others}
    if len(set(texts.values())) == 1:
        return suite.chosen or old.chosen
    return {label: text for label, text in texts.items() if text}


def _ends(bounds: dict[str, float]) -> str:
    return f"{bounds['low']:g} and {bounds['high']:g}"


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The settings that differ between two configurations, in words; empty if none does.

    Those that no number depends on do not count. A configuration that was recorded before a
    setting came has what there was then.
    """
    names = [key for key in old | new if key not in OUTSIDE]
    values = {key: [recorded(x, key) for x in (old, new)] for key in names}
    return ", ".join(f"{key} = {a} and {b}" for key, (a, b) in values.items() if a != b)


def seeds_of(folder: Path) -> tuple[int, ...]:
    """The seeds that the name of a job's folder tells; none if it is no job's folder."""
    return _seeds_in(folder.name) if folder.is_dir() else ()


def rival_locks(job: Job) -> list[Path]:
    """The locks of other jobs with a seed of this one: planned when the suite had fewer or more.

    That of a job that has begun need not be there any more.
    """
    cell = job.folder.parent
    begun = [p.with_suffix(".lock") for p in cell.glob("seeds-*") if seeds_of(p)]
    return sorted(
        path
        for path in {*cell.glob("seeds-*.lock"), *begun}
        if path != job.lock and set(_seeds_in(path.stem)) & set(job.config.seeds)
    )


def _sealed(text: str) -> str:
    """A suite's text below a line that tells whether it is still the same."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{_SEAL}{digest}; delete this line if you change the file\n{text}"


def _check_seal(path: Path) -> None:
    """Refuses a store's suite that is not what was written; one without a seal is taken."""
    try:
        first, _, rest = path.read_text().partition("\n")
    except (OSError, UnicodeError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    if first.startswith(_SEAL) and _sealed(rest) != f"{first}\n{rest}":
        raise UserError(
            f"{path} was edited or damaged: its checksum differs; if you edited it, delete its "
            "first line"
        )


def _cell_jobs(suite: Suite, store: Path, label: str, config: Config) -> list[Job]:
    cell = cell_folder(store, label, config)
    begun = [seeds for folder in cell.glob("seeds-*") if (seeds := seeds_of(folder))]
    begun = [seeds for seeds in begun if set(seeds) & set(suite.seeds)]
    taken = {seed for seeds in begun for seed in seeds}
    left = [seed for seed in suite.seeds if seed not in taken]
    size = suite.seeds_per_job or len(suite.seeds)
    new = [tuple(left[i : i + size]) for i in range(0, len(left), size)]
    return [
        job_of(store, label, dataclasses.replace(config, seeds=seeds))
        for seeds in sorted((*begun, *new))  # begun or not: shards must not change meanwhile
    ]


def _seeds_in(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split("-")[1:])) if re.fullmatch(r"seeds(-\d+)+", name) else ()


def _check_same(store: Path, label: str, old: Config, new: Config) -> None:
    if new.hash != old.hash and cell_folder(store, label, old).exists():
        raise UserError(
            f"{store} has begun {label} on {old.task} with other settings "
            f"({differences(old.to_dict(), new.to_dict())}); choose another folder"
        )


def _check_kept(store: Path, old: Suite, named: Suite, grown: Suite) -> None:
    """Refuses to change what a store has begun, and what it plans beyond the suite it adopts."""
    changed: dict[str, str] = {}
    for task in old.tasks:
        for label in old.objectives:
            was, becomes = (suite.config(task, label) for suite in (old, grown))
            _check_same(store, label, was, becomes)
            is_named = task in named.tasks and label in named.objectives
            seeds = tuple(x for x in old.seeds if not (is_named and x in named.seeds))
            if seeds and was.hash != becomes.hash:
                job = job_of(store, label, dataclasses.replace(was, seeds=seeds))
                changed[job.name] = differences(was.to_dict(), becomes.to_dict())
    for name, settings in changed.items():
        more = f", and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise UserError(
            f"{named.name} would change what {store} has beyond it: {name} ({settings}){more}; "
            f"take the settings of {store / 'suite.toml'}, or choose another folder"
        )


def _take_turns(groups: Iterable[Iterable[T]]) -> list[T]:
    """The first of each group, then the second of each, and so on."""
    nothing = object()
    rounds = zip_longest(*groups, fillvalue=nothing)
    return [item for items in rounds for item in items if item is not nothing]  # pyright: ignore[reportReturnType] (the filler is left out)


def _union(old: tuple[T, ...], new: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*old, *new)))


def _tables_of(labels: Iterable[str], tables: dict[str, Table]) -> dict[str, Table]:
    """The tables of settings that these methods use."""
    used = {name for label in labels for name in (label, base_of(label))}
    return {name: table for name, table in tables.items() if name in used}


def _program(config: Config) -> str:
    """What is the same of configurations that can be inputs of one program."""
    values = config.to_dict()
    if config.objective not in OBJECTIVES:  # whose formula may hold eps itself
        return json.dumps(values, sort_keys=True)
    # what is off in one and on in the other makes two programs; there is always an eps
    inputs = {name: values.get(name) is None and name != "eps" for name in INPUTS}
    return json.dumps(values | inputs, sort_keys=True)


def _slug(name: str) -> str:
    """A name as that of a folder; what labels are made of stays, or two could be one."""
    return re.sub(r"[^\w.@=,+-]+", "-", name)
