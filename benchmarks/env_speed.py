"""Measures how many environment steps per second one core makes with random legal actions.

    taskset -c 0 python benchmarks/env_speed.py --task paxmen/4ag --num-envs 256

`taskset -c 0` binds the process, with all of XLA's threads, to one core (Linux); without it XLA may
use more. Each repetition is one compiled call of `--num-steps` steps of every environment, after
one call that compiles and one that warms up; a step of one environment counts once, whatever the
number of agents. Two loops are timed in turn:

- `auto_reset`: `VectorEnv`, as in training. Ended episodes restart from a pool of fresh starts,
  `--pool` for each environment, that is drawn anew in every repetition and timed with it.
- `no_reset`: the bare environment under `vmap`; finished episodes are stepped on.

Drawing the actions is part of both. Each is given by the wall clock and, because that one misleads
on a machine with other work, by the processor time of the process. Every output is reduced to a
sum, so that nothing can be skipped by the compiler.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro

from marsrl.distributions import random_action
from marsrl.envs import registry
from marsrl.envs.vector import VectorEnv, split_each
from timing import circumstances, headline, in_turn, write_json


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        task: name in the registry, such as `paxmen/4ag`.
        num_envs: environments stepped together.
        num_steps: steps of every environment in one repetition.
        repetitions: timed calls, at least 5; the median counts.
        pool: fresh starts that each environment draws at a time.
        seed: of all random numbers.
        json: where to write the result as JSON.
    """

    task: str = "paxmen/4ag"
    num_envs: int = 256
    num_steps: int = 400
    repetitions: int = 7
    pool: int = 4
    seed: int = 0
    json: Path | None = None

    def __post_init__(self):
        if self.repetitions < 5:
            raise ValueError(f"repetitions is {self.repetitions}, expected at least 5")


def auto_reset_loop(venv: VectorEnv, num_envs: int, num_steps: int, pool_size: int):
    """Returns `key -> checksum`: pools, then `num_steps` steps with restarts."""

    def run(key):
        reset_key, pool_key, key = jax.random.split(key, (3, num_envs))

        def step(carry, _):
            state, key, pool = carry
            key, action_key, step_key = split_each(key, 3)
            mask = state.time_step.action_mask
            action = random_action(action_key, venv.spec.action, mask)
            state, outcome, _, pool = venv.step(step_key, state, action, pool)
            return (state, key, pool), checksum(outcome)

        start = venv.reset(reset_key), key, venv.empty_pool(pool_key, pool_size)
        return jax.lax.scan(step, start, length=num_steps)[1].sum()

    return jax.jit(run)


def no_reset_loop(venv: VectorEnv, num_envs: int, num_steps: int):
    """Returns `key -> checksum`: `num_steps` steps whatever has ended."""

    def run(key):
        reset_key, key = jax.random.split(key, (2, num_envs))

        def step(carry, _):
            state, time_step, key = carry
            key, action_key, step_key = split_each(key, 3)
            action = random_action(action_key, venv.spec.action, time_step.action_mask)
            state, time_step = jax.vmap(venv.env.step)(step_key, state, action)
            return (state, time_step, key), checksum(time_step)

        start = jax.vmap(venv.env.reset)(reset_key)
        return jax.lax.scan(step, (*start, key), length=num_steps)[1].sum()

    return jax.jit(run)


def checksum(tree):
    """A number that depends on every element, () float32."""
    return sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(tree))


def measure(args: Args):
    """Times both loops; returns everything needed to read the numbers."""
    venv = VectorEnv(registry.make(args.task))
    loops = {
        "auto_reset": auto_reset_loop(venv, args.num_envs, args.num_steps, args.pool),
        "no_reset": no_reset_loop(venv, args.num_envs, args.num_steps),
    }
    keys = jax.random.split(jax.random.key(args.seed), args.repetitions + 2)
    calls = {name: lambda i, loop=loop: loop(keys[i]) for name, loop in loops.items()}
    steps = args.num_envs * args.num_steps
    rates = {
        f"{name}/{clock}": [steps / taken for taken in seconds]
        for name, clocks in in_turn(calls, args.repetitions, warm_up=2).items()
        for clock, seconds in clocks._asdict().items()
    }
    return {
        **{key: value for key, value in asdict(args).items() if key != "json"},
        "median": {name: statistics.median(values) for name, values in rates.items()},
        "rates": rates,
        "circumstances": circumstances(),
    }


def main():
    """Measures, prints, and writes JSON if asked to."""
    args = tyro.cli(Args, description=__doc__)
    result = measure(args)
    print(headline(result["circumstances"]))
    print(f"{args.task}, {args.num_envs} environments, steps per second:")
    for name, rates in result["rates"].items():
        print(
            f"  {name:16} median {result['median'][name]:>11,.0f}"
            f"  (of {len(rates)}: {min(rates):,.0f} to {max(rates):,.0f})"
        )
    if args.json is not None:
        write_json(args.json, result)


if __name__ == "__main__":
    main()
