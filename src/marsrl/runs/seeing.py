"""The command line that looks at runs: runs, show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Column, Table

from marsrl.commandline import RunPath
from marsrl.console import PlainConsole
from marsrl.errors import UserError, command
from marsrl.presets import preset
from marsrl.runs.folder import PICTURES, RunFolder, resume_command
from marsrl.runs.listing import Overview, age, find_runs, overview
from marsrl.runs.lock import writer_of

_console = PlainConsole(highlight=False)


@dataclass(frozen=True)
class Runs:
    """List runs, the latest first."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = Path("runs")

    def __call__(self) -> None:
        """Prints a table."""
        found = sorted((overview(path) for path in find_runs(self.folder)), key=lambda x: x.seconds)
        plain: Any = {"box": None, "pad_edge": False, "collapse_padding": True}
        names = ("run", "task", "objective", "status")
        numbers = (Column(name, justify="right") for name in ("steps", "return", "age"))
        table = Table(*(Column(name, overflow="fold") for name in names), *numbers, **plain)
        for one in found:
            task, objective = (one.config.task, one.config.objective) if one.config else ("", "")
            name = str(one.path.relative_to(self.folder))
            cells = (name, task, objective, one.status, _steps(one), _score(one.mean_return))
            table.add_row(*cells, age(one.seconds))
        if found:
            _console.print(table)
        else:
            _console.say(f"{self.folder} has no runs")


@dataclass(frozen=True)
class Show:
    """Say what a run is, and what has become of it."""

    run: RunPath

    def __call__(self) -> None:
        """Prints status, scores and settings, those that differ from the preset first."""
        folder = RunFolder.open(self.run)
        config, one = folder.config(), overview(self.run)
        who = writer_of(self.run)
        by = f" by {who}" if who else ""
        _console.say(f"{self.run}: {one.status}{by} at {_steps(one)} steps, {age(one.seconds)} ago")
        for fault in _faults(folder):
            _console.say(f"{fault}; see: {command('doctor', self.run)}")
        if one.status in ("stopped", "dead"):
            _console.say(f"go on with: {resume_command(self.run, config)}")
        what = "best checkpoint" if one.final else "latest evaluation"
        for seed, value in sorted(one.returns.items()):
            _console.say(f"seed {seed}: return {value:.2f} ({what})")
        for seed, state in one.diverged.items():
            step, why = state.get("step"), state.get("not_finite") or "its loss or parameters"
            at = f"step {step:,}" if isinstance(step, int) else "an unknown step"
            _console.say(f"seed {seed}: diverged at {at}; not finite: {why}")
        for picture in PICTURES:
            if (self.run / picture).exists():
                _console.say(f"picture: {self.run / picture}")
        values, usual = config.to_dict(), _preset(config.task)
        own = [name for name, value in values.items() if value != usual.get(name)]
        for title, names in (
            (f"settings other than the preset of {config.task}", own),
            ("all others", [name for name in values if name not in own]),
        ):
            _console.say(f"\n{title}:")
            for name in names:
                _console.say(f"  {name} = {values[name]}")


def _faults(folder: RunFolder) -> list[str]:
    """What is wrong with the log, as far as that is seen without a look at the checkpoints."""
    try:
        return [fault for fault in (folder.log.damage(), folder.lacks_scores()) if fault]
    except UserError as error:
        return [str(error)]


def _preset(task: str) -> dict[str, Any]:
    try:
        return preset(task).settled().to_dict()
    except UserError:
        return {}


def _steps(one: Overview) -> str:
    if one.config is None:
        return f"{one.step:,}"
    return f"{one.step:,}/{one.config.num_updates * one.config.steps_per_update:,}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
