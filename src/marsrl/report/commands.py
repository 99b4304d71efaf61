"""The command line of reports about runs: compare, plot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Annotated

import tyro

from marsrl.bench import show
from marsrl.bench.checks import check_same_code, check_unplanned, check_version
from marsrl.bench.comparison import comparison, results_of
from marsrl.bench.launch import train_here
from marsrl.bench.plan import adopt, plan, store_suite
from marsrl.bench.progress import has_ended
from marsrl.bench.results import Results, check_replaceable, collect, write
from marsrl.bench.sources import check_sources
from marsrl.bench.suite import Suite
from marsrl.bench.worker import train_runs
from marsrl.commandline import ConfigFile, Flag, Log
from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.envs.tasks import Bounds
from marsrl.errors import Interrupted, UserError, command
from marsrl.extras import require
from marsrl.files import check_new
from marsrl.runs.folder import CONFIG, default_folder
from marsrl.runs.machine import describe_versions
from marsrl.runs.monitor import ConsoleMonitor

_console = PlainConsole(highlight=False)


@dataclass(frozen=True)
class Compare:
    """Train several objectives on one task, and report on them as the benchmark does.

    Needs marsrl[bench]. The folder is a store, and so works with all of `marsrl bench`.
    """

    config: tyro.conf.OmitArgPrefixes[Config] = Config()
    objectives: tuple[str, ...] = ("mars", "maspo", "mappo")
    """What to compare, the first with each other one; `--objective` is not used."""
    out: Path | None = None
    """Folder for the runs and the page; default: runs/compare-TASK-TIME."""
    resume: bool = False
    """Go on with an interrupted comparison in --out, or add objectives and seeds to it."""
    runs: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUN RUN ...]")] = ()
    """Compare these runs of one task instead, and train nothing."""
    bounds: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = None
    """Mean returns that are scores of 0 and 1, of a task outside the 47; default: as they are."""
    mixed: Flag = False
    """Resume with other code of marsrl, or other versions of what decides numbers."""
    log: Log = ()
    """Where else the logs go."""
    file: ConfigFile = None
    """Settings to begin with: TOML, or the config.json of a run; options come after it."""
    trust: Flag = False
    """Run a task, objective or network module:factory that a config.json names."""

    def __call__(self) -> None:
        """Trains what is missing; writes results, figures and page, and says who is ahead."""
        from marsrl.report.page import write_page
        from marsrl.report.summary import summarize_benchmark

        require("pyarrow", "bench")  # not after hours of training
        bounds = None if self.bounds is None else Bounds(*self.bounds)
        if self.runs:
            results = results_of(self.runs, bounds)
            out = self.out or default_folder(f"compare-{results.suite.name}")
            check_replaceable(results, out)
        else:
            out = self.out or default_folder(f"compare-{self.config.task}")
            self._check_free(out)
            if self.resume and bounds is None:
                bounds = _bounds_in(out, self.config.task)
            results = self._trained(comparison(self.config, self.objectives, bounds), out)
        target = results.suite.objectives[0] if self.runs else self.objectives[0]
        summary = summarize_benchmark(results, target)
        write(results, out)
        _console.print(show.returns(summary))
        for line in show.verdicts(summary):
            _console.say(line)
        _console.say(f"wrote {write_page(summary, out)}")

    def _check_free(self, out: Path) -> None:
        runs = [out / name for name in self.objectives]
        if old := [str(run) for run in runs if (run / CONFIG).exists()]:
            way = command("compare", "--runs", *old)
            raise UserError(f"{out} is of an older marsrl; see it with: {way}")
        if self.resume and not (self.out and out.exists()):
            where = f"there is no {out}" if self.out else "none is named"
            raise UserError(f"--resume goes on with the comparison in --out, and {where}")
        if out.exists() and not self.resume:
            way = ", or continue it with --resume" if (out / "suite.toml").exists() else ""
            raise UserError(f"{out} exists; choose another --out{way}")

    def _check(self, named: Suite, out: Path, suite: Suite) -> None:
        """Refuses what cannot be trained beside what there is, before the store is changed."""
        every = plan(suite, out)
        check_unplanned(suite, out, every)
        check_version(every)
        check_sources(every, Path.cwd())  # its page will have all of them
        if not self.mixed and not all(has_ended(job) for job in plan(named, out)):
            check_same_code(every, describe_versions())

    def _trained(self, named: Suite, out: Path) -> Results:
        """The results of a store, once all that the comparison names has been trained."""
        from marsrl.envs.registry import make
        from marsrl.runs.followers import choose

        make(self.config.task, **self.config.task_settings)  # or refuses, with nothing written
        choose(self.log)
        adopt(named, out, partial(self._check, named, out))
        todo = [job for job in plan(named, out) if not has_ended(job)]
        monitor, log = ConsoleMonitor(_console), self.log or None
        try:
            for job in todo:
                _console.say(job.name)
                train_here(job, partial(train_runs, [job.config], [job.folder], monitor, log))
        except Interrupted as stop:
            way = f"{command('compare', '--resume', '--out', out)}, and the other words as before"
            raise Interrupted(f"stopped; go on with: {way}", stop.code - 128) from None
        return collect(out)


def _bounds_in(store: Path, task: str) -> Bounds | None:
    """The bounds that a begun comparison has for a task of its own."""
    own = store_suite(store).bounds.get(task) if (store / "suite.toml").exists() else None
    return Bounds(**own) if own else None


@dataclass(frozen=True)
class Plot:
    """Draw logged series of one or several runs, a panel each."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    series: tuple[str, ...] = ("return",)
    """Of evaluations or training, such as `return`, `entropy` or `train/episode/return`."""
    out: Path | None = None
    """File to write: .png, .pdf or .svg; default: plot.png, or plot-2.png and so on."""

    def __call__(self) -> None:
        """Draws and says where."""
        from marsrl.report.series import plot

        names = chain(["plot.png"], (f"plot-{number}.png" for number in count(2)))
        out = self.out or next(path for path in map(Path, names) if not path.exists())
        check_new(out)
        _console.say(f"wrote {plot(self.runs, self.series, out)}")
