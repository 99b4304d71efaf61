"""The host loop of a run: step, log, evaluate, checkpoint; and the same again after a crash.

Where several processes train together, each of them runs this loop and sees the same values.
"""

from __future__ import annotations

import contextlib
import math
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from marsrl.config import Config
from marsrl.devices.distributed import agree, from_first, is_first
from marsrl.devices.sharding import fit_devices, gather
from marsrl.envs.base import Environment
from marsrl.envs.registry import make
from marsrl.envs.vector import EpisodeStats
from marsrl.errors import UserError
from marsrl.learner.trainer import FINAL_BATCHES, Program, TrainState
from marsrl.objectives import Objective
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import Onlooker, RunFolder
from marsrl.runs.machine import Row, describe_machine
from marsrl.runs.monitor import Monitor, Silent
from marsrl.trust import check_trusted


class Result(NamedTuple):
    """What a run came to.

    Attributes:
        path: the run folder.
        final_return: seed -> mean return of its best checkpoint on ten times the episodes.
        diverged: seed -> environment step at which it diverged, for those that did.
    """

    path: Path
    final_return: dict[int, float]
    diverged: dict[int, int]


def train(
    config: Config,
    out: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
) -> Result:
    """Trains all seeds of a configuration into a new run folder.

    Args:
        config: what to train.
        out: the run folder, which must not exist.
        monitor: who watches; default: nobody.
        env: the environment, if it is not the one that `config.task` names.

    Raises:
        UserError: an unknown task, a folder that exists or cannot be written, a run that does not
            fit into memory, or processes that do not run the same.
    """
    out = Path(out)
    _agree(out, config)
    program = Program(config, _environment(config, env))
    from_first(lambda: RunFolder.create(out, config))
    monitor = _monitor(monitor)
    try:
        seconds = _compile(program, monitor)
    except UserError:  # it does not fit
        if is_first():
            shutil.rmtree(out)  # just made
        raise
    return _run(program, out, monitor, seconds)


def resume(
    path: str | Path,
    monitor: Monitor | None = None,
    env: Environment | None = None,
    expected: Config | None = None,
    objective: Objective | None = None,
    trust: bool = False,
) -> Result:
    """Continues a run from its newest sound checkpoint, as if it had never stopped.

    The number of processes and devices may differ; if the run's own `devices` are not here, it
    goes on with as many as can be used.

    Args:
        path: the run folder.
        monitor: who watches; default: nobody.
        env: the environment, if it is not the one that the run's configuration names.
        expected: what the configuration must be; what it names is then trusted.
        objective: likewise, in place of the one that the configuration names.
        trust: whether to run code that the folder names: a task or objective `module:factory`.

    Raises:
        UserError: not a run folder, code in it that is not trusted, a configuration other than the
            expected one, a run that does not fit into memory, no checkpoint in it can be restored,
            an ended run without any, or processes that do not run the same.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    from_first(folder.check_resumable)
    config = folder.config()
    if expected is not None and config != expected:
        raise UserError(f"{path} was started with another configuration; choose another folder")
    source, trust = path / "config.json", trust or expected is not None
    if env is None:
        check_trusted("task", config.task, source, trust)
    if objective is None:
        check_trusted("objective", config.objective, source, trust)
    _agree(path, config)
    program = Program(fit_devices(config), _environment(config, env), objective)
    monitor = _monitor(monitor)
    return _run(program, path, monitor, _compile(program, monitor))


def _environment(config: Config, env: Environment | None) -> Environment:
    """The environment that was passed, or the one that the configuration names."""
    return make(config.task, **config.task_settings) if env is None else env


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


def _run(program: Program, path: Path, monitor: Monitor, compile_seconds: float) -> Result:
    """Runs to the end; process 0 writes the folder, the others look on."""
    folder = RunFolder.open(path) if is_first() else Onlooker.open(path)
    return _Run(program, folder, monitor, compile_seconds).go()


class _Run:
    """One run from here to its end."""

    def __init__(
        self, program: Program, folder: RunFolder, monitor: Monitor, compile_seconds: float
    ) -> None:
        self.program = program
        self.config = config = program.config
        self.folder = folder
        self.monitor = monitor
        self.checkpoints = Checkpoints(folder.checkpoints, config.seeds, config.keep_checkpoints)
        self.evaluations = set(evaluation_updates(config))
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0} | folder.seconds()
        self.seconds["compile"] += compile_seconds
        self.diverged: dict[int, int] = {}
        self.step = 0
        self._last_logged = 0
        self._last_seconds = self.seconds["train"]

    def go(self) -> Result:
        """Trains to the end, scores the best checkpoints and writes the final status."""
        self._write_status("running")
        try:
            self._train(self._restore())
            final = self._score_best()
        except BaseException:
            self._write_status("stopped")
            raise
        finally:
            self.monitor.stop()
            self.checkpoints.close()
        all_diverged = len(self.diverged) == len(self.config.seeds)
        self._write_status("diverged" if all_diverged else "finished")
        return Result(self.folder.path, final, self.diverged)

    def _restore(self) -> TrainState:
        """The state to go on from: the newest sound checkpoint, or the first."""
        if not self.checkpoints.steps():
            self.folder.rewind(-1)
            return self.program.init()
        update, state, refused = self.checkpoints.restore_newest(self.program.template)
        for reason in refused:
            self.monitor.message(f"refused: {reason}")
        self.checkpoints.drop_after(update)
        self.folder.rewind(self._steps(update))
        self._mark_diverged(gather(state.diverged))
        return state

    def _train(self, state: TrainState) -> None:
        """The loop over updates."""
        config = self.config
        update = int(gather(state.updates).max())
        self.step = self._last_logged = self._steps(update)
        self.monitor.start(config, self.step)
        if update == 0:
            self._evaluate(state, update)
        pending: list[Row] = []
        while update < config.num_updates and len(self.diverged) < len(config.seeds):
            with self._clock("train"):
                state, metrics = self.program.step(state)
                pending.append(gather(metrics))  # waits for the update
            update += 1
            self.step = self._steps(update)
            rows: list[Row] = []
            if update % config.log_interval == 0 or update in self.evaluations:
                rows, pending = self._log(pending), []
            self.monitor.progress(self.step, rows)
            if update in self.evaluations:
                self._evaluate(state, update)

    def _log(self, pending: list[Row]) -> list[Row]:
        """Writes a row per live seed about the updates since the last one."""
        self._mark_diverged(pending[-1]["diverged"])
        seconds = self.seconds["compile"] + self.seconds["train"] + self.seconds["evaluate"]
        done = (self.step - self._last_logged) * len(self.config.seeds)
        rate = done / (self.seconds["train"] - self._last_seconds)
        self._last_logged, self._last_seconds = self.step, self.seconds["train"]
        merged = merge_metrics(pending)
        rows = [
            {
                "kind": "train",
                "seed": seed,
                "step": self.step,
                "seconds": round(seconds, 2),
                "steps_per_second": round(rate, 1),
                **{name: float(values[i]) for name, values in merged.items()},
            }
            for i, seed in enumerate(self.config.seeds)
            if seed not in self.diverged
        ]
        self.folder.append(rows)
        return rows

    def _evaluate(self, state: TrainState, update: int) -> None:
        """Evaluates, logs and saves one and the same parameters, those after the update."""
        with self._clock("evaluate"):
            actor = state.learner.params.actor
            stats = self.program.evaluate(actor)
            rows = self._score_rows("eval", stats, range(len(self.config.seeds)), self.step)
        self.folder.append([row for row in rows if row["seed"] not in self.diverged])
        scores = {
            row["seed"]: -math.inf if row["seed"] in self.diverged else row["return"]
            for row in rows
        }
        self.checkpoints.save(update, state, scores)
        self._write_status("running")

    def _score_best(self) -> dict[int, float]:
        """Evaluates each seed's best checkpoint again, on ten times the episodes."""
        best = dict(from_first(self._best_steps))
        final: dict[int, float] = {}
        for step in sorted(set(best.values())):
            state = self.checkpoints.restore(
                step // self.config.steps_per_update, self.program.template
            )
            with self._clock("evaluate"):
                actor = state.learner.params.actor
                batches = [self.program.evaluate(actor, 1 + i) for i in range(FINAL_BATCHES)]
                stats = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *batches)
            index = [i for i, s in enumerate(self.config.seeds) if best[s] == step]
            rows = self._score_rows("final", stats, index, step)
            self.folder.append(rows)
            final |= {row["seed"]: row["return"] for row in rows}
        return final

    def _best_steps(self) -> list[tuple[int, int]]:
        """Each seed with the environment step of its best evaluation."""
        best: dict[int, Row] = {}
        for row in self.folder.rows():
            # of equally good ones the newest, like the checkpoints that are kept
            if row["kind"] == "eval" and row["return"] >= best.get(row["seed"], _WORST)["return"]:
                best[row["seed"]] = row
        return [(seed, row["step"]) for seed, row in best.items()]

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

    def _mark_diverged(self, diverged: np.ndarray) -> None:
        """Takes note of seeds that newly diverged."""
        for seed, update in zip(self.config.seeds, diverged, strict=True):
            if update >= 0 and seed not in self.diverged:
                self.diverged[seed] = self._steps(int(update))
                self.monitor.message(
                    f"seed {seed} diverged at step {self.diverged[seed]:,}: its loss or parameters "
                    "are not finite; its state before that update is kept"
                )

    def _write_status(self, status: str) -> None:
        seeds = {
            str(seed): {"status": "diverged", "step": self.diverged[seed]}
            if seed in self.diverged
            else {"status": status, "step": self.step}
            for seed in self.config.seeds
        }
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = {name: round(value, 2) for name, value in self.seconds.items()}
        self.folder.write_status(
            status, self.step, seeds, seconds=seconds, peak_memory_mb=round(peak)
        )

    def _steps(self, update: int) -> int:
        return update * self.config.steps_per_update

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


_WORST: Row = {"return": -math.inf}


def merge_metrics(updates: list[Row]) -> Row:
    """Merges the metrics (S,) of successive updates.

    Means skip NaN; those of episodes are weighted by the number of episodes, which is summed;
    `*/min` is the least and `*/max` the greatest.
    """
    stacked = {name: np.stack([u[name] for u in updates]) for name in updates[0]}
    count = stacked.pop("episode/count")
    del stacked["diverged"]
    merged = {"episode/count": count.sum(0)}
    for name, values in stacked.items():
        if name.endswith("/min"):
            merged[name] = values.min(0)
        elif name.endswith(("/max", "replay_error")):
            merged[name] = values.max(0)
        else:
            known = np.isfinite(values)
            weight = known * (count if name.startswith("episode/") else 1)
            total = np.where(known, values, 0.0) * weight
            with np.errstate(invalid="ignore"):
                merged[name] = total.sum(0) / weight.sum(0)
    return merged
