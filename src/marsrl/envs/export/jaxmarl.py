"""Our environments for JaxMARL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.adapters.jaxmarl.library import library
from marsrl.envs.base import Environment
from marsrl.envs.export.number_types import numbers_of
from marsrl.envs.flat import flat, name_of
from marsrl.envs.vector import OnHost
from marsrl.errors import UserError
from marsrl.types import Array, Box, Discrete, Key, MultiDiscrete, TimeStep

if TYPE_CHECKING:
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv


def to_jaxmarl(env: Environment) -> MultiAgentEnv:
    """Wraps an environment for JaxMARL's wrappers and training scripts.

    All that its scripts rely on is there: dictionaries by agent; the critic's
    `obs["world_state"]`, (*state_shape,), and its size `state_size`; `dones["__all__"]`; entries
    of `infos` that are all (num_agents,); and JaxMARL's own `step`, which resets by itself and so
    computes a whole reset at every step. `step_env` does not reset.

    Raises:
        UserError: jaxmarl is not installed, or the environment is outside of JAX.
    """
    if isinstance(env, OnHost):
        raise UserError(
            f"{env.task} is played outside of JAX, where JaxMARL's resets at every step would end "
            "each episode; expected an environment in JAX, or use to_pettingzoo"
        )
    base = library().environments.MultiAgentEnv
    return type("JaxMARLEnv", (JaxMARLMethods, base), {})(flat(env))


class JaxMARLState(NamedTuple):
    """State of an exported environment.

    Attributes:
        env: the environment's own state.
        time_step: what the agents see in it.
        step: () int32, transitions since the start.
    """

    env: Any
    time_step: TimeStep
    step: Array

    @property
    def done(self) -> Array:
        """() bool, the episode is over."""
        return self.time_step.done


class JaxMARLMethods:
    """What `to_jaxmarl` adds to JaxMARL's base class, which is imported on use only.

    Each agent's discrete action is () or, as the scripts also put it, (1,); several are (K,), and a
    continuous one is (num_dims,).

    An agent is done where it takes no part (dead or padded) and when the episode ends. `infos` are
    the environment's metrics and `truncated`, repeated for each agent; JaxMARL itself does not tell
    a time limit from another end.
    """

    def __init__(self, env: Environment) -> None:
        spaces = library().environments.spaces
        spec = env.spec
        self.env = env
        self.num_agents = spec.num_agents
        self.agents = [f"agent_{i}" for i in range(spec.num_agents)]
        self.state_size = int(np.prod(spec.state_shape))
        if isinstance(spec.action, Discrete):
            action = spaces.Discrete(spec.action.num_actions)
        elif isinstance(spec.action, MultiDiscrete):
            action = spaces.MultiDiscrete(spec.action.num_actions)
        else:
            bounds = np.asarray(spec.action.low), np.asarray(spec.action.high)
            action = spaces.Box(*bounds, (spec.action.num_dims,))
        self.action_spaces = dict.fromkeys(self.agents, action)
        seen, _ = numbers_of(env)
        obs = spaces.Box(seen.low, seen.high, spec.obs_shape, seen.dtype)
        self.observation_spaces = dict.fromkeys(self.agents, obs)

    @property
    def name(self) -> str:
        """The class of the exported environment."""
        return name_of(self.env)

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """All agents in one class."""
        return {"agent": self.agents}

    @partial(jax.jit, static_argnums=0)
    def reset(self, key: Key) -> tuple[dict[str, Array], JaxMARLState]:
        """Starts an episode; `key` may be of either kind, typed or raw."""
        state = JaxMARLState(*self.env.reset(_typed(key)), jnp.int32(0))
        return self.get_obs(state), state

    def step_env(
        self, key: Key, state: JaxMARLState, actions: Mapping[str, Array]
    ) -> tuple[Any, ...]:
        """Moves one step on without a reset: (obs, state, rewards, dones, infos)."""
        action = jnp.stack([self._action(actions[agent]) for agent in self.agents])
        env_state, time_step = self.env.step(_typed(key), state.env, action)
        state = JaxMARLState(env_state, time_step, state.step + 1)
        dones = self._by_agent(time_step.done | ~time_step.agent_mask)
        infos = time_step.metrics | {"truncated": time_step.truncated}
        return (
            self.get_obs(state),
            state,
            self._by_agent(time_step.reward),
            dones | {"__all__": time_step.done},
            {name: jnp.full(self.num_agents, value) for name, value in infos.items()},
        )

    def get_obs(self, state: JaxMARLState) -> dict[str, Array]:
        """Each agent's observation, and `world_state`."""
        time_step = state.time_step
        return self._by_agent(time_step.obs) | {"world_state": time_step.global_state}

    def get_avail_actions(self, state: JaxMARLState) -> dict[str, Array]:
        """Each agent's action mask, (A,) bool."""
        return self._by_agent(state.time_step.action_mask)

    def _action(self, action: Any) -> Array:
        """One agent's action with the shape and dtype that the environment expects."""
        space = self.env.spec.action
        dtype = jnp.float32 if isinstance(space, Box) else jnp.int32
        return jnp.asarray(action, dtype).reshape(space.shape)

    def _by_agent(self, values: Array) -> dict[str, Array]:
        return dict(zip(self.agents, values, strict=True))


def _typed(key: Key) -> Key:
    """A typed key; JaxMARL's scripts use raw ones."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)
