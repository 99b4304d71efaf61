"""Plays teams, trained or scripted, for whole episodes side by side.

A team decides on the host, where scripts have scipy to assign roles; only the environment is
compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from marsrl.envs.base import Environment
from marsrl.runs.policy import Policy
from marsrl.types import TimeStep

Act = Callable[[Any, TimeStep, Any], Any]
"""States and time steps of B episodes, a key for each -> actions (B, N) or (B, N, A)."""
Team = Callable[[Any], Act]
"""States at the start, numpy leaves (B, ...) -> what the team does in these episodes."""
Decide = Callable[[Any], np.ndarray]
"""States of B episodes, as above -> actions."""
Script = Callable[[Any], Decide]
"""States at the start, likewise -> the rule for these episodes; it sees the whole state."""


class Episodes(NamedTuple):
    """What a team did in B episodes.

    Attributes:
        returns: (B,) sums of the team's (mean) reward.
        seen: what was watched before the first step and after each.
    """

    returns: np.ndarray
    seen: list[Any]


def scripted(script: Script) -> Team:
    """A team that follows a rule."""

    def team(start: Any) -> Act:
        decide = script(start)
        return lambda state, now, keys: decide(state)

    return team


def trained(policy: Policy) -> Team:
    """A team that samples what it does."""

    def team(start: Any) -> Act:
        carry = policy.initial_carry(len(jax.tree.leaves(start)[0]))

        def act(state: Any, now: TimeStep, keys: Any) -> Any:
            nonlocal carry
            carry, action = policy.act(carry, now, keys)
            return action

        return act

    return team


def play(
    env: Environment,
    team: Team,
    episodes: int,
    seed: int,
    watch: Callable[[Any], Any] = lambda state: None,
) -> Episodes:
    """Plays whole episodes; `watch` looks at their states, numpy leaves (B, ...)."""
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    reset_key, key = jax.random.split(jax.random.key(seed))
    state, now = reset(jax.random.split(reset_key, episodes))
    shown = jax.tree.map(np.asarray, state)
    act, seen = team(shown), [watch(shown)]
    returns, running = np.zeros(episodes), np.ones(episodes, bool)
    for step_key in jax.random.split(key, env.spec.max_steps):
        keys = jax.random.split(step_key, episodes)
        action = act(shown, now, jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
        state, now = step(keys, state, action)
        shown = jax.tree.map(np.asarray, state)
        seen.append(watch(shown))
        returns += running * np.asarray(now.reward).mean(-1)
        running &= ~np.asarray(now.done)
    return Episodes(returns, seen)
