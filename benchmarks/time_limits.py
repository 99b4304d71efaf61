"""What the critic makes of time limits: a corridor without reward, with little, without a clock.

    python benchmarks/time_limits.py

A walker starts at one end of nine cells and is paid each time that it enters the last; the clock
runs out after 20 steps, and the observation tells the time, or not. Feed-forward, 64 environments,
MARS, otherwise the defaults with raw inputs. Prints, for every seed, the critic's mean value after
300 updates, and the return (in units of the reward) after 100 and 300.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.config import Config
from marsrl.learner.algorithm import make_algorithm
from marsrl.types import Array, Discrete, EnvSpec, Key, TimeStep
from timing import table

NUM_UPDATES, NUM_SEEDS = 300, 5


class Walk(NamedTuple):
    """Where the walker is, and for how long it has walked."""

    cell: Array
    step: Array


@dataclass(frozen=True)
class Corridor:
    """Nine cells; actions: back, stay, forth."""

    reward: float
    clock: bool = True
    num_cells: int = 9
    max_steps: int = 20

    @property
    def spec(self) -> EnvSpec:
        """One agent, which sees all."""
        return EnvSpec(1, (3,), (3,), Discrete(3), self.max_steps, shared_reward=True)

    def reset(self, key: Key) -> tuple[Walk, TimeStep]:
        """At the first cell."""
        walk = Walk(jnp.int32(0), jnp.int32(0))
        return walk, self._seen(walk, jnp.zeros(()))

    def step(self, key: Key, state: Walk, action: Array) -> tuple[Walk, TimeStep]:
        """One cell back or forth, or none."""
        last = self.num_cells - 1
        cell = jnp.clip(state.cell + action[0] - 1, 0, last)
        walk = Walk(cell, state.step + 1)
        return walk, self._seen(walk, self.reward * ((cell == last) & (state.cell != last)))

    def _seen(self, walk: Walk, reward: Array) -> TimeStep:
        share = walk.cell / self.num_cells
        time = walk.step / self.max_steps if self.clock else 0.0 * walk.step
        seen = jnp.stack([share, (walk.cell == self.num_cells - 1) * 1.0, time])
        return TimeStep(
            obs=seen[None],
            global_state=seen,
            action_mask=jnp.ones((1, 3), bool),
            agent_mask=jnp.ones(1, bool),
            reward=jnp.broadcast_to(reward, (1,)),
            terminated=jnp.array(False),
            truncated=walk.step >= self.max_steps,
            metrics={},
        )


def train(env: Corridor) -> dict[str, np.ndarray]:
    """Critic's values and returns of every update and seed, (NUM_SEEDS, NUM_UPDATES) each."""
    config = Config(
        num_envs=64, rollout_length=20, core="ff", stagger=False, actor_norm="none",
        critic_norm="none", total_steps=64 * 20 * NUM_UPDATES,
    )  # fmt: skip
    algorithm = make_algorithm(config, env)

    @jax.jit
    @jax.vmap
    def run(key: Key) -> dict[str, Array]:
        def step(state, _):
            return algorithm.step(state)

        return jax.lax.scan(step, algorithm.init(key), length=NUM_UPDATES)[1]

    metrics = jax.device_get(run(jax.random.split(jax.random.key(1), NUM_SEEDS)))
    names = ("critic/value", "episode/return")
    return {name: metrics[name].total / metrics[name].number for name in names}


def main() -> None:
    """Prints a table."""
    rows = []
    for title, env in (
        ("no reward", Corridor(0.0)),
        ("reward 0.01", Corridor(0.01)),
        ("reward 1", Corridor(1.0)),
        ("reward 1, clock hidden", Corridor(1.0, clock=False)),
    ):
        curves = train(env)
        returns = curves["episode/return"] / (env.reward or 1.0)
        cells = curves["critic/value"][:, -1], returns[:, 99], returns[:, -1]
        rows.append((title, *(" ".join(f"{x:.4g}" for x in cell) for cell in cells)))
    print(table(("corridor", "value, 300 updates", "return, 100", "return, 300"), rows))


if __name__ == "__main__":
    main()
