"""Starting runs, and going on with them after a crash or beyond their end."""

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
from marsrl.devices.sharding import fit_devices
from marsrl.devices.startup import warn_of_idle_cores
from marsrl.envs.base import Environment
from marsrl.envs.check import check_interface
from marsrl.envs.flat import flat
from marsrl.envs.registry import make
from marsrl.errors import UserError, shown
from marsrl.files import path_of
from marsrl.learner.program import Program
from marsrl.objectives import Objective
from marsrl.runs.folder import CONFIG, PASSED, Onlooker, RunFolder, check_not_passed
from marsrl.runs.followers import Follower, choose, following
from marsrl.runs.lock import Lock
from marsrl.runs.loop import Loop
from marsrl.runs.machine import describe_machine
from marsrl.runs.member import Member, Result
from marsrl.runs.monitor import Monitor, Silent, check_monitor
from marsrl.runs.policy import check_trained_on, saved_layout
from marsrl.runs.records import Row
from marsrl.runs.sources import names_of, own_sources
from marsrl.runs.transfer import started_from
from marsrl.trust import check_trusted


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
        env: the environment, if it is not the one that `config.task` names; it must be passed to
            `resume` and `load_policy` again.
        objective: likewise, if it is not the one that `config.objective` names.
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
    monitor = _monitor(monitor)
    from_first(lambda: list(choose(followers)))  # so that those that cannot be had are refused now
    unnamed = [follower for follower in followers if not isinstance(follower, str)]
    if unnamed and len(configs) > 1:
        kind = type(unnamed[0]).__name__
        raise UserError(
            f"a {kind} follows one run, expected names where {len(configs)} are trained"
        )
    if not configs or len(configs) != len(outs):
        raise UserError(f"{len(configs)} configurations and {len(outs)} outs, expected as many")
    for config in configs:
        _check_config("config", config)
    _check_passed(objective)
    configs = [_recorded(config, env, objective) for config in configs]
    folders = [path_of(out, "out") for out in outs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"outs has {folder} twice, expected a folder for each configuration")
    for config, folder in zip(configs, folders, strict=True):
        _agree(folder, config)
        from_first(partial(RunFolder.check_free, folder))
    first, *others = configs
    program = Program(first, _environment(first, env), objective, others)
    if first.init_from is not None:
        shapes = jax.tree.map(
            lambda x: np.zeros(x.shape, x.dtype), program.template.learner.weights
        )
        started_from(first, program.env.spec, shapes)  # so that what cannot be taken is refused now
    seconds = _compile(program, configs, monitor)
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
        expected: what the configuration must be in all that numbers depend on; what it names is
            then trusted.
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
    path = path_of(path, "path")
    monitor = _monitor(monitor)
    if expected is not None:
        _check_config("expected", expected)
    _check_passed(objective)
    folder = RunFolder.open(path)
    from_first(lambda: list(choose(followers or ())))
    with _writing(path) as lock:
        if not restart:
            from_first(folder.check_resumable)
        config = folder.config()
        if expected is not None and not _alike(config, _recorded(expected, env, objective)):
            raise UserError(f"{path} was started with another configuration; choose another folder")
        _check_code(path, config, env, objective, trust or expected is not None)
        if total_steps is not None:
            config = _extended(config, total_steps, 0 if restart else from_first(folder.reached))
        _agree(path, config)
        _tell_versions(folder.versions(), monitor)
        _tell_sources(folder.sources(), config, monitor)
        here = _environment(config, env)
        saved = None if restart else saved_layout(folder)
        if saved is not None:  # or else it would be compiled, and then fit no checkpoint
            check_trained_on(here, saved, config)
        program = Program(fit_devices(config), here, objective)
        seconds = _compile(program, [config], monitor)
        if restart and (aside := from_first(lambda: str(folder.set_aside() or ""))):
            monitor.message(f"begins anew; what was there is now in {aside}")
        (result,) = _run(program, [config], [path], monitor, seconds, [lock], followers)
        return result


def _check_config(name: str, config: Config) -> None:
    if not isinstance(config, Config):
        raise UserError(
            f"{name} is {shown(config)}, expected a Config, such as marsrl.preset(TASK)"
        )


def _check_passed(objective: Objective | None) -> None:
    if not isinstance(objective, Objective | None):
        raise UserError(
            f"objective is {shown(objective)}, expected an Objective, such as marsrl.objectives."
            "mars(eps=1.0); one that has a name is named in the configuration"
        )


def _recorded(config: Config, env: Environment | None, objective: Objective | None) -> Config:
    """The configuration as the records of a run have it."""
    if env is not None:
        config = replace(config, task=_passed(type(env).__name__), task_settings={})
    if objective is not None:
        own = {"eps": objective.region.widths[1], "eps_low": None, "eps_high": None}
        config = replace(config, objective=_passed(objective.name), **own)
    return config.settled()


def _alike(one: Config, other: Config) -> bool:
    """Whether two configurations train the same seeds to the same numbers."""
    return (one.hash, one.seeds) == (other.hash, other.seeds)


def _passed(name: str) -> str:
    return PASSED + re.sub(r"\W|^(?=\d|$)", "_", name)  # an identifier


def _check_code(
    path: Path, config: Config, env: Environment | None, objective: Objective | None, trust: bool
) -> None:
    """Refuses code that a run's configuration names, unless it is trusted or not needed."""
    source = path / CONFIG
    if env is None:
        check_not_passed("task", config.task, path, "resume(env=...)")
        check_trusted("task", config.task, source, trust)
    if objective is None:
        check_not_passed("objective", config.objective, path, "resume(objective=...)")
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


def _extended(config: Config, total_steps: int, reached: int) -> Config:
    """The configuration of a run that has reached a step and is to train up to so many."""
    longer = replace(config, total_steps=total_steps)
    distance = config.num_updates / config.num_evaluations
    evaluations = max(1, round(longer.num_updates / distance))
    longer = replace(longer, num_evaluations=min(evaluations, longer.num_updates))
    if longer.num_updates * longer.steps_per_update < reached:
        raise UserError(
            f"total_steps = {total_steps}, expected {reached} at least, which are trained already"
        )
    return longer


def _tell_versions(begun: Row, monitor: Monitor) -> None:
    now = describe_machine()["versions"]
    other = [
        f"{name} {begun[name]}, now {now[name]}" for name in begun if begun[name] != now.get(name)
    ]
    if other:
        monitor.message(f"begun with {'; '.join(other)}: it may not go on bit for bit the same")


def _tell_sources(last: dict[str, str], config: Config, monitor: Monitor) -> None:
    now = own_sources(config, Path.cwd())
    for kind, name in names_of(config).items():
        if kind in last and now.get(kind) != last[kind]:
            monitor.message(
                f"{name} has changed since the run was trained: it goes on with another {kind}"
            )


def _environment(config: Config, env: Environment | None) -> Environment:
    """The environment that was passed, if it keeps to the interface, or else the task's."""
    if env is None:
        return make(config.task, **config.task_settings)
    env = flat(env)
    check_interface(env)
    return env


def _compile(program: Program, configs: Sequence[Config], monitor: Monitor) -> float:
    """Says what is to be trained, compiles it, and returns the seconds that it took."""
    for config in configs:
        seeds = ", ".join(map(str, config.seeds))
        monitor.message(f"{config.objective} on {config.task}, seeds {seeds}")
    warn_of_idle_cores(program.layout)
    started = time.perf_counter()
    memory = program.compile()
    seconds = time.perf_counter() - started
    monitor.message(
        f"compiled in {seconds:.1f} s; needs {memory / 1e6:,.0f} MB on each device, besides what "
        "is loaded now"
    )
    return seconds


def _agree(path: Path, config: Config) -> None:
    """Refuses processes that would not train the same, or not in the same folder."""
    described = describe_machine()
    versions = {f"the version of {name}": x for name, x in described["versions"].items()}
    agree(config.to_dict() | versions | {"git": described["git"], "run folder": str(path)})


def _monitor(monitor: Monitor | None) -> Monitor:
    """Who watches: on process 0 whoever was asked to, elsewhere nobody."""
    if monitor is None:
        return Silent()
    check_monitor(monitor)
    return monitor if is_first() else Silent()


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
    total = sum(len(config.seeds) for config in configs)
    with contextlib.ExitStack() as stack:
        for config, path, lock in zip(configs, paths, locks, strict=True):
            folder = RunFolder.open(path) if is_first() else Onlooker.open(path)
            if is_first():
                chosen = None if followers is None else choose(followers)
                told = following(chosen, path, config, monitor.message)
                folder.followers = stack.enter_context(told)
            seeds = slice(start, start + len(config.seeds))
            members.append(Member(config, program.env.spec, folder, lock, monitor, seeds, total))
            start = seeds.stop
        return Loop(program, members, monitor, compile_seconds).go()
