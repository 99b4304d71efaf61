"""Compares the pool of fresh starts with jumanji's own auto-reset, under random actions.

    taskset -c 0 python benchmarks/reset_speed.py

Three loops per task, alike but for what happens when an episode ends. They are timed in turn, so
that other work on the machine meets all of them; the ratios of the medians count:

- `shipped`: jumanji's `AutoResetWrapper` under `vmap`, which computes a whole reset at every step;
- `pool`: `VectorEnv` as in training; one pool per rollout, drawn anew and timed with it;
- `none`: our environment without any reset, finished episodes stepped on.

Actions are drawn beforehand: masked random ones would take up to 40 % of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import tyro

from env_speed import checksum
from marsrl.envs.registry import make
from marsrl.envs.vector import VectorEnv
from timing import circumstances, headline, in_turn, median_rate, write_json


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: names of jumanji tasks.
        num_envs: environments stepped together.
        rollout_length: steps of every environment in one repetition.
        pool: fresh starts per environment and repetition.
        repetitions: timed calls of each loop; the median counts.
        json: where to write the result as JSON.
    """

    tasks: tuple[str, ...] = ("rware/tiny-4ag", "lbf/15x15-4p-5f", "connector/10x10x10a")
    num_envs: int = 64
    rollout_length: int = 128
    pool: int = 4
    repetitions: int = 9
    json: Path | None = None


def random_actions(env, args: Args):
    """Uniform actions (T, E, N), legal or not: jumanji takes an illegal one for "do nothing"."""
    shape = args.rollout_length, args.num_envs, env.spec.num_agents
    return jax.random.randint(jax.random.key(1), shape, 0, env.spec.action.num_actions)


def shipped_loop(env, actions):
    """Returns `key -> checksum` of the library's own vectorised auto-reset."""
    from jumanji.wrappers import AutoResetWrapper, VmapWrapper

    wrapped = VmapWrapper(AutoResetWrapper(env.game))

    def run(key):
        def step(state, action):
            state, time_step = wrapped.step(state, action)
            return state, checksum((time_step.observation, time_step.reward, time_step.discount))

        state, _ = wrapped.reset(jax.random.split(key, actions.shape[1]))
        return jax.lax.scan(step, state, actions)[1].sum()

    return jax.jit(run)


def pool_loop(env, actions, pool_size: int):
    """Returns `key -> checksum` of a rollout with restarts from a pool."""
    venv = VectorEnv(env)

    def run(key):
        reset_key, pool_key, step_key = jax.random.split(key, (3, actions.shape[1]))

        def step(playing, action):
            state, outcome, _, pool = venv.step(step_key, playing[0], action, playing[1])
            return (state, pool), checksum(outcome)

        start = venv.reset(reset_key), venv.empty_pool(pool_key, pool_size)
        return jax.lax.scan(step, start, actions)[1].sum()

    return jax.jit(run)


def bare_loop(env, actions):
    """Returns `key -> checksum` of a rollout whose episodes never restart."""

    def run(key):
        keys = jax.random.split(key, actions.shape[1])

        def step(state, action):
            state, outcome = jax.vmap(env.step)(keys, state, action)
            return state, checksum(outcome)

        return jax.lax.scan(step, jax.vmap(env.reset)(keys)[0], actions)[1].sum()

    return jax.jit(run)


def measure(task: str, args: Args) -> dict[str, float]:
    """Median environment steps per second of each loop."""
    env = make(task)
    actions = random_actions(env, args)
    loops = {
        "shipped": shipped_loop(env, actions),
        "pool": pool_loop(env, actions, args.pool),
        "none": bare_loop(env, actions),
    }
    keys = jax.random.split(jax.random.key(0), args.repetitions + 1)
    calls = {name: lambda i, loop=loop: loop(keys[i]) for name, loop in loops.items()}
    steps = args.num_envs * args.rollout_length
    seconds = in_turn(calls, args.repetitions)
    return {name: median_rate(steps, clocks.wall) for name, clocks in seconds.items()}


def main() -> None:
    """Measures every task and prints a table."""
    args = tyro.cli(Args, description=__doc__)
    where, results = circumstances(), {}
    print(headline(where))
    for task in args.tasks:
        results[task] = rates = measure(task, args)
        print(
            f"{task:24} shipped {rates['shipped']:>10,.0f}  pool {rates['pool']:>10,.0f}  "
            f"none {rates['none']:>10,.0f}  pool / shipped {rates['pool'] / rates['shipped']:.1f}"
        )
    if args.json is not None:
        write_json(args.json, {"circumstances": where, "steps_per_second": results})


if __name__ == "__main__":
    main()
