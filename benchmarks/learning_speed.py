"""Draws the learning curves of our trainer and of the plain one (`plain.py`) at equal steps.

    python benchmarks/learning_speed.py --out runs/learning-speed

Both have the same objective, networks' sizes, hyperparameters and evaluation episodes. Ours values
the team's state once, after the rollout, bootstraps where the clock ran out, leaves dead agents out
of its means and spreads its work over the cores; the plain one does none of that. What is finished
is kept, so that a command that was stopped can be given again; `--tasks` lets several processes
share the work. The figure shows what is finished.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from marsrl.config import Config
from marsrl.devices.startup import configure_jax
from marsrl.envs.registry import make
from marsrl.errors import UserError, near_misses
from marsrl.learner.evaluate import play
from marsrl.presets import preset
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from marsrl.report.runs import read_run
from plain import Plain
from timing import table, write_json
from training_speed import ROWS
from trainings import ensure_trained

TASKS = {
    "mpe": dataclasses.replace(ROWS["mpe"], total_steps=500_000),
    "smax": dataclasses.replace(ROWS["smax"], total_steps=600_000),
    "paxmen": preset("paxmen/4ag", total_steps=1_000_000, core="gru", update_epochs=4),
}


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for the runs, the figure and the table.
        tasks: what to train.
        seeds: of every run.
    """

    out: Path = Path("runs/learning-speed")
    tasks: tuple[str, ...] = tuple(TASKS)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self):
        for task in self.tasks:
            if task not in TASKS:
                raise UserError(f"unknown task {task!r}{near_misses(task, TASKS)}")

    def config(self, task: str) -> Config:
        """What both trainers train."""
        return dataclasses.replace(TASKS[task], seeds=self.seeds)


def plain_trainer(config: Config) -> Callable[[int], list[float]]:
    """Returns `seed -> mean returns` at the evaluations of a configuration."""
    env = make(config.task, **config.task_settings)
    trainer = Plain(config, env)
    key = jax.random.fold_in(jax.random.key(config.eval_seed), 0)
    keys = jax.vmap(partial(jax.random.fold_in, key))(np.arange(config.eval_episodes))
    carry = trainer.blank(config.eval_episodes * env.spec.num_agents)[0]
    evaluate = jax.jit(lambda params: play(env, trainer.policy(params), carry, keys))
    init, step = jax.jit(trainer.init), jax.jit(trainer.step, donate_argnums=0)

    def train_seed(seed: int) -> list[float]:
        state, returns = init(jax.random.key(seed)), []
        for update in range(config.num_updates + 1):
            if update in config.evaluation_updates:
                returns.append(float(evaluate(state.params).episode_return.mean()))
            if update < config.num_updates:
                state = step(state)
        return returns

    return train_seed


def ensure_plain(config: Config, path: Path) -> None:
    """Trains the seeds that are missing."""
    missing = [seed for seed in config.seeds if not (path / f"{seed}.json").exists()]
    kept = [plain_curve(path, seed) for seed in config.seeds if seed not in missing]
    if any(curve["hash"] != config.hash for curve in kept):
        raise UserError(f"{path} is of another configuration; choose another --out")
    train_seed = plain_trainer(config)
    for seed in missing:
        content = {"hash": config.hash, "returns": train_seed(seed)}
        write_json(path / f"{seed}.json", content)


def plain_curve(path: Path, seed: int) -> dict[str, Any]:
    """The evaluation returns of a seed, and the hash of its configuration."""
    return json.loads((path / f"{seed}.json").read_text())


def folder(args: Args, task: str, trainer: str) -> Path:
    """Where the results of a trainer are."""
    return args.out / f"{task}-{trainer}"


def read(args: Args) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Steps (T,) and returns (S, T) by task and trainer, of what is finished."""
    curves = {}
    for task in TASKS:
        try:
            run = read_run(folder(args, task, "marsrl"))
            plain = [plain_curve(folder(args, task, "plain"), seed) for seed in args.seeds]
        except (UserError, FileNotFoundError):
            continue
        if run.finished:
            returns = np.array([curve["returns"] for curve in plain])
            curves[task] = {
                "marsrl": (run.eval_step, run.eval_return),
                "plain": (run.eval_step, returns),
            }
    return curves


def draw(curves: dict[str, Any], path: Path) -> None:
    """One panel per task."""
    figure = figures.new_figure(4 * len(curves), 3.2)
    axes = np.atleast_1d(figure.subplots(1, len(curves)))
    for ax, (task, trainers) in zip(axes, curves.items(), strict=True):
        for color, (name, (step, returns)) in zip(figures.COLORS, trainers.items(), strict=False):
            figures.seed_curves(ax, step, returns, color)
            figures.curve(ax, step, *mean_band(returns), f"{name}, mean and 95 %", color)
        figures.dress(ax, TASKS[task].task, "return")
    figures.legend(axes[0])
    figures.save(figure, path)


def markdown(curves: dict[str, Any]) -> str:
    """The mean of each curve (its area), and its last return, with the range over seeds."""
    rows = []
    for task, trainers in curves.items():
        for name, (step, returns) in trainers.items():
            cells = [
                f"{x.mean():.4g} ({x.min():.4g} to {x.max():.4g})"
                for x in (returns.mean(axis=1), returns[:, -1])
            ]
            rows.append((f"`{TASKS[task].task}`", name, f"{step[-1]:,.0f}", *cells))
    return table(("task", "trainer", "steps per seed", "mean of the curve", "last"), rows)


def run(args: Args) -> dict[str, Any]:
    """Trains what is missing, then draws what is there."""
    for task in args.tasks:
        ensure_trained(args.config(task), folder(args, task, "marsrl"))
        ensure_plain(args.config(task), folder(args, task, "plain"))
    if curves := read(args):
        draw(curves, args.out / "learning-speed.png")
        (args.out / "learning-speed.md").write_text(markdown(curves))
    return curves


def main() -> None:
    """Prints a table of what is finished."""
    try:
        args = tyro.cli(Args, description=__doc__)
        configure_jax()
        print(markdown(run(args)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
