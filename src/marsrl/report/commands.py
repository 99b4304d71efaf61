"""The command line of reports about runs: compare, plot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.errors import UserError
from marsrl.runs.folder import default_folder
from marsrl.runs.monitor import ConsoleMonitor

_console = PlainConsole()


@dataclass(frozen=True)
class Compare:
    """Train several objectives with the same seeds, then tabulate and plot them."""

    config: tyro.conf.OmitArgPrefixes[Config] = field(
        default_factory=lambda: Config(seeds=(0, 1, 2, 3, 4), total_steps=3_000_000)
    )
    objectives: tuple[str, ...] = ("mars", "maspo", "mappo")
    """What to compare; `--objective` is not used."""
    out: Path | None = None
    """Folder for the runs and results; default: runs/compare-TASK-TIME."""
    resume: bool = False
    """Go on with an interrupted comparison in --out."""

    def __call__(self) -> None:
        """Trains what is missing and writes table and figure."""
        from marsrl.report.compare import compare
        from marsrl.runs.runner import resume, train

        out = self.out or default_folder(f"compare-{self.config.task}")
        if out.exists() and not self.resume:
            raise UserError(f"{out} exists; choose another --out, or continue it with --resume")
        if not 2 <= len(set(self.objectives)) == len(self.objectives) <= 10:
            raise UserError(f"objectives = {self.objectives} must be 2 to 10 different ones")
        configs = [dataclasses.replace(self.config, objective=name) for name in self.objectives]
        for config in configs:
            run = out / config.objective
            if run.exists():
                resume(run, ConsoleMonitor(_console), expected=config)
            else:
                train(config, run, ConsoleMonitor(_console))
        compare([out / name for name in self.objectives], out)
        _console.say((out / "table.md").read_text())
        _console.say(f"wrote {out / 'table.md'} and {out / 'comparison.png'}")


@dataclass(frozen=True)
class Plot:
    """Draw logged series of one or several runs, a panel each."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    series: tuple[str, ...] = ("return",)
    """Of evaluations or training, such as `return`, `entropy` or `train/episode/return`."""
    out: Path = Path("plot.png")
    """File to write: .png, .pdf or .svg."""

    def __call__(self) -> None:
        """Draws and says where."""
        from marsrl.report.series import plot

        _console.say(f"wrote {plot(self.runs, self.series, self.out)}")
