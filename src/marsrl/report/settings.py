"""In which settings the methods of a benchmark differ, and which they share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from marsrl.bench.labels import objective_of
from marsrl.bench.records import Results, RunRecord
from marsrl.config import recorded

REGION = ("eps", "eps_low", "eps_high", "eps_end")
"""The settings that are the size of the trust region."""
_NO_SETTING = ("task", "task_settings", "seeds", "devices")


class Setting(NamedTuple):
    """One setting of `Config`.

    Attributes:
        name: its name.
        values: objective -> task -> the value; tasks of which nothing has begun are left out.
        differs: whether the objectives differ in it on any task.
    """

    name: str
    values: dict[str, dict[str, Any]]
    differs: bool

    def value(self, objective: str, tasks: Iterable[str]) -> Any:
        """The one value that an objective has on all of these tasks; None if there are several."""
        found = [self.values.get(objective, {}).get(task) for task in tasks]
        return found[0] if found and all(x == found[0] for x in found) else None


def read_settings(results: Results) -> tuple[Setting, ...]:
    """All settings that a run has recorded, those first in which the objectives differ.

    A run that was recorded before a setting came has what there was then, see `config.LATER`.
    """
    cells = {(run.objective, run.task): run.config for run in results.runs if run.config}
    names = dict.fromkeys(name for config in cells.values() for name in config)
    names = [name for name in names if name not in _NO_SETTING]
    found = [_setting(name, cells, results.suite.objectives) for name in names]
    return tuple(sorted(found, key=lambda setting: not setting.differs))


def base_objective(runs: Iterable[RunRecord], label: str) -> str:
    """The objective behind a label, as its runs recorded it, or as its name says."""
    recorded = (run.config.get("objective") for run in runs if run.objective == label)
    return next((name for name in recorded if isinstance(name, str)), objective_of(label))


def _setting(
    name: str, cells: dict[tuple[str, str], dict[str, Any]], objectives: tuple[str, ...]
) -> Setting:
    values = {
        objective: {
            task: recorded(config, name)
            for (label, task), config in cells.items()
            if label == objective
        }
        for objective in objectives
    }
    if name == "objective":  # of a label that is its objective's name there is nothing to say
        differs = any(x != label for label, of in values.items() for x in of.values())
        return Setting(name, values, differs)
    tasks = {task for _, task in cells}
    differs = any(
        len({json.dumps(of[task], sort_keys=True) for of in values.values() if task in of}) > 1
        for task in tasks
    )
    return Setting(name, values, differs)
