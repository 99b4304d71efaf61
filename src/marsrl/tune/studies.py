"""Optuna's studies in the folder of a search, which any number of processes share.

Optuna's journal says what was tried; the lock `N.claim` beside a trial's folder says whether the
process that trains it lives. The trial of one that does not is marked as failed and its choices are
queued again: whoever takes them goes on with its runs, from their checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from marsrl.bench.locks import FileLock, store_lock
from marsrl.bench.plan import Job
from marsrl.bench.sources import changed
from marsrl.errors import UserError, shown
from marsrl.extras import require
from marsrl.runs.lock import is_held
from marsrl.tune import space
from marsrl.tune.plan import FILE, TRIALS, Study, Tuning
from marsrl.tune.scores import WORST, num_steps

JOURNAL = "journal.log"
_RETRIED = "retry of"
_START = "start"
_AS_THEY_ARE = "as they are"
_FAILURE = "failure"
_PATIENCE = 300.0  # seconds for a lock: a sampler thinks while its process has it
_DRAWS = 100  # of a point for a trial, until it is a new one
_LEAST_STARTUP, _MOST_STARTUP = 4, 10


class Begun(NamedTuple):
    """A trial that this process is to train.

    Attributes:
        study: of the trial.
        trial: Optuna's.
        jobs: what it trains, one after another.
        claim: its lock, to be released once it has ended.
    """

    study: Study
    trial: Any
    jobs: list[Job]
    claim: FileLock

    @property
    def is_start(self) -> bool:
        """Whether it is the first of its study, or takes that up again."""
        return self.trial.user_attrs.get(_START, False)


class Counts(NamedTuple):
    """How far a study has come.

    Attributes:
        ended: trials with a score, or pruned.
        running: trials that processes train, these or others.
        goal: trials that it is to have.
    """

    ended: int
    running: int
    goal: int

    @property
    def begun(self) -> int:
        """Those that need not be begun any more."""
        return self.ended + self.running


class Studies:
    """The studies of a search; may be used by several threads.

    Raises:
        UserError: what its journal has was not chosen from its space.
    """

    def __init__(self, tuning: Tuning, folder: Path) -> None:
        self._tuning, self._folder = tuning, folder
        self._optuna = require("optuna", "tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        journal = folder / JOURNAL
        with store_lock(folder, _PATIENCE):
            _mend(journal)
        storages = self._optuna.storages
        backend = storages.journal.JournalFileBackend(str(journal), lock_obj=_JournalLock(folder))
        storage = storages.JournalStorage(backend)
        with store_lock(folder / TRIALS, _PATIENCE):  # or two processes would both begin
            self._studies = {study.name: self._open(study, storage) for study in tuning.studies}

    def begin(self) -> Begun | None:
        """The next trial, of the study that has the fewest; None if all have been begun."""
        with store_lock(self._folder / TRIALS, _PATIENCE):
            self._bury()
            counts = [(study, self.counts(study)) for study in self._tuning.studies]
            left = [(c.begun, study) for study, c in counts if c.begun < c.goal]
            if not left:
                return None
            return self._ask(min(left, key=lambda x: x[0])[1])

    def end(self, begun: Begun, score: float, failure: str = "") -> None:
        """Tells the score of a trial; `WORST` and why, if it has none."""
        if failure:
            begun.trial.set_user_attr(_FAILURE, failure)
        self._studies[begun.study.name].tell(begun.trial, score)

    def prune(self, begun: Begun) -> None:
        """Tells that a trial was ended as hopeless."""
        state = self._optuna.trial.TrialState.PRUNED
        self._studies[begun.study.name].tell(begun.trial, state=state)

    def counts(self, study: Study) -> Counts:
        """How far a study has come."""
        trials = self.trials(study)
        running = sum(trial.state.name == "RUNNING" for trial in trials)
        return Counts(sum(map(_has_ended, trials)), running, self._tuning.goal(study))

    def trials(self, study: Study) -> list[Any]:
        """Optuna's records of a study, in their order."""
        return self._studies[study.name].get_trials(deepcopy=False)

    def jobs(self, study: Study, trial: Any) -> list[Job]:
        """What a trial trains; nothing if it was ended before all its settings were chosen."""
        chosen = chosen_for(trial)
        if chosen is not None and set(space.free(study.dimensions)) - set(chosen):
            return []
        return self._tuning.jobs(self._folder, study, trial.number, chosen)

    def check_sources(self, folder: Path) -> None:
        """Refuses to go on with other code than what the trials that have a score are of.

        Args:
            folder: where the user's modules are.

        Raises:
            UserError: a task or a network of somebody's own has changed.
        """
        for study in self._tuning.studies:
            for trial in filter(_has_ended, self.trials(study)):
                for job in self.jobs(study, trial):
                    for kind, name in changed(job, folder).items():
                        raise UserError(
                            f"{name} has changed since trial {trial.number} was trained, whose "
                            f"score is of another {kind}; search anew, in another folder"
                        )

    def importances(self, study: Study) -> dict[str, float]:
        """How much each setting matters for being among the best tenth, in shares of 1.

        By PED-ANOVA (Watanabe et al., IJCAI 2023), of trials in the space; the largest first, none
        if too little is known.
        """
        importance, names = self._optuna.importance, space.free(study.dimensions).keys()
        scored = [t for t in self.trials(study) if _is_scored(t) and names <= t.params.keys()]
        if len({trial.value for trial in scored}) < _LEAST_STARTUP:
            return {}
        in_space = self._optuna.create_study(direction="maximize")
        in_space.add_trials(scored)
        evaluator = importance.PedAnovaImportanceEvaluator()
        return importance.get_param_importances(in_space, evaluator=evaluator)

    def _open(self, study: Study, storage: Any) -> Any:
        named: Any = {"storage": storage, "study_name": study.name, "pruner": self._pruner(study)}
        if study.name in {known.study_name for known in storage.get_all_studies()}:
            opened = self._optuna.load_study(**named)
            self._check(study, opened)
        else:
            opened = self._optuna.create_study(**named, direction="maximize")
        if self._tuning.sampler != "grid" and not opened.get_trials(deepcopy=False):
            start = space.start(study.dimensions, study.configs)
            opened.enqueue_trial(start, {_START: True, _AS_THEY_ARE: True})
        return opened

    def _check(self, study: Study, opened: Any) -> None:
        """Refuses a journal of another space, which Optuna would fail on later."""
        for trial in opened.get_trials(deepcopy=False):
            if name := _foreign(trial, _chosen_from(study, trial)):
                dim, chosen = study.dimensions.get(name), _choices(trial)
                now = f"{name} = {shown(dim.to_toml())}" if dim else f"no {name}"
                then = shown(chosen[name]) if name in chosen else "none"
                if name in trial.distributions:
                    then += f" of {shown(trial.distributions[name])}"
                raise UserError(
                    f"{self._folder / FILE} has {now} for {study.name}, but trial {trial.number} "
                    f"in {JOURNAL} has {then}; expected the space that the search began with: "
                    "another one needs another folder"
                )

    def _pruner(self, study: Study) -> Any:
        """Its steps are evaluations, of all tasks of a trial one after another."""
        pruners = self._optuna.pruners
        steps = sum(map(num_steps, study.configs))
        if self._tuning.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=_LEAST_STARTUP, n_warmup_steps=steps // 4)
        if self._tuning.pruner == "halving":
            return pruners.SuccessiveHalvingPruner(max(1, steps // 9), 3)
        return pruners.NopPruner()

    def _sampler(self, number: int, draw: int) -> Any:
        """A sampler of its own for each draw: what it chooses depends on the trials alone."""
        samplers = self._optuna.samplers
        seed = (self._tuning.sampler_seed + 1_000_003 * number + draw) % 2**32
        if self._tuning.sampler != "tpe" or draw >= _DRAWS // 2:  # a sure model draws few points
            return samplers.RandomSampler(seed=seed)
        startup = min(max(self._tuning.trials // 3, _LEAST_STARTUP), _MOST_STARTUP)
        return samplers.TPESampler(seed=seed, n_startup_trials=startup)

    def _ask(self, study: Study) -> Begun:
        opened, trials = self._studies[study.name], self.trials(study)
        if not any(trial.state.name == "WAITING" for trial in trials):
            opened.enqueue_trial(self._choose(study, trials), {_START: not trials})
        queued = next(x for x in self.trials(study) if x.state.name == "WAITING")  # Optuna's next
        dimensions = _chosen_from(study, queued)  # all of it queued: Optuna is to draw nothing
        trial = opened.ask({name: dim.distribution() for name, dim in dimensions.items()})
        place = self._place(study, trial.number)
        claim = FileLock(_claim(place))
        place.parent.mkdir(parents=True, exist_ok=True)
        claim.take()
        self._take_over(study, trial)
        return Begun(study, trial, self.jobs(study, trial), claim)

    def _choose(self, study: Study, trials: list[Any]) -> dict[str, Any]:
        """The next point; one that was not tried before, which would only have the same score.

        As if no trial had been lost: each of those is, or will be, another one.
        """
        trials = [trial for trial in trials if trial.state.name != "FAIL"]
        tried = [_choices(trial) for trial in trials]
        if self._tuning.sampler == "grid":
            return next(point for point in space.grid(study.dimensions) if point not in tried)
        # what objectives have in common comes first: so they draw the same of it
        dimensions = sorted(
            space.free(study.dimensions).items(), key=lambda x: x[0] in space.REGION
        )
        distributions = {name: dim.distribution() for name, dim in dimensions}
        point: dict[str, Any] = {}
        for draw in range(_DRAWS):
            sampler = self._sampler(len(trials), draw)
            drawn_from = self._optuna.create_study(direction="maximize", sampler=sampler)
            drawn_from.add_trials([trial for trial in trials if trial.state.is_finished()])
            point = drawn_from.ask(distributions).params
            if point not in tried:
                break
        return point  # of a space with few points it may be one that was

    def _take_over(self, study: Study, trial: Any) -> None:
        """Makes the runs of the trial that this one retries its own."""
        place, trials = self._place(study, trial.number), self.trials(study)
        before = trial.user_attrs.get(_RETRIED)
        while before is not None:
            old = self._place(study, before)
            if old.exists():
                for suffix in (".log", ".source"):
                    if old.with_suffix(suffix).exists():
                        old.with_suffix(suffix).rename(place.with_suffix(suffix))
                old.rename(place)
                return
            before = trials[before].user_attrs.get(_RETRIED)  # it had not come to this

    def _bury(self) -> None:
        """Fails the trials of processes that are gone, and queues their choices again."""
        for study in self._tuning.studies:
            trials = self.trials(study)
            queued = {trial.user_attrs.get(_RETRIED) for trial in trials}
            for trial in trials:
                if trial.state.name != "RUNNING" or self._is_alive(study, trial):
                    continue
                opened = self._studies[study.name]
                if trial.number not in queued:  # or this was as far as a process came before
                    kept = {key: trial.user_attrs.get(key, False) for key in (_START, _AS_THEY_ARE)}
                    opened.enqueue_trial(_choices(trial), kept | {_RETRIED: trial.number})
                opened.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                _claim(self._place(study, trial.number)).unlink(missing_ok=True)

    def _is_alive(self, study: Study, trial: Any) -> bool:
        """Whether the process that took a trial lives, or one that trains a run of it."""
        place = self._place(study, trial.number)
        locks = [_claim(place), *(job.lock for job in self.jobs(study, trial))]
        return any(map(is_held, locks))

    def _place(self, study: Study, number: int) -> Path:
        return self._tuning.trial_folder(self._folder, study, number)


def failure_of(trial: Any) -> str:
    """Why a trial has no score; empty if it has one, or none yet."""
    return trial.user_attrs.get(_FAILURE, "")


def chosen_for(trial: Any) -> dict[str, Any] | None:
    """What was chosen for a trial; None if it has the settings as they are."""
    return None if trial.user_attrs.get(_AS_THEY_ARE) else trial.params


def _has_ended(trial: Any) -> bool:
    return trial.state.name in ("COMPLETE", "PRUNED")


def _is_scored(trial: Any) -> bool:
    return trial.state.name == "COMPLETE" and trial.value > WORST


def _chosen_from(study: Study, trial: Any) -> dict[str, space.Uniform | space.Choice]:
    """What Optuna is to know of a trial's settings: of those as they are, what is in the space."""
    dimensions = space.free(study.dimensions)
    if chosen_for(trial) is not None:
        return dimensions
    return {name: dimensions[name] for name in space.start(study.dimensions, study.configs)}


def _choices(trial: Any) -> dict[str, Any]:
    """What a trial trains with, also if it waits in the queue."""
    return trial.system_attrs.get("fixed_params", {}) | trial.params


def _foreign(trial: Any, dimensions: Mapping[str, space.Uniform | space.Choice]) -> str | None:
    """A setting that a trial has, or lacks, though it would not if it were of this space."""
    chosen = _choices(trial)
    ended = _has_ended(trial)  # others may not have come to all of them
    for name in {**dimensions, **chosen}:
        dim, drawn_from = dimensions.get(name), trial.distributions.get(name)
        if dim is None or (drawn_from is None and ended):
            return name
        if drawn_from not in (None, dim.distribution()):
            return name
        if name in chosen and not dim.has(chosen[name]):
            return name
    return None


def _claim(place: Path) -> Path:
    return place.with_suffix(".claim")


class _JournalLock:
    """The lock under which Optuna appends to its journal: that of the folder.

    Optuna's own is a link that outlives a killed process by half a minute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = ExitStack()

    def acquire(self) -> bool:
        """Waits for it."""
        self._held.enter_context(store_lock(self._folder, _PATIENCE))
        return True

    def release(self) -> None:
        """Gives it back."""
        self._held.close()


def _mend(journal: Path) -> None:
    """Takes off a last line that a crash of the machine cut off: Optuna would append to it."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        journal.write_bytes(whole)
