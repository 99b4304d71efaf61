"""The command line of environments: envs, check-env."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro
from rich.table import Column, Table

from marsrl.console import PlainConsole

_console = PlainConsole()


@dataclass(frozen=True)
class Envs:
    """List the tasks."""

    def __call__(self) -> None:
        """Prints a table of the benchmark's tasks, then those of other installed packages."""
        from marsrl.envs.tasks import BOUNDS_VERSION, FAMILIES, TASKS, hidden_tasks, installed_tasks

        plain: Any = {"box": None, "pad_edge": False, "collapse_padding": True}  # 80 columns
        columns = ("agents", "obs", "state", "actions", "horizon", "random", "reference")
        table = Table(Column("task", no_wrap=True), *columns, **plain)
        for name, task in TASKS.items():
            sizes = (task.num_agents, task.obs_size, task.state_size, task.action, task.max_steps)
            table.add_row(name, *map(str, sizes), _short(task.low), _short(task.high))
        lines: Any = {"show_lines": True} if _console.wraps else plain  # between wrapped rows
        families = Table("family", "team reward", "end of an episode", "reference", **lines)
        for name, family in FAMILIES.items():
            families.add_row(name, family.reward, family.ends, family.high)
        others, hidden = installed_tasks(), hidden_tasks()
        installed = Table(Column("task", no_wrap=True), "of another package", **plain)
        for name, point in others.items():
            installed.add_row(name, point.value)
        _console.print(table, families, *([installed] if others else []))
        for point in hidden:
            _console.say(f"not reached, because its name is taken: {point.name} of {point.value}")
        _console.print(
            "random, reference: mean returns of the random policy and of a good one, the bounds of "
            f"normalised scores (version {BOUNDS_VERSION}).\n"
            "Besides: any environment of JaxMARL as jaxmarl:NAME, your own as module:factory or "
            "path/file.py:factory; outside of JAX, pettingzoo:MODULE or pettingzoo:module:factory, "
            "and gymnasium:ID."
        )


@dataclass(frozen=True)
class CheckEnv:
    """Check that an environment keeps to the interface; every fault is a sentence."""

    task: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK|MODULE:FACTORY|FILE.py:FACTORY")
    ]
    task_settings: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Settings of the environment in place of the task's, as NAME VALUE pairs."""

    def __call__(self) -> None:
        """Makes and checks it."""
        from marsrl.envs.check import check_env
        from marsrl.envs.registry import make_unchecked

        for note in check_env(make_unchecked(self.task, **self.task_settings)):
            _console.say(f"note: {note}")
        _console.say(f"{self.task} keeps to the interface")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
