"""The host loop of a run: step, log, evaluate, checkpoint, to the end or to a signal.

Where several processes train together, each of them runs this loop and sees the same values.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from marsrl.devices.distributed import from_first
from marsrl.devices.sharding import gather
from marsrl.envs.vector import EpisodeStats
from marsrl.errors import Interrupted, UserError
from marsrl.learner.algorithm import TrainState
from marsrl.learner.metrics import Metrics, merged
from marsrl.learner.networks import Weights
from marsrl.learner.program import FINAL_BATCHES, Program
from marsrl.runs import pending
from marsrl.runs.folder import resume_command
from marsrl.runs.member import Member, Result
from marsrl.runs.monitor import Monitor
from marsrl.runs.records import Row
from marsrl.runs.signals import Signals
from marsrl.runs.transfer import started_from
from marsrl.system import signals_noted

SECONDS_PER_CALL = 1.0
"""Longer calls of the program gain nothing, and delay the progress bar and an interruption."""


class Loop:
    """The runs of a program from here to their end."""

    def __init__(
        self, program: Program, members: list[Member], monitor: Monitor, compile_seconds: float
    ) -> None:
        self.program = program
        self.config = config = program.config
        self.members = members
        self.monitor = monitor
        self.signals = Signals()
        self.evaluations = set(config.evaluation_updates)
        self.seconds = {"compile": compile_seconds, "train": 0.0, "evaluate": 0.0}
        self.step = 0
        self._restored = False
        self._first_step = self._last_logged = 0
        self._last_seconds = 0.0

    def go(self) -> list[Result]:
        """Trains to the end, scores the last and the best parameters, writes the final status."""
        try:
            with signals_noted(self.signals.note):
                update, state, waiting = self._restore()
                self._write_status("running")
                self._score(self._train(update, state, waiting))
        except BaseException:
            if self._restored:  # else the status that is there says more
                with contextlib.suppress(OSError, UserError):  # the reason to end is the better one
                    self._write_status("stopped")
            raise
        finally:
            self.monitor.stop()
            self.program.close()
        self._write_status("finished")
        return [member.result for member in self.members]

    def _restore(self) -> tuple[int, TrainState, list[Metrics]]:
        """The update to go on from; several runs together begin, and never go on."""
        restored = [member.restore(self.program.template) for member in self.members]
        update, state, waiting = restored[0]
        self.step = self._steps(update)
        self._restored = True
        for member in self.members:
            member.note_session(self.step)
        if state is None:
            return update, self._begin(), waiting
        if self.program.algorithm.env.on_host:
            self.monitor.message(
                f"the environments of {self.config.task} could not be saved: they start afresh; "
                "all else goes on"
            )
        return update, self.program.restored(state), waiting

    def _begin(self) -> TrainState:
        """The states before the first update, fresh or from another run's parameters."""
        state = self.program.init()
        if self.config.init_from is None:
            return state
        weights, text = started_from(
            self.config, self.program.env.spec, gather(state.learner.weights)
        )
        self.monitor.message(text)
        return self.program.with_weights(state, weights)

    @property
    def _all_diverged(self) -> bool:
        return all(member.all_diverged for member in self.members)

    def _train(self, update: int, state: TrainState, waiting: list[Metrics]) -> TrainState:
        """The loop over updates; `waiting` are the metrics since the last logged row."""
        config = self.config
        self._first_step = self._last_logged = self.step
        self.monitor.start(config, self.step)
        if update in self.evaluations and not from_first(partial(self._is_evaluated, update)):
            if waiting:  # a signal stopped it here, before this was to be its end
                self._log(state, pending.joined(waiting))
                waiting = []
            self._evaluate(state, update)
        while update < config.num_updates and not self._all_diverged:
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
        return state

    def _is_evaluated(self, update: int) -> bool:
        return update in self.members[0].checkpoints.scores()

    def _updates_at_once(self, update: int) -> int:
        """Updates until the next row or evaluation, but no more than make a call of a second."""
        interval = self.config.log_interval
        evaluation = min(at for at in self.evaluations if at > update)
        until = min(update // interval * interval + interval, evaluation)
        done = self.step - self._first_step
        if not done:
            return 1
        pace = done / self.config.steps_per_update / max(self.seconds["train"], 1e-9)
        return max(1, min(until - update, int(pace * SECONDS_PER_CALL)))

    def _stop_if_asked(self, state: TrainState, update: int, waiting: list[Metrics]) -> None:
        """Ends the runs after a signal, with a checkpoint of this very update."""
        if signum := self.signals.received():
            for member in self.members:
                if update not in member.checkpoints.steps():
                    member.save(update, state, None, waiting)
            raise Interrupted(
                f"stopped after step {self.step:,}, which is saved; {self._way_on()}", signum
            )

    def _way_on(self) -> str:
        commands = [resume_command(member.folder.path, member.config) for member in self.members]
        return f"go on with: {'; '.join(commands)}"

    def _log(self, state: TrainState, metrics: Metrics) -> list[Row]:
        """Writes what is new about every run."""
        seconds = self.members[0].wall_seconds(self.seconds)
        diverged, values = gather(state.diverged), merged(metrics)
        done = (self.step - self._last_logged) * len(diverged)
        trained = self.seconds["train"] - self._last_seconds
        rate = done / trained if trained else math.nan
        self._last_logged, self._last_seconds = self.step, self.seconds["train"]
        logged = [
            member.log(self.step, seconds, rate, diverged, metrics, values)
            for member in self.members
        ]
        return [row for rows in logged for row in rows]

    def _evaluate(self, state: TrainState, update: int) -> None:
        """Evaluates, logs and saves one and the same parameters, those after the update."""
        with self._clock("evaluate"):
            stats = self.program.evaluate(state.learner.weights.actor)
        for member in self.members:
            member.save(update, state, member.evaluated(stats, self.step), [])
        self._write_status("running")

    def _score(self, state: TrainState) -> None:
        """Plays ten times the episodes with each seed's last parameters, and with its best ones."""
        now = gather(state.learner.weights.actor)
        best = [member.best_updates() for member in self.members]
        played = self._play_long(now)
        for member in self.members:
            live = [i for i, s in enumerate(member.config.seeds) if s not in member.diverged]
            member.scored(played, dict.fromkeys(live, self.step), best=False)
        parts = [
            member.actors([updates.get(i) for i in range(len(member.config.seeds))], now)
            for member, updates in zip(self.members, best, strict=True)
        ]
        actor = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        if any(self._steps(u) != self.step for updates in best for u in updates.values()):
            played = self._play_long(actor)
        for member, updates in zip(self.members, best, strict=True):
            steps = {i: self._steps(update) for i, update in updates.items()}
            member.scored(played, steps, best=True)
        self._end_if_asked()

    def _play_long(self, actor: Weights) -> EpisodeStats:
        """Many episodes of each seed, (S, B)."""
        self._end_if_asked()
        with self._clock("evaluate"):
            batches = [self.program.evaluate(actor, 1 + i) for i in range(FINAL_BATCHES)]
            return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *batches)

    def _end_if_asked(self) -> None:
        """Ends the runs after a signal, when all is saved."""
        if signum := self.signals.received():
            raise Interrupted(
                f"stopped: trained to its end and saved, but not scored yet; {self._way_on()}",
                signum,
            )

    def _write_status(self, status: str) -> None:
        for member in self.members:
            over = status == "finished" and member.all_diverged
            member.write_status("diverged" if over else status, self.step, self.seconds)

    def _steps(self, update: int) -> int:
        return update * self.config.steps_per_update

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started
