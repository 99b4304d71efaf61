"""Measures environments outside of JAX, and draws their curve beside JaxMARL's version of the task.

    python benchmarks/host_envs.py --out runs/host-envs

`mpe2.simple_spread_v3` is stepped in processes of its own and trained here; the same task of
JaxMARL is compiled with the learner. Both with three agents, discrete actions, 25 steps, half of
the reward local, and the mean reward of the team. Runs that are finished are kept, interrupted ones
resumed.

The first table has milliseconds of processor time, which other work on the machine does not
lengthen, per step of all environments together; and steps per second by the wall clock, which it
does:

- environments: what a process needs for its share
- transfer: what the training's process needs for a step, that is pipes and shared memory
- learner: what it needs besides for a rollout and its update: networks, callback and gradients
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from marsrl.config import Config
from marsrl.envs.host.crew import VARIABLE, Crew
from marsrl.envs.host.env import HostEnv
from marsrl.envs.host.game import Game
from marsrl.envs.registry import make
from marsrl.learner.program import Program
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from timing import circumstances, headline, in_turn, start_jax, table, write_json
from trainings import ensure_trained

HOST = Config(
    task="pettingzoo:mpe2.simple_spread_v3", num_envs=32, rollout_length=50, core="ff", devices=1
)
IN_JAX = dataclasses.replace(
    HOST,
    task="mpe/simple_spread_v3-3ag",
    task_settings={"action_type": "discrete", "max_steps": 24},  # its clock counts from 0
)
TRAINED = {"mpe2": HOST, "jaxmarl": IN_JAX}


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for the runs, the tables and the figure.
        workers: numbers of processes to measure; none: no speed.
        steps: timed steps of all environments.
        total_steps: of each seed of both trainings; 0: no training.
        seeds: of both trainings.
    """

    out: Path = Path("runs/host-envs")
    workers: tuple[int, ...] = (1, 2)
    steps: int = 100
    total_steps: int = 300_000
    seeds: tuple[int, ...] = (0, 1, 2)


def alone(env: HostEnv, steps: int) -> float:
    """Mean seconds of one step of one environment, with its restarts, in this process."""
    game, rng = Game(env.source.task, env.source.open(), env.layout), np.random.default_rng(0)
    now = {name: np.zeros(*part) for name, part in env.layout.outputs.items()}
    game.reset(0, now)
    started = time.process_time()
    for i in range(steps):
        if game.step(game.random_action(rng, now["action_mask"]), now):
            game.reset(i, now)
    return (time.process_time() - started) / steps


def together(env: HostEnv, num_envs: int, steps: int) -> float:
    """Mean seconds of this process for one step of all environments by processes of their own."""
    crew, rng = Crew(env.source, env.layout, num_envs), np.random.default_rng(0)
    crew.reset(np.arange(num_envs))
    go, started = np.ones(num_envs, bool), time.process_time()
    for i in range(steps):
        action = rng.integers(env.layout.num_actions, size=(num_envs, env.spec.num_agents))
        crew.step(go, action, np.arange(num_envs) + i)
    seconds = time.process_time() - started
    crew.close()
    return seconds / steps


def updating(program: Program, updates: int = 5) -> tuple[float, float]:
    """Median seconds of an update with its rollout, of this process and by the wall clock."""
    state = program.step(program.init())[0]

    def update(_: int) -> Any:
        nonlocal state
        state = program.step(state)[0]
        return state

    seconds = in_turn({"update": update}, updates)["update"]
    program.close()
    return statistics.median(seconds.cpu), statistics.median(seconds.wall)


def speed(args: Args) -> list[list[str]]:
    """The rows of the first table."""
    config, env = dataclasses.replace(HOST, seeds=(0,)), make(HOST.task)
    assert isinstance(env, HostEnv)
    one, rows, program = alone(env, 10 * args.steps), [], Program(config, env)
    for workers in args.workers:
        os.environ[VARIABLE] = str(workers)
        share = one * -(-config.num_envs // workers)
        crew, (cpu, wall) = together(env, config.num_envs, args.steps), updating(program)
        parts = (share, crew, cpu / config.rollout_length - crew)
        rate = config.steps_per_update / wall
        rows.append([f"{workers}", *(f"{1000 * part:.1f}" for part in parts), f"{rate:,.0f}"])
    return rows


def curve(run: Path) -> dict[int, list[float]]:
    """Environment steps -> mean return of each seed's evaluation then."""
    points: dict[int, list[float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "eval":
            points.setdefault(row["step"], []).append(row["return"])
    return points


def learn(args: Args) -> dict[str, dict[int, list[float]]]:
    """The curves of both trainings, which are trained unless they have been."""
    os.environ.pop(VARIABLE, None)
    curves = {}
    for name, config in TRAINED.items():
        changes = {"seeds": args.seeds, "total_steps": args.total_steps, "num_evaluations": 10}
        ensure_trained(dataclasses.replace(config, **changes), args.out / name)
        curves[name] = curve(args.out / name)
    return curves


def draw(curves: dict[str, dict[int, list[float]]], path: Path) -> None:
    """Means over seeds with 95 % intervals, a colour for each version of the task."""
    figure = figures.new_figure(7, 3.5)
    ax = figure.add_subplot()
    for color, (name, points) in zip(figures.COLORS, curves.items(), strict=False):
        step, values = np.array(list(points)), np.array(list(points.values())).T
        figures.seed_curves(ax, step, values, color)
        figures.curve(ax, step, *mean_band(values), name, color)
    figures.dress(ax, "Simple spread, 3 agents, discrete", "return")
    figures.legend(ax)
    figures.save(figure, path)


def main(args: Args) -> None:
    """Measures, trains and writes."""
    start_jax()
    args.out.mkdir(parents=True, exist_ok=True)
    where = circumstances()
    text = f"{headline(where)}, git {where['git']}\n\n"
    if args.workers:
        columns = ["workers", "environments (ms)", "transfer (ms)", "learner (ms)", "steps/s"]
        text += table(columns, speed(args)) + "\n"
    if args.total_steps:
        curves = learn(args)
        rows = [
            [f"{step:,}", *(cell(curves[name].get(step, [])) for name in TRAINED)]
            for step in curves["mpe2"]
        ]
        text += table(["steps", *TRAINED], rows)
        write_json(args.out / "curves.json", curves)
        draw(curves, args.out / "curves.png")
    (args.out / "tables.md").write_text(text)
    print(text)


def cell(returns: list[float]) -> str:
    """The mean over seeds, the least and the greatest."""
    if not returns:
        return ""
    return f"{np.mean(returns):.1f} ({min(returns):.1f} to {max(returns):.1f})"


if __name__ == "__main__":
    main(tyro.cli(Args))
