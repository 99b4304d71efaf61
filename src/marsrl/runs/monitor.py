"""Watching a run: the progress bar of a terminal, or plain lines."""

from __future__ import annotations

import math
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marsrl.config import Config
from marsrl.errors import printable
from marsrl.runs.machine import Row


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
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            TextColumn("[cyan]{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("\n{task.fields[detail]}"),
            console=console,
            refresh_per_second=4,
        )
        self._task: Any = None

    def start(self, config: Config, step: int) -> None:
        """Shows the bar."""
        total = config.num_updates * config.steps_per_update
        self._task = self._progress.add_task(
            printable(f"{config.objective} on {config.task}"),
            total=total,
            completed=step,
            rate="compiling",
            detail="",
        )
        if self._console.is_terminal:
            self._progress.start()

    def progress(self, step: int, rows: list[Row]) -> None:
        """Moves the bar; on something else than a terminal, prints the details as a line."""
        self._progress.update(self._task, completed=step)
        if not rows:
            return
        speed = rows[0]["steps_per_second"]
        rate = f"{speed:,.0f} steps/s"
        detail = _detail(rows)
        self._progress.update(self._task, rate=rate, detail=detail)
        if not self._console.is_terminal:
            self._console.print(f"{step:>12,} steps  {rate}  {detail}", highlight=False)

    def message(self, text: str) -> None:
        """Prints above the bar."""
        self._progress.console.print(printable(text), highlight=False, markup=False)

    def stop(self) -> None:
        """Leaves the bar as it is."""
        self._progress.stop()


def _detail(rows: list[Row]) -> str:
    """Return per seed, and seed means of entropy and diagnostics."""

    def mean(name: str) -> str:
        values = [row[name] for row in rows if math.isfinite(row[name])]
        return f"{sum(values) / len(values):.3g}" if values else "-"

    returns = " ".join(f"{row['episode/return']:.1f}" for row in rows)
    low, high = min(r["ratio/min"] for r in rows), max(r["ratio/max"] for r in rows)
    return (
        f"return {returns} | entropy {mean('entropy')} | ratio {low:.2f}-{high:.2f} "
        f"kl {mean('approx_kl')} | dead {mean('gradient/dead')} "
        f"corrective {mean('gradient/corrective')} collapsed {mean('ratio/collapsed')}"
    )
