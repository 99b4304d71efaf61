"""The command line of the benchmark: `marsrl bench ...`."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import tyro

from marsrl.bench import show
from marsrl.bench.checks import check_same_code, check_unplanned, check_version
from marsrl.bench.cluster import run_ray
from marsrl.bench.damage import faults
from marsrl.bench.labels import objective_of
from marsrl.bench.launch import Outcome, run_local
from marsrl.bench.marl_eval import from_marl_eval, to_marl_eval
from marsrl.bench.measure import costs
from marsrl.bench.plan import Job, adopt, plan, retire, shard, store_suite
from marsrl.bench.process import OTHERS_TRAIN, check_workers, default_workers, gpus
from marsrl.bench.progress import has_ended, unplanned
from marsrl.bench.restore import restore
from marsrl.bench.results import (
    Results,
    RunRecord,
    check_replaceable,
    collect,
    part,
    read,
    run_records,
    write,
)
from marsrl.bench.sources import check_sources, is_outdated, set_aside
from marsrl.bench.suite import Suite, read_suite, select_tasks
from marsrl.commandline import Flag
from marsrl.console import PlainConsole
from marsrl.envs.tasks import TASKS, library_of
from marsrl.errors import UserError, check_choice, check_number, command, shown
from marsrl.extras import check_installed, require
from marsrl.files import check_new, write_beside
from marsrl.objectives import OBJECTIVES
from marsrl.reading import read_json
from marsrl.report.grids import Endpoint
from marsrl.report.origins import extensions, mixtures
from marsrl.report.verdict import MARGIN
from marsrl.report.wording import count, extension_line, mixture_line
from marsrl.runs.machine import describe_source, describe_versions
from marsrl.system import sigterm_interrupts
from marsrl.trust import check_trusted

_console = PlainConsole(highlight=False)
_PAUSE = 10.0  # seconds between two looks at what others train

StorePath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STORE")]
SuiteName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE|FILE.toml")]


@dataclass(frozen=True)
class Plan:
    """Say what a suite trains, and about how long it takes on this machine."""

    suite: SuiteName
    """The name of one that comes with marsrl, such as nano, or the path of your own."""
    store: Path | None = None
    """Folder of the runs: what it has is not counted again, and trials are kept in it."""
    workers: int | None = None
    """Processes at a time; default: one per GPU if there are any, else one per core."""
    measure: bool = True
    """Try a few updates of each task of which no job has ended yet; without it, no code that the
    suite names is imported."""

    def __call__(self) -> None:
        """Prints a row per task, and the sums."""
        check_workers(self.workers)
        suite = read_suite(self.suite, make=self.measure)
        with tempfile.TemporaryDirectory() as nowhere:
            store = self.store or Path(nowhere)
            jobs = plan(suite, store)
            known = costs(jobs, store, self.measure, _console.say)
            _console.print(show.estimates(suite, jobs, known))
            workers = self.workers or default_workers(gpus())
            _console.say(show.total(suite, jobs, known, workers))


@dataclass(frozen=True)
class Run:
    """Train what is missing; any number of these may work on one store at a time."""

    suite: SuiteName
    """The name of one that comes with marsrl, such as nano, or the path of your own."""
    store: Path
    """Folder of the runs."""
    workers: int | None = None
    """Processes at a time; default: one per GPU if there are any, else one per core."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """Only the i-th of n shares of the jobs, for job arrays; i from 1 to n."""
    tasks: tuple[str, ...] = ()
    """Only these tasks, such as `lbf/*`; default: all."""
    ray: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """Train on a Ray cluster, by default the one that runs; --workers is then Ray's business."""
    gpus: float = 0.0
    """With --ray: GPUs per job; 0.5 lets two share one."""
    retrain: tuple[str, ...] = ()
    """Set aside what the store has of these objectives, methods, tasks or networks, and train it
    anew."""
    wait: bool = False
    """Stay until the jobs that others train are done too, and go on with what they leave."""
    trust: Flag = False
    """Run code, `module:factory`, that the store names and the suite here does not."""
    mixed: Flag = False
    """Train beside runs of other code of marsrl, or of other versions of what decides numbers."""

    def __call__(self) -> None:
        """Trains, and says what became of it; exit code 1 if a job failed, 3 if others train some.

        Jobs that another launcher has are tried again when all others are done.
        """
        check_workers(self.workers)
        store = self.store.absolute()  # for Ray, whose workers have folders of their own
        named = read_suite(self.suite)
        if (store / "suite.toml").exists():
            _check_trusted(store, named, self.trust)
        if self.ray is not None:
            self._cluster()
            require("ray", "ray")
        suite = adopt(named, store, partial(self._check, store))
        jobs = self._mine(plan(suite, store), suite)
        for job in jobs:
            self._set_aside(job)
        todo = [job for job in jobs if not has_ended(job)]
        _console.say(f"{len(jobs) - len(todo)} of {len(jobs)} jobs are done, {len(todo)} to go")
        if todo and (describe_source() or {}).get("dirty"):
            _console.say(
                "note: marsrl's source has changes that are in no commit: nobody can repeat this"
            )
        try:
            with sigterm_interrupts():
                outcomes, left = self._train_all(todo, suite, store)
        except KeyboardInterrupt as stop:
            same = f"the same command{' without --retrain' if self.retrain else ''}"
            _console.say(f"interrupted; {same} goes on where the checkpoints left off")
            (number,) = stop.args or (signal.SIGINT,)
            raise SystemExit(128 + number) from None
        _finish(outcomes, left, self.store)

    def _train_all(
        self, todo: list[Job], suite: Suite, store: Path
    ) -> tuple[list[Outcome], list[Job]]:
        """What became of the jobs, and those that are left to others."""
        outcomes: dict[Job, Outcome] = {}
        while todo:
            found = self._train(todo, suite.points_per_job)
            outcomes |= {outcome.job: outcome for outcome in found}
            tried = {job for job, outcome in outcomes.items() if outcome.status != "locked"}
            left = self._mine(plan(suite, store), suite)  # some were split up meanwhile
            todo = [job for job in left if not has_ended(job) and job not in tried]
            if all(outcome.status == "locked" for outcome in found):
                if not self.wait:
                    break
                time.sleep(_PAUSE)
        return [*outcomes.values()], todo

    def _check(self, store: Path, suite: Suite) -> None:
        """Refuses what cannot be trained so, before the store is changed."""
        every, here = plan(suite, store), Path.cwd()
        self._check_retrain(every)
        check_unplanned(suite, store, every)
        check_version(every)
        anew = {job for job in every if any(is_outdated(job, here, x) for x in self._meant(job))}
        jobs = self._mine(every, suite)
        if self.ray is None:  # or else each job would fail by itself
            todo = [job.config.task for job in jobs if not has_ended(job)]
            for needed in filter(None, dict.fromkeys(map(library_of, todo))):
                check_installed(*needed)
        check_sources([x for x in every if x not in anew], here)
        if not self.mixed and any(job in anew or not has_ended(job) for job in jobs):
            stays = set(every) - (anew & set(jobs))
            check_same_code([x for x in every if x in stays], describe_versions())

    def _mine(self, jobs: list[Job], suite: Suite) -> list[Job]:
        return _share(_selected(jobs, suite, self.tasks), self.shard)

    def _check_retrain(self, jobs: list[Job]) -> None:
        known = dict.fromkeys(name for job in jobs for name in _names(job))
        for name in self.retrain:
            check_choice("retrain", name, known)

    def _meant(self, job: Job) -> list[str]:
        """On account of which of its names a job is to be trained anew."""
        return [meant for name in self.retrain if (meant := _names(job).get(name))]

    def _set_aside(self, job: Job) -> None:
        for name in self._meant(job):
            if set_aside(job, Path.cwd(), name):
                _console.say(f"{job.name}: set aside, to be trained anew")

    def _train(self, jobs: list[Job], points_per_job: int) -> list[Outcome]:
        if self.ray is None:
            return run_local(jobs, self.workers, _tell, points_per_job)
        return run_ray(jobs, *self._cluster(), _tell, points_per_job)

    def _cluster(self) -> tuple[str | None, float]:
        if self.ray and len(self.ray) > 1:
            raise UserError(f"ray is {' '.join(self.ray)!r}, expected one address")
        check_number("gpus", self.gpus, 0, 64)
        return (self.ray[0] if self.ray else None), self.gpus


@dataclass(frozen=True)
class Status:
    """Show how far a store has come."""

    store: StorePath

    def __call__(self) -> None:
        """Prints a table of tasks by objectives, and what needs a look."""
        suite = store_suite(self.store)
        jobs = plan(suite, self.store)
        table, totals = show.progress(suite, jobs)
        _console.print(table)
        _console.say(totals)
        records: list[RunRecord] = []
        for job in jobs:
            if job.failure.exists():
                reason = job.failure.read_text(errors="replace").strip()
                _console.say(f"failed: {job.name}: {reason}")
            found = list(faults(job))
            for fault in found:
                _console.say(f"damaged: {job.name}: {fault}")
            records += [] if found else run_records(job)
        _say_unlike(records)
        _say_unplanned(self.store)


@dataclass(frozen=True)
class Report:
    """Collect the results of a store and write them as tables and as a page."""

    store: StorePath
    """A store, or a folder with the three files of results."""
    out: Path | None = None
    """Folder to write; default: the store."""
    replace: bool = False
    """Write over other results than those of this store, if --out has them."""
    target: Annotated[str | None, tyro.conf.arg(metavar="OBJECTIVE")] = None
    """What is compared with each other objective; default: mars, if it is there."""
    endpoint: Endpoint = "last"
    """What a run scores: its last parameters, those of its best evaluation, or the area under its
    evaluations."""
    margin: float = MARGIN
    """How much lower a score that matches may be."""
    tasks: tuple[str, ...] = ()
    """Only these tasks, such as `lbf/*`; default: all."""

    def __call__(self) -> None:
        """Writes, prints the scores and says where the page is."""
        from marsrl.report.page import write_page
        from marsrl.report.summary import summarize_benchmark

        out = self.out or self.store
        results = _load(self.store)
        if self.tasks:
            results = part(results, select_tasks(self.tasks, results.suite.tasks))
        summary = summarize_benchmark(results, self.target, self.endpoint, self.margin)
        other = bool(self.tasks) or out.resolve() != self.store.resolve()
        if other and not self.replace:
            way = "choose another --out, or write over it with --replace"
            check_replaceable(results, out, way)
        if other or _is_store(self.store):  # published tables stay as they are
            write(results, out)
        if _is_store(self.store):
            _say_unplanned(self.store)
        if summary.groups:
            _console.print(show.scores(summary))
        _console.say(f"wrote {write_page(summary, out)}")


@dataclass(frozen=True)
class Add:
    """Add an objective to a store; the next `bench run` trains it."""

    objective: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="OBJECTIVE|MODULE:FACTORY[@SETTING=VALUE]")
    ]
    store: Path
    """Folder of the runs."""

    def __call__(self) -> None:
        """Tries it, then writes it into the store's suite."""
        suite = store_suite(self.store)
        chosen = suite.chosen if self.objective in suite.removed else ""
        new = dataclasses.replace(suite, objectives=(self.objective,), chosen=chosen)
        others = (name for name in suite.objectives if objective_of(name) in OBJECTIVES)
        with_others = dict.fromkeys((*others, self.objective))  # foreign ones are not imported
        dataclasses.replace(suite, objectives=tuple(with_others)).check()
        runs = count(len(suite.tasks) * len(suite.seeds), "run")
        adopt(new, self.store)
        _console.say(f"{self.objective} works; it is part of {self.store}: {runs}")


@dataclass(frozen=True)
class Remove:
    """Take an objective out of a store's suite; its runs stay, and `bench add` takes it back."""

    objective: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OBJECTIVE")]
    store: Path
    """Folder of the runs."""

    def __call__(self) -> None:
        """Writes the store's suite without it."""
        retire(self.objective, self.store)
        _console.say(
            f"{self.objective} is no part of {self.store} any more; its runs are still there"
        )


@dataclass(frozen=True)
class Export:
    """Write the results of a store in marl-eval's JSON."""

    store: StorePath
    """A store, or a folder with the three files of results."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.json")]

    def __call__(self) -> None:
        """Writes, says where, and what of the results is not alike."""
        check_new(self.file, "FILE.json")
        results = _load(self.store)
        write_beside(self.file, json.dumps(to_marl_eval(results)).encode())
        _say_unlike(results.runs)
        if without := sum(run.status not in ("done", "diverged") for run in results.runs):
            _console.say(f"left out: {count(without, 'run')} that have not ended")
        _console.say(f"wrote {self.file}")


@dataclass(frozen=True)
class Import:
    """Read results in marl-eval's JSON; `bench report` makes a page of them."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.json")]
    out: Path
    """Folder to write, which must not hold other results."""

    def __call__(self) -> None:
        """Writes the three files of results."""
        if (self.out / "runs.json").exists() or (self.out / "suite.toml").exists():
            raise UserError(f"{self.out} holds results already; choose another --out")
        write(from_marl_eval(read_json(self.file), self.file.stem), self.out)
        _console.say(f"wrote {self.out}; see: {command('bench', 'report', self.out)}")


@dataclass(frozen=True)
class Restore:
    """Make a store of published results, or add them to one; `bench run` goes on from there."""

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder of a page, or any with the three files of results."""
    store: Path
    """Folder of the runs."""

    def __call__(self) -> None:
        """Writes run folders and says how many."""
        written, kept, unfinished = restore(read(self.results), self.store)
        others = f"; {self.store} had begun {len(kept)} others itself" if kept else ""
        _console.say(f"restored {count(len(written), 'job')}{others}")
        if unfinished:
            left = count(unfinished, "run")
            _console.say(f"left to train: {left}, see: {command('bench', 'status', self.store)}")


def _networks(suite: Suite) -> set[str]:
    """The own networks that a suite's settings name."""
    pairs = product(suite.tasks, suite.objectives)
    return {name for pair in pairs if (name := suite.config(*pair).network)}


def _tell(outcome: Outcome) -> None:
    _console.say(show.outcome_line(outcome))


def _say_unlike(runs: Sequence[RunRecord]) -> None:
    for mixture in mixtures(runs):
        _console.say(f"not all alike: {mixture_line(mixture)}")
    for extension in extensions(runs):
        _console.say(f"trained further than they were to be: {extension_line(extension)}")


def _say_unplanned(store: Path) -> None:
    for folder in unplanned(store_suite(store), store):
        _console.say(f"not of this suite, left out: {folder}")


def _is_store(folder: Path) -> bool:
    """Whether there are run folders, or the three files of results alone."""
    return (folder / "suite.toml").exists()


def _load(folder: Path) -> Results:
    return collect(folder) if _is_store(folder) else read(folder)


def _check_trusted(store: Path, named: Suite, trust: bool) -> None:
    """Refuses code that a store's suite names and the one that the user named does not."""
    source, theirs = store / "suite.toml", store_suite(store)
    objectives = set(map(objective_of, named.objectives))
    for name in map(objective_of, theirs.objectives):
        check_trusted("objective", name, source, trust or name in objectives)
    for name in theirs.tasks:
        check_trusted("task", name, source, trust or name in named.tasks)
    mine = _networks(named)
    for name in _networks(theirs):
        check_trusted("network", name, source, trust or name in mine)


def _names(job: Job) -> dict[str, str]:
    """What a job's method, task and network may be called, and which of them each name means."""
    config = job.config
    own = {} if config.task in TASKS else {config.task: config.task}
    own |= {config.network: config.network} if config.network else {}
    return {job.label: config.objective, config.objective: config.objective} | own


def _selected(jobs: list[Job], suite: Suite, patterns: tuple[str, ...]) -> list[Job]:
    chosen = select_tasks(patterns, suite.tasks) if patterns else suite.tasks
    return [job for job in jobs if job.config.task in chosen]


def _share(jobs: list[Job], which: str | None) -> list[Job]:
    if which is None:
        return jobs
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", which)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"shard is {shown(which)}, expected I/N with I from 1 to N, such as 1/4")
    return shard(jobs, int(match[1]), int(match[2]))


def _finish(outcomes: Sequence[Outcome], left: Sequence[Job], store: Path) -> None:
    """Says what became of the jobs, and which others train; the exit code tells it too."""
    counts = Counter(outcome.status for outcome in outcomes if outcome.status != "locked")
    counts |= Counter({"being trained by others": len(left)} if left else {})
    _console.say(", ".join(f"{n} {status}" for status, n in counts.items()) or "nothing to do")
    _console.say(f"see: {command('bench', 'status', store)}")
    if counts["failed"]:
        raise SystemExit(1)
    if left:
        raise SystemExit(OTHERS_TRAIN)


@dataclass(frozen=True)
class Bench:
    """Plan, train and report a benchmark: tasks x objectives x seeds."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Plan | Run | Status | Report | Add | Remove | Restore | Export | Import
    ]

    def __call__(self) -> None:
        """Does what the subcommand says."""
        self.command()
