"""The command line of a search for settings: `marsrl tune`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from marsrl.bench.labels import settings_of
from marsrl.bench.process import OTHERS_TRAIN, check_workers
from marsrl.bench.suite import Suite, read_suite
from marsrl.commandline import Flag
from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.envs.tasks import TASKS, Bounds, family_of
from marsrl.errors import UserError, command, near_misses, shown
from marsrl.extras import require
from marsrl.presets import preset
from marsrl.report.wording import count
from marsrl.runs.folder import default_folder
from marsrl.trust import KINDS, check_trusted
from marsrl.tune.launch import Ended, check_tasks, search
from marsrl.tune.plan import FILE, Pruner, Sampler, Study, Tuning, adopt, is_search, read_tuning
from marsrl.tune.results import BEST, check_best, write_results
from marsrl.tune.scores import Score
from marsrl.tune.space import Space, code_in, default_space, read_space
from marsrl.tune.studies import Studies
from marsrl.tune.trials import best_of

SEEDS = (100, 101)
"""Tuning seeds: no suite reports on them, and `marsrl train` does not use them by itself."""
_TRIALS = 32
_WITH_FOLDER = ("trials", "workers", "report", "trust")

_console = PlainConsole(highlight=False)


@dataclass(frozen=True)
class Tune:
    """Find settings for a task, or for each objective of a suite; needs marsrl[tune].

    Any setting that is given is fixed; the others of the search space are tuned. Whatever ends it,
    `marsrl tune FOLDER` goes on.
    """

    source: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SUITE|FILE.toml|FOLDER]")
    ] = None
    """A suite, whose objectives get equal effort, or a search to go on with; default: --task."""
    config: tyro.conf.OmitArgPrefixes[Config] = Config(seeds=SEEDS)
    objectives: tuple[str, ...] = ()
    """Several objectives, or some of a suite's, with the same trials, seeds and space each."""
    trials: int | None = None
    """How many, of each objective; the first has the settings as they are, but for a grid's.
    Default: 32, or as many as FOLDER was to have."""
    sampler: Sampler = "tpe"
    """What chooses settings: a model of what was good so far, chance, or a grid."""
    pruner: Pruner = "median"
    """What ends hopeless trials: below the median, not among the best third, or nothing."""
    score: Score = "last"
    """What counts: the last evaluation, the mean of all (area under the curve), or the best."""
    space: Path | None = None
    """A space file (docs/tuning.md); default: eps, step sizes, epochs, minibatches, entropy,
    width."""
    per_family: bool = False
    """Of a suite: settings for each family, instead of one setting for all tasks."""
    workers: int | None = None
    """Trials at a time; default: one per GPU if there are any, else one per core."""
    sampler_seed: int = 0
    """Seed of the sampler's choices."""
    out: Path | None = None
    """Folder of the search; default: runs/tune-TASK-TIME."""
    report: Flag = False
    """Only write table, figures and best settings of FOLDER again."""
    trust: Flag = False
    """Run code that FOLDER names: a task, objective or network module:factory."""
    given: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()

    def __call__(self) -> None:
        """Trains what is missing; exit code 3 if others train some of it."""
        check_workers(self.workers)
        require("optuna", "tune")
        if self.source is not None and _is_folder(self.source):
            folder = Path(self.source)
            tuning = self._go_on(folder)
        elif self.report:
            raise UserError(f"--report needs the FOLDER of a search, with its {FILE}")
        else:
            tuning, folder = self._begin()
        finished = True
        if not self.report:
            _tell_plan(tuning, folder)
            finished = search(tuning, folder, self.workers, _tell)
        self._finish(tuning, folder, finished)

    def _go_on(self, folder: Path) -> Tuning:
        tuning = read_tuning(folder)
        if other := [name for name in self.given if name not in _WITH_FOLDER]:
            raise UserError(
                f"{folder} says what it tunes: --{other[0].replace('_', '-')} cannot change it; "
                f"expected none but {', '.join(f'--{name}' for name in _WITH_FOLDER)}"
            )
        if not self.report:
            for study in tuning.studies:
                named = [(x, getattr(config, x)) for config in study.configs for x in KINDS]
                for kind, name in [*named, *code_in(study.dimensions)]:
                    check_trusted(kind, name or "", folder / FILE, self.trust)
            if self.trials is not None:
                tuning = dataclasses.replace(tuning, trials=self.trials)
            tuning.check()
            if self.trials is not None:
                tuning = adopt(tuning, folder)
        return tuning

    def _begin(self) -> tuple[Tuning, Path]:
        if len(set(self.objectives)) < len(self.objectives):
            raise UserError(f"objectives = {shown(self.objectives)} must be different ones")
        if self.source is None:
            tuning, name = self._of_task(), self.config.task
        else:
            suite = read_suite(self.source)
            tuning, name = self._of_suite(suite), suite.name
        tuning.check()
        check_best(tuning)
        folder = self.out or default_folder(f"tune-{name}")
        if not is_search(folder):
            check_tasks(tuning)
        return adopt(tuning, folder), folder

    def _of_task(self) -> Tuning:
        if self.per_family:
            raise UserError("--per-family is of a suite, and none was named")
        names = self.objectives or (self.config.objective,)
        configs = {x: [dataclasses.replace(self.config, objective=x)] for x in names}
        space = self._space(configs)
        task = TASKS.get(self.config.task)
        bounds = (Bounds(task.low, task.high) if task else None,)
        studies = [Study(x, x, None, tuple(configs[x]), bounds, space.of(x)) for x in names]
        return self._tuning(studies)

    def _of_suite(self, suite: Suite) -> Tuning:
        for name in ("task", "objective"):
            if name in self.given:
                other = (
                    "the suite names its tasks" if name == "task" else "choose with --objectives"
                )
                raise UserError(f"--{name} is not for a suite: {other}")
        if shared := set(self.config.seeds) & set(suite.seeds):
            raise UserError(
                f"seeds {sorted(shared)} are among those that {suite.name} reports on "
                f"{suite.seeds}; tuning needs others, such as {_free_seeds(suite)}"
            )
        for name in self.objectives:
            if name not in suite.objectives:
                closest = near_misses(name, suite.objectives)
                raise UserError(f"{suite.name} has no objective {shown(name)}{closest}")
        names = self.objectives or suite.objectives
        for name in names:
            for setting, value in settings_of(name).items():
                if setting in self._fixed:
                    raise UserError(
                        f"{setting} = {shown(getattr(self.config, setting))} is given, but {name} "
                        f"has {setting} = {shown(value)} by its name; expected no "
                        f"--{setting.replace('_', '-')}, or others in --objectives"
                    )
        fixed = {name: getattr(self.config, name) for name in (*self._fixed, "seeds")}
        configs = {
            name: [dataclasses.replace(suite.config(task, name), **fixed) for task in suite.tasks]
            for name in names
        }
        space = self._space(configs)
        for name in names:
            if own := set(settings_of(name)) & set(space.of(name)):
                raise UserError(f"{name} has {min(own)} by its name, so it cannot be tuned")
        bounds = tuple(map(suite.bounds_of, suite.tasks))
        studies = [Study(x, x, None, tuple(configs[x]), bounds, space.of(x)) for x in names]
        if self.per_family:
            studies = [part for study in studies for part in _by_family(study)]
        return self._tuning(studies, suite.to_toml())

    def _space(self, configs: dict[str, list[Config]]) -> Space:
        if self.space is None:
            return default_space(configs, self._fixed)
        return read_space(self.space, configs, self._fixed)

    @property
    def _fixed(self) -> tuple[str, ...]:
        """Settings of a run that were given, but for the seeds."""
        known = [f.name for f in dataclasses.fields(Config) if f.name != "seeds"]
        return tuple(name for name in self.given if name in known)

    def _tuning(self, studies: Sequence[Study], suite: str | None = None) -> Tuning:
        return Tuning(
            tuple(studies),
            _TRIALS if self.trials is None else self.trials,
            self.sampler,
            self.pruner,
            self.score,
            self.sampler_seed,
            self._fixed,
            suite,
        )

    def _finish(self, tuning: Tuning, folder: Path, finished: bool) -> None:
        trials = write_results(tuning, folder, Studies(tuning, folder))
        for study in tuning.studies:
            best = best_of(trials, study)
            chosen = best and (_numbers(best.settings) or "the settings as they are")
            found = f"trial {best.number}, {chosen}" if best else "no trial yet"
            score = f" score {best.score:.4g}" if best else ""
            _console.say(f"{study.name}:{score} {found}")
        _console.say(f"trials: {folder / 'trials.md'}")
        if (folder / BEST).exists():
            use = "bench run {} --store STORE" if tuning.suite else "train --config {}"
            _console.say(
                f"best settings; try them on other seeds: marsrl {use.format(folder / BEST)}"
            )
        if not finished:
            _console.say(f"others train the rest, see: {command('tune', folder, '--report')}")
            raise SystemExit(OTHERS_TRAIN)


def default_tune(task: str, args: Sequence[str]) -> Tune:
    """The command before its words are read: its task's preset, and which options are given."""
    words = {a[2:].partition("=")[0].replace("-", "_") for a in args if a.startswith("--")}
    names = [f.name for kind in (Config, Tune) for f in dataclasses.fields(kind)]
    given = tuple(name for name in names if {name, f"no_{name}"} & words)
    return Tune(config=preset(task, seeds=SEEDS), given=given)


def _is_folder(source: str) -> bool:
    """Whether it names a folder; what is no search does not stand before a suite of marsrl's."""
    folder = Path(source)
    return is_search(folder) or (folder.is_dir() and not _is_suite(source))


def _is_suite(source: str) -> bool:
    try:
        read_suite(source, make=False, names=False)
    except UserError:
        return False
    return True


def _by_family(study: Study) -> list[Study]:
    families: dict[str, list[int]] = {}
    for i, config in enumerate(study.configs):
        families.setdefault(family_of(config.task), []).append(i)
    return [
        dataclasses.replace(
            study,
            name=f"{study.name}/{family}",
            family=family,
            configs=tuple(study.configs[i] for i in places),
            bounds=tuple(study.bounds[i] for i in places),
        )
        for family, places in families.items()
    ]


def _free_seeds(suite: Suite) -> str:
    least = max(*SEEDS, *suite.seeds) + 1
    return f"--seeds {least} {least + 1}"


def _tell_plan(tuning: Tuning, folder: Path) -> None:
    studies = ", ".join(study.name for study in tuning.studies)
    trials = count(tuning.goal(tuning.studies[0]), "trial")
    _console.say(f"{folder}: {trials}{' each' if len(tuning.studies) > 1 else ''} of {studies}")


def _tell(ended: Ended) -> None:
    score = f"{ended.score:.4g}" if ended.status in ("scored", "pruned") else "counts as the worst"
    reason = f" ({ended.reason})" if ended.reason else ""
    counts = ended.counts
    _console.say(
        f"{ended.study.name} {ended.number}: {ended.status}, {score}{reason}; "
        f"{counts.ended} of {counts.goal} trials"
    )


def _numbers(settings: dict[str, object]) -> str:
    return ", ".join(
        f"{name} = {value:.3g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in settings.items()
    )
