"""Plays a scripted team that sees the whole state.

The team decides on the host, where scipy assigns roles; only the environment is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from marsrl.envs.base import Environment

Policy = Callable[[Any], np.ndarray]
"""States of B episodes, numpy leaves (B, ...) -> actions (B, N) or (B, N, A)."""
Script = Callable[[Any], Policy]
"""States at the start, as above -> the policy for these episodes."""


def returns(env: Environment, script: Script, episodes: int, seed: int) -> np.ndarray:
    """Plays whole episodes side by side; (episodes,) sums of the team's (mean) reward."""
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    reset_key, key = jax.random.split(jax.random.key(seed))
    state, _ = reset(jax.random.split(reset_key, episodes))
    policy = script(jax.tree.map(np.asarray, state))
    total, running = np.zeros(episodes), np.ones(episodes, bool)
    for step_key in jax.random.split(key, env.spec.max_steps):
        action = policy(jax.tree.map(np.asarray, state))
        state, outcome = step(jax.random.split(step_key, episodes), state, action)
        total += running * np.asarray(outcome.reward).mean(-1)
        running &= ~np.asarray(outcome.done)
    return total
