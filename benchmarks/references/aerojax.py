"""AeroJAX with the scripted team that comes with it, which sees no more than agents do."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from marsrl.envs.aerojax import AeroJAX
from marsrl.envs.aerojax.heuristic import Heuristic
from marsrl.evaluate import play_policy


def returns(env: AeroJAX, episodes: int, seed: int) -> np.ndarray:
    """Plays whole episodes side by side; (episodes,) returns."""
    run = partial(play_policy, env, Heuristic(env), num_episodes=episodes)
    return np.asarray(jax.jit(run)(jax.random.key(seed)).episode_return)
