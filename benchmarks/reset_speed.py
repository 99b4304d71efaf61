"""Compares the pool of fresh starts with jumanji's own auto-reset, random legal actions.

    taskset -c 0 python benchmarks/reset_speed.py

Three loops per task, alike but for what happens when an episode ends. They are timed in turn, so
that other work on the machine meets all of them; the ratios of the medians count:

- `shipped`: jumanji's `AutoResetWrapper` under `vmap`, which computes a whole reset at every step;
- `pool`: `VectorEnv` as in training with the task's preset; one pool per rollout, timed with it;
- `none`: our environment without any reset, finished episodes stepped on.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from env_speed import auto_reset_loop, checksum, no_reset_loop, processor
from marsrl.distributions import random_action
from marsrl.envs.registry import make
from marsrl.envs.vector import VectorEnv
from marsrl.presets import preset


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: names of jumanji tasks.
        num_envs: environments stepped together.
        rollout_length: steps of every environment in one repetition.
        repetitions: timed calls of each loop; the median counts.
        json: where to write the result as JSON.
    """

    tasks: tuple[str, ...] = ("rware/tiny-4ag", "lbf/15x15-4p-5f", "connector/10x10x10a")
    num_envs: int = 64
    rollout_length: int = 128
    repetitions: int = 9
    json: Path | None = None


def shipped_loop(env, num_envs: int, num_steps: int):
    """Returns `key -> checksum` of the library's own vectorised auto-reset."""
    from jumanji.wrappers import AutoResetWrapper, VmapWrapper

    wrapped, space = VmapWrapper(AutoResetWrapper(env.game)), env.spec.action

    def run(key):
        reset_key, scan_key = jax.random.split(key)

        def step(carry, key):
            state, time_step = carry
            action = random_action(key, space, time_step.observation.action_mask)
            state, time_step = wrapped.step(state, action)
            outcome = time_step.observation, time_step.reward, time_step.discount
            return (state, time_step), checksum(outcome)

        start = wrapped.reset(jax.random.split(reset_key, num_envs))
        return jax.lax.scan(step, start, jax.random.split(scan_key, num_steps))[1].sum()

    return jax.jit(run)


def measure(task: str, args: Args) -> dict[str, float]:
    """Median environment steps per second of each loop."""
    env, length = make(task), args.rollout_length
    venv = VectorEnv(env, args.num_envs)
    config = preset(task, num_envs=args.num_envs, rollout_length=length)
    loops = {
        "shipped": shipped_loop(env, args.num_envs, length),
        "pool": auto_reset_loop(venv, length, config.pool_size(env.spec.max_steps)),
        "none": no_reset_loop(venv, length),
    }
    seconds = {name: [] for name in loops}
    for key in jax.random.split(jax.random.key(0), args.repetitions + 1):  # the first compiles
        for name, loop in loops.items():
            started = time.perf_counter()
            jax.block_until_ready(loop(key))
            seconds[name].append(time.perf_counter() - started)
    steps = args.num_envs * length
    return {name: steps / statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    """Measures every task and prints a table."""
    args = tyro.cli(Args, description=__doc__)
    print(f"{processor()}, {len(os.sched_getaffinity(0))} core(s), jax {jax.__version__}")
    results = {}
    for task in args.tasks:
        results[task] = rates = measure(task, args)
        print(
            f"{task:24} shipped {rates['shipped']:>10,.0f}  pool {rates['pool']:>10,.0f}  "
            f"none {rates['none']:>10,.0f}  pool / shipped {rates['pool'] / rates['shipped']:.1f}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
