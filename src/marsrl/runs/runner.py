"""The host loop of a run: step, log, evaluate, checkpoint; and the same again after a crash.

Where several processes train together, each of them runs this loop and sees the same values.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from marsrl.config import Config
from marsrl.devices.distributed import agree, from_first, is_first
from marsrl.devices.sharding import fit_devices, gather
from marsrl.envs.base import Environment
from marsrl.envs.check import check_interface
from marsrl.envs.flat import flat
from marsrl.envs.registry import make
from marsrl.envs.vector import EpisodeStats
from marsrl.errors import Interrupted, UserError
from marsrl.learner.algorithm import TrainState
from marsrl.learner.groups import groups_of
from marsrl.learner.metrics import Metrics, merged
from marsrl.learner.networks import ActorCritic, Weights
from marsrl.learner.program import FINAL_BATCHES, Program
from marsrl.objectives import Objective
from marsrl.runs import pending
from marsrl.runs.folder import Onlooker, RunFolder
from marsrl.runs.followers import Follower, choose, following
from marsrl.runs.lock import Lock
from marsrl.runs.machine import Row, describe_machine
from marsrl.runs.member import Member, Result
from marsrl.runs.monitor import Monitor, Silent
from marsrl.runs.signals import Signals
from marsrl.runs.transfer import read_source, transferred
from marsrl.trust import check_trusted
from marsrl.types import EnvSpec


def train(
    config: Config,
    out: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
    objective: Objective | None = None,
    followers: Sequence[str | Follower] = (),
) -> Result:
    """Trains all seeds of a configuration into a new run folder.

    SIGTERM or Ctrl-C end it in order: see `resume`.

    Args:
        config: what to train.
        out: the run folder, which must not exist, or be empty.
        monitor: who watches; default: nobody.
        env: the environment, if it is not the one that `config.task` names.
        objective: likewise, if it is not the one that `config.objective` names; it must be passed
            to `resume` again.
        followers: who is told the rows of its log: names of `marsrl.runs.followers.NAMES`, or a
            `Follower` of yours. The run goes on without one that fails.

    Raises:
        UserError: an unknown task, an environment that does not keep to the interface, a folder
            that exists or cannot be written, a run that does not fit into memory, or processes
            that do not run the same.
    """
    (result,) = train_together([config], [out], monitor, env, objective, followers)
    return result


def train_together(
    configs: Sequence[Config],
    outs: Sequence[str | Path],
    monitor: Monitor | None = None,
    env: Environment | None = None,
    objective: Objective | None = None,
    followers: Sequence[str | Follower] = (),
) -> list[Result]:
    """Trains several configurations side by side in one program, each into a folder of its own.

    Each is a run like any other, and goes on alone after an interruption: see `resume`.

    Args:
        configs: what to train: alike but for seeds and the settings that are inputs of a program
            (see `config.INPUTS`).
        outs: the run folder of each.
        monitor: who watches; default: nobody.
        env: see `train`.
        objective: see `train`; all have its trust region.
        followers: see `train`; with several configurations, only those that have a name.

    Raises:
        UserError: as `train`, or they cannot share a program.
    """
    from_first(lambda: list(choose(followers)))  # so that those that cannot be had are refused now
    configs, folders = [_recorded(config, objective) for config in configs], [*map(Path, outs)]
    for config, folder in zip(configs, folders, strict=True):
        _agree(folder, config)
        from_first(partial(RunFolder.check_free, folder))
    first, *others = configs
    program = Program(first, _environment(first, env), objective, others)
    if first.init_from is not None:
        shapes = jax.tree.map(
            lambda x: np.zeros(x.shape, x.dtype), program.template.learner.weights
        )
        _transferred(first, program.env.spec, shapes)  # so that what cannot be taken is refused now
    monitor = _monitor(monitor)
    seconds = _compile(program, monitor)
    with contextlib.ExitStack() as stack:
        locks = []
        for config, folder in zip(configs, folders, strict=True):
            from_first(partial(RunFolder.create, folder, config))
            locks.append(stack.enter_context(_writing(folder)))
        return _run(program, configs, folders, monitor, seconds, locks, followers)


def resume(
    path: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
    expected: Config | None = None,
    restart: bool = False,
    objective: Objective | None = None,
    trust: bool = False,
    total_steps: int | None = None,
    followers: Sequence[str | Follower] | None = None,
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
        total_steps: train a finished or interrupted run up to so many steps. What goes evenly to
            the end of the run (step sizes, `ent_coef_end`, `eps_end`) then goes to the new end, as
            if it had been meant from here on: step sizes that had come to 0 rise again.
            Evaluations go on at the distance that they had.
        followers: as for `train`, from now on; default: those that it has.

    Raises:
        UserError: not a run folder, code in it that is not trusted, a configuration other than the
            expected one, fewer steps than it has trained, a run that does not fit into memory, no
            checkpoint in it can be restored, an ended run without any, a run that another process
            writes, or processes that do not run the same.
        Interrupted: a signal has ended it.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    from_first(lambda: list(choose(followers or ())))
    with _writing(path) as lock:
        monitor = _monitor(monitor)
        if restart and (aside := from_first(lambda: str(folder.set_aside() or ""))):
            monitor.message(f"begins anew; what was there is now in {aside}")
        from_first(folder.check_resumable)
        config = folder.config()
        if expected is not None and config.settled() != expected.settled():
            raise UserError(f"{path} was started with another configuration; choose another folder")
        _check_code(path, config, env, objective, trust or expected is not None)
        if total_steps is not None:
            config = _extended(folder, config, total_steps)
        _agree(path, config)
        _tell_versions(folder.versions(), monitor)
        program = Program(fit_devices(config), _environment(config, env), objective)
        seconds = _compile(program, monitor)
        (result,) = _run(program, [config], [path], monitor, seconds, [lock], followers)
        return result


_PASSED = "passed:"
"""What the records of a run call an objective that was passed as an object begins with."""


def _recorded(config: Config, objective: Objective | None) -> Config:
    """The configuration as the records of a run have it."""
    if objective is not None:
        name = re.sub(r"\W", "_", objective.name)
        own = {"eps": objective.region.widths[1], "eps_low": None, "eps_high": None}
        config = replace(config, objective=f"{_PASSED}{name}", **own)
    return config.settled()


def _check_code(
    path: Path, config: Config, env: Environment | None, objective: Objective | None, trust: bool
) -> None:
    """Refuses code that a run's configuration names, unless it is trusted or not needed."""
    source = path / "config.json"
    if env is None:
        check_trusted("task", config.task, source, trust)
    if objective is None and config.objective.startswith(_PASSED):
        raise UserError(
            f"{path} was trained with an objective that was passed as an object, "
            f"{config.objective.removeprefix(_PASSED)}; pass it again: resume(objective=...)"
        )
    if objective is None:
        check_trusted("objective", config.objective, source, trust)
    check_trusted("network", config.network or "", source, trust)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Lock]:
    """Keeps other writers out; process 0 holds the lock for all."""
    lock = Lock(path)
    from_first(lock.take)
    try:
        yield lock
    finally:
        lock.release()


def _extended(folder: RunFolder, config: Config, total_steps: int) -> Config:
    """The configuration of a run that is to train up to so many steps, which its folder notes."""
    reached = from_first(folder.reached)
    longer = replace(config, total_steps=total_steps)
    distance = config.num_updates / config.num_evaluations
    evaluations = max(1, round(longer.num_updates / distance))
    longer = replace(longer, num_evaluations=min(evaluations, longer.num_updates))
    if longer.num_updates * longer.steps_per_update < reached:
        raise UserError(
            f"total_steps = {total_steps}, expected more than {reached}, which {folder.path} has "
            "trained already"
        )
    if longer != config:
        from_first(partial(folder.extend, longer, reached))
    return longer


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
    env = flat(env)
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
    program: Program,
    configs: Sequence[Config],
    paths: Sequence[Path],
    monitor: Monitor,
    compile_seconds: float,
    locks: Sequence[Lock],
    followers: Sequence[str | Follower] | None,
) -> list[Result]:
    """Runs to the end; process 0 writes the folders, the others look on."""
    members, start = [], 0
    with contextlib.ExitStack() as stack:
        for config, path, lock in zip(configs, paths, locks, strict=True):
            folder = RunFolder.open(path) if is_first() else Onlooker.open(path)
            if is_first():
                chosen = None if followers is None else choose(followers)
                told = following(chosen, path, config, monitor.message)
                folder.followers = stack.enter_context(told)
            seeds = slice(start, start + len(config.seeds))
            members.append(Member(config, program.env.spec, folder, lock, monitor, seeds))
            start = seeds.stop
        return _Loop(program, members, monitor, compile_seconds).go()


def _transferred(config: Config, spec: EnvSpec, weights: ActorCritic) -> tuple[ActorCritic, str]:
    """The weights with those that `init_from` names, and what was taken; see `transferred`."""
    assert config.init_from is not None
    sharing = config.share_parameters
    return transferred(weights, read_source(config.init_from), sharing, groups_of(spec, sharing))


class _Loop:
    """The runs of a program from here to their end."""

    def __init__(
        self, program: Program, members: list[Member], monitor: Monitor, compile_seconds: float
    ) -> None:
        self.program = program
        self.config = config = program.config
        self.members = members
        self.monitor = monitor
        self.signals = Signals()
        self.evaluations = set(evaluation_updates(config))
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.seconds |= members[0].folder.seconds()
        self.seconds["compile"] += compile_seconds
        self.step = 0
        self._first_step = self._last_logged = 0
        self._first_seconds = self._last_seconds = self.seconds["train"]

    def go(self) -> list[Result]:
        """Trains to the end, scores the last and the best parameters, writes the final status."""
        try:
            with self.signals:
                update, state, waiting = self._restore()
                self._write_status("running")
                self._score(self._train(update, state, waiting))
        except BaseException:
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
        weights, text = _transferred(
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
        self._first_step = self.step
        self._last_logged = self._steps(update - sum(map(pending.num_updates, waiting)))
        self.monitor.start(config, self.step)
        if not self.members[0].checkpoints.steps():
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
        """Ends the runs after a signal, with a checkpoint of this very update."""
        if signum := self.signals.received():
            for member in self.members:
                if update not in member.checkpoints.steps():
                    member.save(update, state, None, waiting)
            raise Interrupted(
                f"stopped after step {self.step:,}, which is saved; {self._way_on()}", signum
            )

    def _way_on(self) -> str:
        commands = [f"marsrl resume {member.folder.path}" for member in self.members]
        return f"go on with: {'; '.join(commands)}"

    def _log(self, state: TrainState, metrics: Metrics) -> list[Row]:
        """Writes what is new about every run."""
        seconds = self.seconds["compile"] + self.seconds["train"] + self.seconds["evaluate"]
        diverged, values = gather(state.diverged), merged(metrics)
        done = (self.step - self._last_logged) * len(diverged)
        rate = done / (self.seconds["train"] - self._last_seconds)
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


_SECONDS_PER_CALL = 1.0
"""Longer calls of the program gain nothing, and delay the progress bar and an interruption."""
