"""AeroJAX with the scripted team that comes with it, which sees no more than agents do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.aerojax import AeroJAX
from marsrl.envs.aerojax.heuristic import Heuristic
from marsrl.evaluate import play
from marsrl.types import Array, Key, TimeStep


def returns(env: AeroJAX, episodes: int, seed: int) -> np.ndarray:
    """Plays whole episodes side by side; (episodes,) returns."""
    team = Heuristic(env)

    def act(carry: Any, now: TimeStep, first: Array, key: Key) -> tuple[Any, Array]:
        return jax.vmap(team.act)(carry, now, jax.random.split(key, episodes))

    def run(key: Key) -> Array:
        carry = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (episodes, *leaf.shape)), team.initial_carry()
        )
        return play(env, act, carry, key, episodes).episode_return

    return np.asarray(jax.jit(run)(jax.random.key(seed)))
