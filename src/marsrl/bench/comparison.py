"""Comparisons: suites of one task, of a configuration or of runs that there are already."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from marsrl.bench.damage import check_run_sound
from marsrl.bench.plan import Job
from marsrl.bench.records import Results
from marsrl.bench.results import read_jobs
from marsrl.bench.suite import Suite
from marsrl.bench.suite_values import Table
from marsrl.config import Config
from marsrl.envs.tasks import TASKS, Bounds
from marsrl.errors import UserError
from marsrl.files import path_of
from marsrl.presets import preset
from marsrl.runs.folder import RunFolder

RETURNS = Bounds(0.0, 1.0)
"""The bounds with which scores are returns: of a task that has none."""


def comparison(config: Config, objectives: Sequence[str], bounds: Bounds | None = None) -> Suite:
    """The suite of a task with several objectives, seeds and settings as in a configuration.

    Args:
        config: of each of them, but for its objective.
        objectives: labels of methods, the first of which is compared with each other one.
        bounds: of a task outside the benchmark; default: `RETURNS`.

    Raises:
        UserError: there are not two different ones, or the suite has a fault, see `Suite.check`.
    """
    if not 2 <= len(set(objectives)) == len(objectives):
        raise UserError(f"objectives = {tuple(objectives)} must be at least 2 different ones")
    suite = _suite(config, objectives, {"settings": _settings(config)}, bounds)
    suite.check()
    return suite


def results_of(folders: Sequence[str | Path], bounds: Bounds | None = None) -> Results:
    """The results of runs of one task, as those of a suite; they may differ in other settings.

    A run is called by its objective; if others have the same one, also by its folder.

    Args:
        folders: of the runs, at least two.
        bounds: see `comparison`.

    Raises:
        UserError: one is no run folder, or damaged; or they differ in task, seeds, budget or how
            they were evaluated.
    """
    if len(folders) < 2:
        raise UserError(f"runs: got {len(folders)}, expected at least 2 to compare")
    folders = [path_of(folder, "folders") for folder in folders]
    configs = [RunFolder.open(folder).config().settled() for folder in folders]
    first = configs[0]
    for folder, config in zip(folders, configs, strict=True):
        for name in ("task", "seeds"):
            ours, theirs = getattr(first, name), getattr(config, name)
            if ours != theirs:
                raise UserError(
                    f"{name} must be the same in all runs, but is {ours!r} in {folders[0]} and "
                    f"{theirs!r} in {folder}"
                )
    labels = _labels(folders, configs)
    tables = {label: _settings(x) for label, x in zip(labels, configs, strict=True)}
    suite = _suite(first, labels, {"objective": tables}, bounds)
    jobs = [Job(*run) for run in zip(configs, folders, labels, strict=True)]
    for job in jobs:
        check_run_sound(job.folder, job.config.seeds)
    return read_jobs(suite, jobs, folders[0])


def _suite(
    config: Config, objectives: Sequence[str], tables: Table, bounds: Bounds | None
) -> Suite:
    task = config.task
    if bounds and task in TASKS:
        raise UserError(f"bounds: those of {task} are the benchmark's, and stay as they are")
    own = {} if task in TASKS else {"bounds": {task: (bounds or RETURNS)._asdict()}}
    head = {"name": task, "tasks": [task], "objectives": objectives, "seeds": config.seeds}
    return Suite.from_dict(head | tables | own)


def _settings(config: Config) -> Table:
    """What a configuration has other than its task's preset."""
    usual = preset(config.task).to_dict()
    return {
        name: value
        for name, value in config.to_dict().items()
        if name not in ("task", "objective", "seeds") and value != usual[name]
    }


def _labels(folders: Sequence[Path], configs: Sequence[Config]) -> list[str]:
    """What the runs are called, each by another name."""
    counts = Counter(config.objective for config in configs)
    names = [re.sub(r"[^\w.+-]+", "-", folder.resolve().name) for folder in folders]
    labels = [
        config.objective if counts[config.objective] == 1 else f"{config.objective}@{name}"
        for config, name in zip(configs, names, strict=True)
    ]
    for folder, label in zip(folders, labels, strict=True):
        if labels.count(label) > 1:
            raise UserError(f"{folder} is there twice, or another run has its objective and name")
    return labels
