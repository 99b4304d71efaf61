"""One run among those that train together in one program: its log, checkpoints and status."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from marsrl.config import Config
from marsrl.devices.distributed import from_first, is_first
from marsrl.devices.sharding import gather
from marsrl.envs.vector import EpisodeStats
from marsrl.learner.algorithm import TrainState
from marsrl.learner.metrics import Metrics
from marsrl.learner.networks import Weights
from marsrl.runs import actors, pending
from marsrl.runs.checkpoint import CheckpointError, CheckpointWriter
from marsrl.runs.folder import METRICS, RunFolder, of_seeds, resume_command, seed_states
from marsrl.runs.lock import Lock
from marsrl.runs.monitor import Monitor
from marsrl.runs.records import Row
from marsrl.runs.scores import best_update
from marsrl.system import peak_memory_mb
from marsrl.types import EnvSpec, PyTree


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


class Member:
    """A run's records: what is written of its seeds, which are some of the program's.

    Args:
        config: the run's.
        spec: of the environment.
        folder: where it is written.
        lock: that this process holds.
        monitor: who watches.
        seeds: which of the program's seeds are the run's.
        seeds_in_program: how many the program has.
    """

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        folder: RunFolder,
        lock: Lock,
        monitor: Monitor,
        seeds: slice,
        seeds_in_program: int,
    ) -> None:
        self.config = config
        self.spec = spec
        self.folder = folder
        self.lock = lock
        self.monitor = monitor
        self.seeds = seeds
        self.seeds_in_program = seeds_in_program
        self.before = folder.times()
        self.checkpoints = CheckpointWriter(folder.checkpoints, config.keep_checkpoints)
        self.diverged: dict[int, int] = {}
        self.not_finite: dict[int, str] = {}
        self.final: dict[int, float] = {}

    @property
    def result(self) -> Result:
        """What it has come to."""
        return Result(
            self.folder.path, self.final, self.diverged, self.not_finite, self.all_diverged
        )

    @property
    def all_diverged(self) -> bool:
        """Whether no seed is left."""
        return len(self.diverged) == len(self.config.seeds)

    def restore(self, template: TrainState) -> tuple[int, TrainState | None, list[Metrics]]:
        """The update to go on from, of the newest sound checkpoint, its state and pending metrics.

        The log becomes the one that the checkpoint remembers: what came after is written again.

        Returns:
            The state is None if the run has yet to begin.
        """
        self.folder.clean()
        self.checkpoints.clean()
        if not self.checkpoints.steps():
            from_first(self._check_nothing_lost)
            self.folder.replace_log(b"")
            return 0, None, []
        try:
            update, state, refused = self.checkpoints.restore_newest(template)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {self._way_out()}") from error
        for reason in refused:
            self.monitor.message(f"refused: {reason}")
        self.checkpoints.go_back_to(update)
        if damage := self.folder.log.damage():
            self.monitor.message(f"{damage}; the checkpoint's copy is used")
        self.folder.replace_log(self.checkpoints.file(update, METRICS) or b"")
        about = self.checkpoints.about(update)
        self.diverged = of_seeds(about, "diverged")
        self.not_finite = of_seeds(about, "not_finite")
        return update, state, pending.unpack(self.checkpoints.file(update, pending.FILE))

    def note_session(self, step: int) -> None:
        """Writes down with what the run goes on from a step: see `RunFolder.note_session`."""
        from_first(lambda: self.folder.note_session(self.config, step))

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
        command = resume_command(self.folder.path, self.config, restart=True)
        return f"to begin anew, with what is there set aside: {command}"

    def save(
        self,
        update: int,
        state: TrainState,
        scores: dict[int, float] | None,
        waiting: list[Metrics],
    ) -> None:
        """Saves a checkpoint of the run's part of the state.

        Args:
            update: after which.
            state: of all the program's seeds.
            scores: of the evaluation, if it was evaluated.
            waiting: metrics of updates that no row of the log tells of yet.
        """
        from_first(self.lock.check)
        state, waiting = self._mine(state), self._mine(waiting)
        notes = {
            "config": self.config.to_dict(),
            "diverged": {str(seed): step for seed, step in self.diverged.items()},
            "not_finite": {str(seed): text for seed, text in self.not_finite.items()},
        }
        layout = actors.layout_of(self.spec, state.rollout.vector.time_step)
        files = {actors.FILE: actors.pack(gather(state.learner.weights.actor), layout)}
        if is_first():
            files[METRICS] = self.folder.log.content()
        if waiting:
            files[pending.FILE] = pending.pack(waiting)
        self.checkpoints.save(update, state, scores, notes, files)

    def _mine(self, tree: PyTree) -> PyTree:
        """The run's part of arrays (S, ...)."""
        first = jax.tree.leaves(tree)[:1]
        if not first or len(first[0]) == len(self.config.seeds):  # all, as they lie
            return tree
        return jax.tree.map(lambda x: x[self.seeds], tree)

    def append(self, rows: list[Row]) -> None:
        """Appends rows to the log."""
        from_first(self.lock.check)
        self.folder.append(rows)

    def log(
        self,
        step: int,
        seconds: float,
        rate: float,
        diverged: np.ndarray,
        metrics: Metrics,
        values: dict[str, np.ndarray],
    ) -> list[Row]:
        """Writes a row per live seed about the updates since the last one.

        Args:
            step: environment steps of a seed.
            seconds: since the run began.
            rate: steps of all seeds per second.
            diverged: (S,) the update at which each of the program's seeds diverged, or -1.
            metrics: of each update, (S, n).
            values: of all of them together, (S,).
        """
        self._mark_diverged(self._mine(diverged), self._mine(metrics))
        values = self._mine(values)
        rows = [
            {
                "kind": "train",
                "seed": seed,
                "step": step,
                "seconds": round(seconds, 2),
                "steps_per_second": round(rate, 1),
                **{name: float(x[i]) for name, x in values.items()},
            }
            for i, seed in enumerate(self.config.seeds)
            if seed not in self.diverged
        ]
        self.append(rows)
        return rows

    def _mark_diverged(self, diverged: np.ndarray, metrics: Metrics) -> None:
        """Takes note of seeds that newly diverged."""
        for i, (seed, update) in enumerate(zip(self.config.seeds, diverged, strict=True)):
            if update >= 0 and seed not in self.diverged:
                self.diverged[seed] = int(update) * self.config.steps_per_update
                self.not_finite[seed] = pending.not_finite(metrics, i)
                self.monitor.message(
                    f"seed {seed} diverged at step {self.diverged[seed]:,}: its loss or parameters "
                    f"are not finite ({self.not_finite[seed]}); its state before that update is "
                    "kept"
                )

    def evaluated(self, stats: EpisodeStats, step: int) -> dict[int, float]:
        """Writes the evaluation after so many steps, and returns the scores of the live seeds."""
        live = [i for i, seed in enumerate(self.config.seeds) if seed not in self.diverged]
        rows = self._score_rows("eval", stats, dict.fromkeys(live, step))
        self.append(rows)
        for row in rows:
            if not math.isfinite(row["return"]):
                self.monitor.message(
                    f"seed {row['seed']}: the evaluation at step {step:,} has no finite return; "
                    "it counts as the worst"
                )
        return {row["seed"]: row["return"] for row in rows}

    def scored(self, stats: EpisodeStats, steps: dict[int, int], best: bool) -> None:
        """Writes what many episodes, (S, B), came to.

        Args:
            stats: the episodes of the program's seeds.
            steps: index of a seed of the run -> environment steps of the parameters that played.
            best: whether they are the seed's best ones, and not its last.
        """
        kind = "final" if best else "last"
        rows = self._score_rows(kind, stats, steps)
        self.append(rows)
        if best:
            self.final = {row["seed"]: row["return"] for row in rows}

    def _score_rows(self, kind: str, stats: EpisodeStats, steps: dict[int, int]) -> list[Row]:
        config = self.config
        return score_rows(kind, config.seeds, config.eval_greedy, self._mine(stats), steps)

    def best_updates(self) -> dict[int, int]:
        """Index of a seed -> the update of its best evaluation, as far as checkpoints are sound."""
        return dict(from_first(self._best_updates))

    def _best_updates(self) -> list[tuple[int, int]]:
        scores = self.checkpoints.scores()
        for update in self.checkpoints.complete():
            if fault := self.checkpoints.fault(update):
                self.monitor.message(f"not among the best, because it is damaged: {fault}")
                scores.pop(update, None)
        best = {i: best_update(scores, seed) for i, seed in enumerate(self.config.seeds)}
        return [(i, update) for i, update in best.items() if update is not None]

    def actors(self, updates: Iterable[int | None], now: Weights) -> Weights:
        """The actors of the run's seeds at some updates, (S', ...) as NumPy arrays.

        Args:
            updates: of each seed; None for the present one.
            now: the present ones of all the program's seeds, (S, ...).
        """
        now = self._mine(now)
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), now)

        def at(i: int, update: int | None) -> Weights:
            if update is None:
                return jax.tree.map(lambda x: x[i], now)
            return actors.unpack(self.checkpoints.file(update, actors.FILE) or b"", one, i)

        return jax.tree.map(lambda *x: np.stack(x), *(at(i, u) for i, u in enumerate(updates)))

    def wall_seconds(self, seconds: dict[str, float]) -> float:
        """Wall time of the run so far, of whose present program these are the seconds."""
        return self.before.wall + sum(seconds.values())

    def write_status(self, status: str, step: int, seconds: dict[str, float]) -> None:
        """Replaces status.json."""
        seeds = seed_states(self.config.seeds, status, step, self.diverged, self.not_finite)
        share = len(self.config.seeds) / self.seeds_in_program
        own = {x: self.before.own.get(x, 0.0) + share * value for x, value in seconds.items()}
        self.folder.write_status(
            status,
            step,
            seeds,
            seconds={name: round(value, 2) for name, value in own.items()},
            wall_seconds=round(self.wall_seconds(seconds), 2),
            seeds_in_program=self.seeds_in_program,
            peak_memory_mb=peak_memory_mb(),
        )


def score_rows(
    kind: str, seeds: Sequence[int], greedy: bool, stats: EpisodeStats, steps: dict[int, int]
) -> list[Row]:
    """Rows about episodes.

    Args:
        kind: of the rows.
        seeds: of the run.
        greedy: whether they were played without chance.
        stats: the episodes of its seeds, (S', B).
        steps: index of a seed -> environment steps of the parameters that played.
    """
    return [
        {
            "kind": kind,
            "seed": seeds[i],
            "step": step,
            "greedy": greedy,
            "return": float(stats.episode_return[i].mean()),
            "length": float(stats.length[i].mean()),
            **{name: float(values[i].mean()) for name, values in stats.metrics.items()},
            "returns": stats.episode_return[i].tolist(),
        }
        for i, step in steps.items()
    ]
