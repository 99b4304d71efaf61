"""Measures the two returns between which every task's score is scaled.

    python benchmarks/task_bounds.py --tasks paxmen/4ag mpe/simple_spread_v3-3ag --json out.json

The low one is the mean return of uniformly random legal actions over `--episodes` whole episodes.
The high one is, by family:

- paxmen: one agent per room, full information, shortest ways
- mpe: one agent per landmark, full information, which drives there and brakes
- rware: one robot alone, full information, times the number of robots
- aerojax: the scripted team of the package, which sees what agents see
- connector: an upper bound, every agent by its shortest way, averaged over 1024 boards
- lbf, smax: the greatest return there is
- mabrax: published returns of a single agent that moves the whole robot

Speed is that of the random play without compilation, all environments stepped until the horizon:
by the wall clock, and by processor time because that one misleads on a machine with other work.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from marsrl.envs import registry
from marsrl.envs.base import Environment
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError, near_misses
from marsrl.learner.evaluate import play, random_policy
from references.families import reference


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: of the 47, such as `paxmen/4ag`; all of them if none is named.
        episodes: of random play, at least 2.
        reference_episodes: of scripted play, at least 2.
        seed: of all random numbers.
        json: where to write the results, after every task; a Markdown table goes beside it.
    """

    tasks: tuple[str, ...] = ()
    episodes: int = 256
    reference_episodes: int = 64
    seed: int = 0
    json: Path | None = None

    def __post_init__(self):
        for task in self.tasks:
            if task not in TASKS:
                raise UserError(f"unknown task {task!r}{near_misses(task, TASKS)}")
        for name in ("episodes", "reference_episodes"):
            if getattr(self, name) < 2:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least 2")


def random_play(env: Environment, episodes: int, seed: int) -> dict[str, Any]:
    """Returns, lengths and speed of random legal actions."""
    key = jax.random.key(seed)
    run = jax.jit(
        lambda key: play(env, random_policy(env.spec), (), jax.random.split(key, episodes))
    )
    compiled = run.lower(key).compile()
    wall, cpu = time.perf_counter(), time.process_time()
    stats = jax.block_until_ready(compiled(key))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    steps = episodes * env.spec.max_steps
    return {
        **summary(np.asarray(stats.episode_return)),
        "length": float(stats.length.mean()),
        "steps_per_second": steps / wall,
        "steps_per_cpu_second": steps / cpu,
    }


def summary(returns: np.ndarray) -> dict[str, Any]:
    """Mean and standard error of returns (M,); the error of a single, known number is 0."""
    spread = returns.std(ddof=1) if returns.size > 1 else 0.0
    return {
        "mean": float(returns.mean()),
        "stderr": float(spread / np.sqrt(returns.size)),
        "episodes": returns.size,
    }


def measure(task: str, args: Args) -> dict[str, Any]:
    """The low and the high return of one task."""
    low = random_play(registry.make(task), args.episodes, args.seed)
    high = reference(task, args.reference_episodes, args.seed)
    return {"low": low, "high": {**summary(high.returns), "kind": high.kind}}


def line(task: str, result: dict[str, Any]) -> str:
    """One line about one task."""
    low, high = result["low"], result["high"]
    return (
        f"{task:26} random {low['mean']:9.3f} +- {low['stderr']:7.3f}"
        f"  length {low['length']:6.1f}"
        f"  steps/s {low['steps_per_second']:9,.0f} (cpu {low['steps_per_cpu_second']:9,.0f})"
        f"  {high['kind']:9} {high['mean']:9.3f} +- {high['stderr']:6.3f}"
    )


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table, with the sizes of each task."""
    lines = [
        "| task | agents | obs | state | actions | horizon | random | reference | steps/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        task, low, high = TASKS[name], result["low"], result["high"]
        rate = round(low["steps_per_cpu_second"], -2)
        reference = f"{high['mean']:,.0f}" if high["mean"] >= 1000 else f"{high['mean']:.4g}"
        lines.append(
            f"| `{name}` | {task.num_agents} | {task.obs_size} | {task.state_size} | "
            f"{task.action} | {task.max_steps} | {low['mean']:.4g} ± {low['stderr']:.2g} | "
            f"{reference} | {rate:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    """Measures task by task, prints, and writes JSON if asked to."""
    results = {}
    try:
        args = tyro.cli(Args, description=__doc__)
        for task in args.tasks or TASKS:
            results[task] = measure(task, args)
            print(line(task, results[task]), flush=True)
            jax.clear_caches()  # else the programs of all tasks stay in memory
            if args.json is not None:
                args.json.write_text(json.dumps(results, indent=2) + "\n")
                args.json.with_suffix(".md").write_text(table(results))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
