"""Watching a run: the progress bar of a terminal, or plain lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from marsrl.config import Config
from marsrl.errors import UserError, printable, shown
from marsrl.runs.records import Row


class Monitor(Protocol):
    """Something that watches a run: the console, or nothing."""

    def start(self, config: Config, step: int) -> None:
        """The run begins (or goes on) at this environment step."""
        ...

    def progress(self, step: int, rows: list[Row]) -> None:
        """The run has reached this step; `rows` is the latest of each seed, possibly empty."""
        ...

    def message(self, text: str) -> None:
        """Something worth a line."""
        ...

    def stop(self) -> None:
        """The run ended or was interrupted."""
        ...


def check_monitor(monitor: object) -> None:
    """Raises UserError unless this is a `Monitor`; a class of them is none."""
    methods = ("start", "progress", "message", "stop")
    lacks = [name for name in methods if not callable(getattr(monitor, name, None))]
    if lacks or isinstance(monitor, type):
        has = f"which has no {', '.join(lacks)}" if lacks else "a class"
        raise UserError(
            f"monitor is {shown(monitor)}, {has}; expected None or a monitor, such as "
            "marsrl.runs.monitor.Silent() or an object of a class that is derived from it"
        )


class Silent:
    """A monitor that shows nothing."""

    def start(self, config: Config, step: int) -> None:
        """Nothing."""

    def progress(self, step: int, rows: list[Row]) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class ConsoleMonitor:
    """A bar of two lines on a terminal; elsewhere one line per report, however long.

    There too the first step of all is worth a line, since the first report may be minutes away.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_live = console.is_interactive and console.file.isatty()  # not FORCE_COLOR alone
        self._bar = _Bar(console=console, refresh_per_second=4)
        self._total = 0
        self._is_moving = False
        self._task: Any = None

    def start(self, config: Config, step: int) -> None:
        """Shows the bar."""
        self._total = config.num_updates * config.steps_per_update
        self._is_moving = False
        if self._is_live:
            self._task = self._bar.add_task("", total=self._total, completed=step, rows=[])
            self._bar.start()

    def progress(self, step: int, rows: list[Row]) -> None:
        """Moves the bar, or prints a line."""
        if self._is_live:
            self._bar.update(self._task, completed=step)
            if rows:
                self._bar.update(self._task, rows=rows)
        elif rows or not self._is_moving:
            width = len(f"{self._total:,}")
            place = f"{step:>{width},} of {self._total:,} steps"
            self.message(" | ".join([place, *([_rate(rows), *_details(rows)] if rows else [])]))
        self._is_moving = True

    def message(self, text: str) -> None:
        """Prints a line, above the bar."""
        self._bar.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Leaves the bar as it is."""
        if self._is_live:
            self._bar.stop()


class _Bar(Progress):
    """How far a run is, with what the latest rows say below it; what does not fit is left out."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield from _lines(task, self.console.width)


def _lines(task: Task, width: int) -> list[RenderableType]:
    """The bar's line and the line of details, neither wider than this."""
    rows, total = task.fields["rows"], task.total or 0
    remaining = "-:--" if task.time_remaining is None else _clock(task.time_remaining)
    parts = {
        "steps": f"{task.completed:,.0f}/{total:,.0f} steps",
        "rate": _rate(rows) if rows else "",
        "elapsed": _clock(task.elapsed or 0),
        "remaining": f"{remaining} left",
    }
    for name in ("elapsed", "rate", "steps"):  # the least useful first
        if width - len(" ".join(parts.values())) - 2 >= _SHORTEST_BAR:
            break
        del parts[name]
    text = " ".join(filter(None, parts.values()))
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total, task.completed, width=max(1, width - len(text) - 2))
    line.add_row(bar, Text(text, no_wrap=True))
    details = _details(rows) if rows else ["no rows yet"]
    while len(details) > 1 and len(" | ".join(details)) > width:
        details.pop()
    return [line, Text(" | ".join(details), no_wrap=True, overflow="ellipsis")]


def _rate(rows: list[Row]) -> str:
    return f"{rows[0]['steps_per_second']:,.0f} steps/s"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _details(rows: list[Row]) -> list[str]:
    """What the latest rows of all seeds say, the most useful first."""
    return [
        f"return {_of_seeds([row.get('episode/return') for row in rows])}",
        *(f"{label} {_mean(rows, name)}" for name, label in _SHOWN.items()),
        f"ratio {_extreme(rows, 'ratio/min', min)} to {_extreme(rows, 'ratio/max', max)}",
    ]


def _of_seeds(values: list[float | None]) -> str:
    """Each seed's value if they are few, else their mean and range."""
    if len(values) <= _FEW_SEEDS:
        return " ".join("-" if not known else f"{known[0]:.2f}" for known in map(_known, values))
    known = _known(*values)
    if not known:
        return "-"
    mean = sum(known) / len(known)
    return f"{mean:.2f} ({min(known):.2f} to {max(known):.2f}, {len(known)} seeds)"


def _mean(rows: list[Row], name: str) -> str:
    known = _known(*(row.get(name) for row in rows))
    return f"{sum(known) / len(known):.3g}" if known else "-"


def _extreme(rows: list[Row], name: str, choose: Callable[[list[float]], float]) -> str:
    known = _known(*(row.get(name) for row in rows))
    return f"{choose(known):.2f}" if known else "-"


def _known(*values: float | None) -> list[float]:
    """Those that were measured."""
    return [value for value in values if value is not None and math.isfinite(value)]


_SHORTEST_BAR = 10
_FEW_SEEDS = 4
_SHOWN = {
    "entropy": "entropy",
    "update_kl": "kl",  # which `target_kl` steers
    "gradient/dead": "dead",
    "gradient/corrective": "corrective",
    "ratio/collapsed": "collapsed",
}
"""Means over seeds of a training row, and what the console calls them."""
