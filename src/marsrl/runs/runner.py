"""The host loop of a run: step, log, evaluate, checkpoint; and the same again after a crash.

Where several processes train together, each of them runs this loop and sees the same values.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from marsrl.config import Config
from marsrl.devices.distributed import agree, from_first, is_first
from marsrl.devices.sharding import fit_devices, gather
from marsrl.envs.base import Environment
from marsrl.envs.check import check_interface
from marsrl.envs.registry import make
from marsrl.envs.vector import EpisodeStats
from marsrl.errors import Interrupted, UserError
from marsrl.learner.algorithm import TrainState
from marsrl.learner.metrics import Metrics, merged
from marsrl.learner.program import FINAL_BATCHES, Program
from marsrl.objectives import Objective
from marsrl.runs import actors, pending
from marsrl.runs.checkpoint import CheckpointError, CheckpointWriter, best_update
from marsrl.runs.folder import METRICS, Onlooker, RunFolder
from marsrl.runs.lock import Lock
from marsrl.runs.machine import Row, describe_machine, peak_memory_mb
from marsrl.runs.monitor import Monitor, Silent
from marsrl.runs.signals import Signals
from marsrl.trust import check_trusted


class Result(NamedTuple):
    """What a run came to.

    Attributes:
        path: the run folder.
        final_return: seed -> mean return of its best checkpoint on ten times the episodes.
        diverged: seed -> environment step at which it diverged, for those that did.
        not_finite: seed -> what was not finite then.
        all_diverged: whether none is left.
    """

    path: Path
    final_return: dict[int, float]
    diverged: dict[int, int]
    not_finite: dict[int, str]
    all_diverged: bool


def train(
    config: Config,
    out: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
) -> Result:
    """Trains all seeds of a configuration into a new run folder.

    SIGTERM or Ctrl-C end it in order: see `resume`.

    Args:
        config: what to train.
        out: the run folder, which must not exist, or be empty.
        monitor: who watches; default: nobody.
        env: the environment, if it is not the one that `config.task` names.

    Raises:
        UserError: an unknown task, an environment that does not keep to the interface, a folder
            that exists or cannot be written, a run that does not fit into memory, or processes
            that do not run the same.
    """
    out = Path(out)
    _agree(out, config)
    from_first(lambda: RunFolder.check_free(out))
    program = Program(config, _environment(config, env))
    monitor = _monitor(monitor)
    seconds = _compile(program, monitor)
    from_first(lambda: RunFolder.create(out, config))
    with _writing(out) as lock:
        return _run(program, out, monitor, seconds, lock)


def resume(
    path: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
    expected: Config | None = None,
    restart: bool = False,
    objective: Objective | None = None,
    trust: bool = False,
) -> Result:
    """Continues a run from its newest sound checkpoint, as if it had never stopped.

    The number of processes and devices may differ; if the run's own `devices` are not here, it
    goes on with as many as can be used. SIGTERM or Ctrl-C have it save a checkpoint after the
    update that it is at and end; a second one ends it at once.

    Args:
        path: the run folder.
        monitor: who watches; default: nobody.
        env: the environment, if it is not the one that the run's configuration names.
        expected: what the configuration must be; what it names is then trusted.
        restart: begin anew; what the run has come to is set aside in a folder inside it.
        objective: likewise, in place of the one that the configuration names.
        trust: whether to run code that the folder names: a task, objective or network
            `module:factory`.

    Raises:
        UserError: not a run folder, code in it that is not trusted, a configuration other than the
            expected one, a run that does not fit into memory, no checkpoint in it can be restored,
            an ended run without any, a run that another process writes, or processes that do not
            run the same.
        Interrupted: a signal has ended it.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    with _writing(path) as lock:
        monitor = _monitor(monitor)
        if restart:
            aside = from_first(lambda: str(folder.set_aside() or ""))
            if aside:
                monitor.message(f"begins anew; what was there is now in {aside}")
        from_first(folder.check_resumable)
        config = folder.config()
        if expected is not None and config != expected:
            raise UserError(f"{path} was started with another configuration; choose another folder")
        source, trust = path / "config.json", trust or expected is not None
        if env is None:
            check_trusted("task", config.task, source, trust)
        if objective is None:
            check_trusted("objective", config.objective, source, trust)
        check_trusted("network", config.network or "", source, trust)
        _agree(path, config)
        _tell_versions(folder.versions(), monitor)
        program = Program(fit_devices(config), _environment(config, env), objective)
        return _run(program, path, monitor, _compile(program, monitor), lock)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Lock]:
    """Keeps other writers out; process 0 holds the lock for all."""
    lock = Lock(path)
    from_first(lock.take)
    try:
        yield lock
    finally:
        lock.release()


def _tell_versions(begun: Row, monitor: Monitor) -> None:
    now = describe_machine()["versions"]
    other = [
        f"{name} {begun[name]}, now {now[name]}" for name in begun if begun[name] != now.get(name)
    ]
    if other:
        monitor.message(f"begun with {'; '.join(other)}: it may not go on bit for bit the same")


def _environment(config: Config, env: Environment | None) -> Environment:
    """The environment that was passed, if it keeps to the interface, or else the task's."""
    if env is None:
        return make(config.task, **config.task_settings)
    check_interface(env)
    return env


def _compile(program: Program, monitor: Monitor) -> float:
    """Compiles, says how much memory the run needs, and returns the seconds that it took."""
    started = time.perf_counter()
    memory = program.compile()
    monitor.message(f"needs {memory / 1e6:,.0f} MB on each device, besides what is loaded now")
    return time.perf_counter() - started


def evaluation_updates(config: Config) -> list[int]:
    """The updates after which a run is evaluated: 0, evenly spaced ones, and the last."""
    spaced = np.linspace(0, config.num_updates, config.num_evaluations + 1)
    return sorted({round(x) for x in spaced})


def _agree(path: Path, config: Config) -> None:
    """Refuses processes that would not train the same, or not in the same folder."""
    described = describe_machine()
    versions = {f"the version of {name}": x for name, x in described["versions"].items()}
    agree(config.to_dict() | versions | {"git": described["git"], "run folder": str(path)})


def _monitor(monitor: Monitor | None) -> Monitor:
    """Who watches: on process 0 whoever was asked to, elsewhere nobody."""
    return monitor if monitor and is_first() else Silent()


def _run(
    program: Program, path: Path, monitor: Monitor, compile_seconds: float, lock: Lock
) -> Result:
    """Runs to the end; process 0 writes the folder, the others look on."""
    folder = RunFolder.open(path) if is_first() else Onlooker.open(path)
    return _Run(program, folder, monitor, compile_seconds, lock).go()


class _Run:
    """One run from here to its end."""

    def __init__(
        self,
        program: Program,
        folder: RunFolder,
        monitor: Monitor,
        compile_seconds: float,
        lock: Lock,
    ) -> None:
        self.program = program
        self.config = config = program.config
        self.folder = folder
        self.monitor = monitor
        self.lock = lock
        self.signals = Signals()
        self.checkpoints = CheckpointWriter(folder.checkpoints, config.keep_checkpoints)
        self.evaluations = set(evaluation_updates(config))
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0} | folder.seconds()
        self.seconds["compile"] += compile_seconds
        self.diverged: dict[int, int] = {}
        self.not_finite: dict[int, str] = {}
        self.step = 0
        self._first_step = self._last_logged = 0
        self._first_seconds = self._last_seconds = self.seconds["train"]

    def go(self) -> Result:
        """Trains to the end, scores the best checkpoints and writes the final status."""
        try:
            with self.signals:
                update, state, waiting = self._restore()
                self._write_status("running")
                self._train(update, state, waiting)
                final = self._score_best()
        except BaseException:
            with contextlib.suppress(OSError, UserError):  # the reason to end is the better one
                self._write_status("stopped")
            raise
        finally:
            self.monitor.stop()
        all_diverged = len(self.diverged) == len(self.config.seeds)
        self._write_status("diverged" if all_diverged else "finished")
        return Result(self.folder.path, final, self.diverged, self.not_finite, all_diverged)

    def _restore(self) -> tuple[int, TrainState, list[Metrics]]:
        """The update to go on from, of the newest sound checkpoint, its state and pending metrics.

        The log becomes the one that the checkpoint remembers: what came after is written again.
        """
        self.folder.clean()
        self.checkpoints.clean()
        if not self.checkpoints.steps():
            from_first(self._check_nothing_lost)
            self.folder.replace_log(b"")
            return 0, self.program.init(), []
        try:
            update, state, refused = self.checkpoints.restore_newest(self.program.template)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {self._way_out()}") from error
        for reason in refused:
            self.monitor.message(f"refused: {reason}")
        self.checkpoints.go_back_to(update)
        if damage := self.folder.log.damage():
            self.monitor.message(f"{damage}; the checkpoint's copy is used")
        self.folder.replace_log(self.checkpoints.file(update, METRICS) or b"")
        about = self.checkpoints.about(update)
        self.step = self._steps(update)
        self.diverged = {int(seed): step for seed, step in about.get("diverged", {}).items()}
        self.not_finite = {int(seed): text for seed, text in about.get("not_finite", {}).items()}
        return update, state, pending.unpack(self.checkpoints.file(update, pending.FILE))

    def _check_nothing_lost(self) -> None:
        """Refuses to begin where there must have been a checkpoint."""
        reached, updates = self.folder.reached(), self.checkpoints.updates()
        if updates or reached:
            there = f"those of updates {updates} are not" if updates else "there is none"
            raise CheckpointError(
                f"{self.folder.path} has reached step {reached:,}, but no checkpoint of it is "
                f"complete: {there}; {self._way_out()}"
            )

    def _way_out(self) -> str:
        return (
            "to begin anew, with what is there set aside: "
            f"marsrl resume {self.folder.path} --restart"
        )

    def _train(self, update: int, state: TrainState, waiting: list[Metrics]) -> None:
        """The loop over updates; `waiting` are the metrics since the last logged row."""
        config = self.config
        self._first_step = self.step
        self._last_logged = self._steps(update - sum(map(pending.num_updates, waiting)))
        self.monitor.start(config, self.step)
        if not self.checkpoints.steps():
            self._evaluate(state, update)
        while update < config.num_updates and len(self.diverged) < len(config.seeds):
            self._stop_if_asked(state, update, waiting)
            number = from_first(partial(self._updates_at_once, update))  # clocks differ
            with self._clock("train"):
                state, metrics = self.program.step(state, number)
                metrics = gather(metrics)  # waits for the updates
            waiting.append(jax.tree.map(lambda x, number=number: x[:, :number], metrics))
            update += number
            self.step = self._steps(update)
            rows: list[Row] = []
            if update % config.log_interval == 0 or update in self.evaluations:
                rows, waiting = self._log(state, pending.joined(waiting)), []
            self.monitor.progress(self.step, rows)
            if update in self.evaluations:
                self._evaluate(state, update)

    def _updates_at_once(self, update: int) -> int:
        """Updates until the next row or evaluation, but no more than make a call of a second."""
        interval = self.config.log_interval
        evaluation = min(at for at in self.evaluations if at > update)
        until = min(update // interval * interval + interval, evaluation)
        done = self.step - self._first_step
        if not done:
            return 1
        trained = self.seconds["train"] - self._first_seconds
        pace = done / self.config.steps_per_update / max(trained, 1e-9)
        return max(1, min(until - update, int(pace * _SECONDS_PER_CALL)))

    def _stop_if_asked(self, state: TrainState, update: int, waiting: list[Metrics]) -> None:
        """Ends the run after a signal, with a checkpoint of this very update."""
        signum = self.signals.received()
        if signum:
            if update not in self.checkpoints.steps():
                self._save(update, state, None, waiting)
            raise Interrupted(
                f"stopped after step {self.step:,}, which is saved; go on with: marsrl resume "
                f"{self.folder.path}",
                signum,
            )

    def _save(
        self,
        update: int,
        state: TrainState,
        scores: dict[int, float] | None,
        waiting: list[Metrics],
    ) -> None:
        from_first(self.lock.check)
        notes = {
            "config": self.config.to_dict(),
            "diverged": {str(seed): step for seed, step in self.diverged.items()},
            "not_finite": {str(seed): text for seed, text in self.not_finite.items()},
        }
        layout = actors.layout_of(self.program.env.spec, state.rollout.vector.time_step)
        files = {actors.FILE: actors.pack(gather(state.learner.weights.actor), layout)}
        if is_first():
            files[METRICS] = self.folder.log.content()
        if waiting:
            files[pending.FILE] = pending.pack(waiting)
        self.checkpoints.save(update, state, scores, notes, files)

    def _append(self, rows: list[Row]) -> None:
        from_first(self.lock.check)
        self.folder.append(rows)

    def _log(self, state: TrainState, metrics: Metrics) -> list[Row]:
        """Writes a row per live seed about the updates since the last one."""
        self._mark_diverged(gather(state.diverged), metrics)
        seconds = self.seconds["compile"] + self.seconds["train"] + self.seconds["evaluate"]
        done = (self.step - self._last_logged) * len(self.config.seeds)
        rate = done / (self.seconds["train"] - self._last_seconds)
        self._last_logged, self._last_seconds = self.step, self.seconds["train"]
        values = merged(metrics)
        rows = [
            {
                "kind": "train",
                "seed": seed,
                "step": self.step,
                "seconds": round(seconds, 2),
                "steps_per_second": round(rate, 1),
                **{name: float(x[i]) for name, x in values.items()},
            }
            for i, seed in enumerate(self.config.seeds)
            if seed not in self.diverged
        ]
        self._append(rows)
        return rows

    def _evaluate(self, state: TrainState, update: int) -> None:
        """Evaluates, logs and saves one and the same parameters, those after the update."""
        with self._clock("evaluate"):
            actor = state.learner.weights.actor
            stats = self.program.evaluate(actor)
            rows = self._score_rows("eval", stats, range(len(self.config.seeds)), self.step)
        rows = [row for row in rows if row["seed"] not in self.diverged]
        self._append(rows)
        for row in rows:
            if not math.isfinite(row["return"]):
                self.monitor.message(
                    f"seed {row['seed']}: the evaluation at step {self.step:,} has no finite "
                    "return; it counts as the worst"
                )
        self._save(update, state, {row["seed"]: row["return"] for row in rows}, [])
        self._write_status("running")

    def _score_best(self) -> dict[int, float]:
        """Evaluates each seed's best checkpoint again, on ten times the episodes."""
        best = from_first(self._best_updates)
        final: dict[int, float] = {}
        for update in sorted({update for _, update in best}):
            self._end_if_asked()
            state = self.checkpoints.restore(update, self.program.template)
            with self._clock("evaluate"):
                actor = state.learner.weights.actor
                batches = [self.program.evaluate(actor, 1 + i) for i in range(FINAL_BATCHES)]
                stats = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *batches)
            index = [i for i, s in enumerate(self.config.seeds) if [s, update] in map(list, best)]
            rows = self._score_rows("final", stats, index, self._steps(update))
            self._append(rows)
            final |= {row["seed"]: row["return"] for row in rows}
        self._end_if_asked()
        return final

    def _best_updates(self) -> list[tuple[int, int]]:
        """Each seed with the update of its best evaluation, as far as checkpoints are sound."""
        scores = self.checkpoints.scores()
        for update in self.checkpoints.complete():
            if fault := self.checkpoints.fault(update):
                self.monitor.message(f"not among the best, because it is damaged: {fault}")
                scores.pop(update, None)
        best = {seed: best_update(scores, seed) for seed in self.config.seeds}
        return [(seed, update) for seed, update in best.items() if update is not None]

    def _end_if_asked(self) -> None:
        """Ends the run after a signal, when all is saved."""
        if signum := self.signals.received():
            raise Interrupted(
                "stopped: trained to its end and saved, but not scored yet; go on with: marsrl "
                f"resume {self.folder.path}",
                signum,
            )

    def _score_rows(
        self, kind: str, stats: EpisodeStats, index: Iterable[int], step: int
    ) -> list[Row]:
        return [
            {
                "kind": kind,
                "seed": self.config.seeds[i],
                "step": step,
                "greedy": self.config.eval_greedy,
                "return": float(stats.episode_return[i].mean()),
                "length": float(stats.length[i].mean()),
                **{name: float(values[i].mean()) for name, values in stats.metrics.items()},
                "returns": stats.episode_return[i].tolist(),
            }
            for i in index
        ]

    def _mark_diverged(self, diverged: np.ndarray, metrics: Metrics) -> None:
        """Takes note of seeds that newly diverged."""
        for i, (seed, update) in enumerate(zip(self.config.seeds, diverged, strict=True)):
            if update >= 0 and seed not in self.diverged:
                self.diverged[seed] = self._steps(int(update))
                self.not_finite[seed] = pending.not_finite(metrics, i)
                self.monitor.message(
                    f"seed {seed} diverged at step {self.diverged[seed]:,}: its loss or parameters "
                    f"are not finite ({self.not_finite[seed]}); its state before that update is "
                    "kept"
                )

    def _write_status(self, status: str) -> None:
        seeds = {
            str(seed): {"status": "diverged", "step": self.diverged[seed]}
            if seed in self.diverged
            else {"status": status, "step": self.step}
            for seed in self.config.seeds
        }
        seconds = {name: round(value, 2) for name, value in self.seconds.items()}
        self.folder.write_status(
            status, self.step, seeds, seconds=seconds, peak_memory_mb=peak_memory_mb()
        )

    def _steps(self, update: int) -> int:
        return update * self.config.steps_per_update

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


_SECONDS_PER_CALL = 1.0
"""Longer calls of the program gain nothing, and delay the progress bar and an interruption."""
