"""Training the trials of a search in processes of this machine, each on a core of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from marsrl.bench.launch import Outcome, completed, train_batch
from marsrl.bench.plan import Job
from marsrl.bench.process import claim_gpus, places
from marsrl.envs.tasks import family_of
from marsrl.errors import Interrupted, UserError, command
from marsrl.system import signals_noted
from marsrl.tune.plan import Study, Tuning
from marsrl.tune.scores import WORST, Measured, Score, combine, measure, num_steps
from marsrl.tune.studies import Begun, Counts, Studies

_LOOK = 0.5  # seconds between two looks at a run that trains


class Ended(NamedTuple):
    """What became of a trial.

    Attributes:
        study: of the trial.
        number: of the trial in its study.
        status: scored, pruned, diverged or failed.
        score: its score; of a pruned trial, as far as it came.
        reason: why it failed.
        counts: how far its study has come.
    """

    study: Study
    number: int
    status: str
    score: float
    reason: str
    counts: Counts


def search(
    tuning: Tuning, folder: Path, workers: int | None, report: Callable[[Ended], None]
) -> bool:
    """Trains trials until every study has, or others train, as many as it is to have.

    Args:
        tuning: the search.
        folder: which has it.
        workers: processes at a time; default: one for each GPU, or each core.
        report: called with each trial that has ended.

    Returns:
        Whether none is left that others train.

    Raises:
        UserError: other launchers have all GPUs, a trial fails before any has succeeded, or own
            code is no more what the trials with a score were trained with.
        Interrupted: by SIGTERM or Ctrl-C; the runs have saved what they came to.
    """
    studies = Studies(tuning, folder)
    with claim_gpus(workers) as devices, _signals(folder) as stop:
        launchers = [
            _Launcher(tuning, studies, place, stop, report) for place in places(devices, workers)
        ]
        with ThreadPoolExecutor(len(launchers)) as pool:
            try:
                for _ in completed([pool.submit(launcher.run) for launcher in launchers]):
                    pass
            finally:
                stop.set()
    return not any(studies.counts(study).running for study in tuning.studies)


def check_tasks(tuning: Tuning) -> None:
    """Makes the tasks, each family's once, in a process of its own: this one needs no device.

    Raises:
        UserError: one cannot be made.
    """
    configs = {family_of(c.task): c for study in tuning.studies for c in study.configs}
    tasks = [(config.task, config.task_settings) for config in configs.values()]
    process = subprocess.run(
        [sys.executable, "-P", "-c", _MAKE, str(Path.cwd()), json.dumps(tasks)],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise UserError((process.stderr.strip().splitlines() or ["the task cannot be made"])[-1])


_MAKE = """
import json, sys
sys.path.append(sys.argv[1])
from marsrl.envs.registry import make
from marsrl.errors import UserError
try:
    for task, settings in json.loads(sys.argv[2]):
        make(task, **settings)
except UserError as error:
    sys.exit(str(error))
"""


class _Launcher:
    """Trains one trial after another in one place."""

    def __init__(
        self,
        tuning: Tuning,
        studies: Studies,
        place: dict[str, str],
        stop: threading.Event,
        report: Callable[[Ended], None],
    ) -> None:
        self._tuning, self._studies, self._place = tuning, studies, place
        self._stop, self._report = stop, report

    def run(self) -> None:
        """Until none is left to begin, or all are to stop."""
        while not self._stop.is_set():
            self._studies.check_sources(Path.cwd())
            begun = self._studies.begin()
            if begun is None:
                return
            try:
                self._train(begun)
            finally:
                begun.claim.release()

    def _train(self, begun: Begun) -> None:
        """Trains the runs of a trial in turn; a stop leaves it to whoever takes it up again."""
        trial = _Trial(begun, self._tuning)
        for job in begun.jobs:
            outcome = self._attempt(job, trial)
            if outcome.status == "failed":
                return self._fail(begun, outcome.reason)
            if outcome.status == "done":
                trial.look()
            if trial.verdict:
                break
            if outcome.status != "done":
                return None
            trial.next()
        return self._end(begun, trial)

    def _attempt(self, job: Job, trial: _Trial) -> Outcome:
        """Trains one run, and ends it as soon as its trial is hopeless."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:  # a process dies with the thread that started it
            future = pool.submit(train_batch, [job], str(Path.cwd()), self._place, stop)
            try:
                while not wait([future], _LOOK).done:
                    if self._stop.is_set() or trial.look():
                        stop.set()
            except BaseException:
                stop.set()
                raise
        (outcome,) = future.result()
        return outcome

    def _fail(self, begun: Begun, reason: str) -> None:
        if begun.is_start:  # it stays as it is, for whoever mends what was wrong
            raise UserError(f"the settings to start from cannot be trained: {reason}")
        self._studies.end(begun, WORST, reason)
        self._tell(begun, "failed", WORST, reason)

    def _end(self, begun: Begun, trial: _Trial) -> None:
        score = WORST if trial.verdict == "diverged" else trial.score
        if trial.verdict == "pruned":
            self._studies.prune(begun)
        else:
            no_score = trial.verdict or "no finite return"
            self._studies.end(begun, score, no_score if score == WORST else "")
        self._tell(begun, trial.verdict or "scored", score)

    def _tell(self, begun: Begun, status: str, score: float, reason: str = "") -> None:
        counts = self._studies.counts(begun.study)
        self._report(Ended(begun.study, begun.trial.number, status, score, reason, counts))


class _Trial:
    """A trial while it trains: what it came to, and whether it is hopeless.

    Attributes:
        verdict: pruned or diverged, if it is hopeless.
        score: as far as it came, over its tasks so far.
    """

    def __init__(self, begun: Begun, tuning: Tuning) -> None:
        self._begun = begun
        self._kind: Score = tuning.score
        self._ended: list[float] = []
        self._steps = 0
        self._last = sum(num_steps(job.config) for job in begun.jobs)
        self._reported = 0
        self._measured = Measured()
        self.verdict = ""
        self.score = WORST

    def look(self) -> bool:
        """Reads what the run has come to, and tells Optuna; True if the trial is hopeless."""
        index = len(self._ended)
        job, bounds = self._begun.jobs[index], self._begun.study.bounds[index]
        self._measured = measure(job.folder, job.config, bounds)
        if self._measured.diverged:
            self.verdict = "diverged"
        values = self._measured.evaluations
        for number in range(self._reported + 1, len(values) + 1):
            self._reported = number
            own = combine(values[:number], self._kind)
            self.score = (sum(self._ended) + own) / (index + 1)
            step = self._steps + number
            self._begun.trial.report(self.score, step)
            if not self.verdict and step < self._last and self._begun.trial.should_prune():
                self.verdict = "pruned"
        return bool(self.verdict)

    def next(self) -> None:
        """Goes on to the next task."""
        self._ended.append(combine(self._measured.evaluations, self._kind))
        self._steps += num_steps(self._begun.jobs[len(self._ended) - 1].config)
        self._reported = 0


@contextmanager
def _signals(folder: Path) -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the block then ends with `Interrupted`."""
    stop, received = threading.Event(), list[int]()

    def note(number: int) -> None:
        received.append(number)
        stop.set()

    with signals_noted(note):
        yield stop
        if received:
            raise Interrupted(f"stopped; go on with: {command('tune', folder)}", received[0])
