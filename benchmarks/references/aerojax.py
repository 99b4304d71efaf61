"""AeroJAX with the scripted team that comes with it, which sees no more than agents do."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from marsrl.envs.aerojax import AeroJAX
from marsrl.envs.aerojax.heuristic import Heuristic
from marsrl.learner.evaluate import play_policy


def returns(env: AeroJAX, episodes: int, seed: int) -> np.ndarray:
    """Plays whole episodes side by side; (episodes,) returns."""
    run = jax.jit(partial(play_policy, env, Heuristic(env)))
    return np.asarray(run(jax.random.split(jax.random.key(seed), episodes)).episode_return)
