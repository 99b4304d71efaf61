"""Probe environments: each can be learned in seconds, and only if one thing is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.types import Array, Box, Discrete, EnvSpec, Space, TimeStep


class State(NamedTuple):
    cue: Array  # () float32, -1 or 1, drawn at reset
    t: Array  # () int32


def _nothing(cue: Array, t: Array) -> Array:
    return jnp.zeros(())


def _all_alive(t: Array, agent: Array) -> Array:
    return jnp.ones(agent.shape, bool)


@dataclass(frozen=True)
class Probe:
    """An episode of `max_steps` steps with a hidden cue of -1 or 1.

    Attributes:
        reward: (cue, t, action (N,), (N, K) or (N, A)) -> () team reward for the action at time t.
        sees: (cue, t) -> () what every agent observes at time t.
        alive: (t, agent (N,)) -> (N,) bool; a dead agent observes 0 and is left action 0, of each
            choice.
        truncates: the last step is a time limit, not an end.
        shows_clock: the global state tells the time; else it is 0 there.
    """

    reward: Callable[[Array, Array, Array], Array]
    sees: Callable[[Array, Array], Array] = _nothing
    alive: Callable[[Array, Array], Array] = _all_alive
    action: Space = Discrete(2)
    num_agents: int = 1
    max_steps: int = 1
    truncates: bool = False
    shows_clock: bool = True
    groups: tuple[str, ...] = ()

    @property
    def spec(self) -> EnvSpec:
        sizes = self.num_agents, (1,), (2,), self.action, self.max_steps
        return EnvSpec(*sizes, shared_reward=True, groups=self.groups)

    def reset(self, key):
        cue = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = State(cue, jnp.int32(0))
        return state, self._time_step(state, jnp.zeros(()))

    def step(self, key, state, action):
        reward = self.reward(state.cue, state.t, action)
        state = state._replace(t=state.t + 1)
        return state, self._time_step(state, reward)

    def _time_step(self, state: State, reward: Array) -> TimeStep:
        seen = self.sees(state.cue, state.t)
        alive = self.alive(state.t, jnp.arange(self.num_agents))
        end = state.t >= self.max_steps
        heads = () if isinstance(self.action, Box) else self.action.heads
        only_first = jnp.concatenate([jnp.arange(n) == 0 for n in heads or (self.action.size,)])
        return TimeStep(
            obs=jnp.where(alive, seen, 0.0)[:, None],
            global_state=jnp.stack([seen, jnp.where(self.shows_clock, state.t, 0.0)]),
            action_mask=alive[:, None] | only_first,
            agent_mask=alive,
            reward=jnp.broadcast_to(reward, (self.num_agents,)),
            terminated=end & (not self.truncates),
            truncated=end & self.truncates,
            metrics={},
        )
