"""Our environments behind the interfaces of JaxMARL and PettingZoo."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.adapters import require
from marsrl.envs.base import Environment
from marsrl.errors import UserError
from marsrl.types import Array, Discrete, Key, TimeStep

if TYPE_CHECKING:
    from jaxmarl.environments.multi_agent_env import MultiAgentEnv
    from pettingzoo import ParallelEnv


def agent_names(num_agents: int) -> list[str]:
    """Names the agents `agent_0`, `agent_1`, ... as both libraries do."""
    return [f"agent_{i}" for i in range(num_agents)]


# --- JaxMARL --------------------------------------------------------------------------------------


def to_jaxmarl(env: Environment) -> MultiAgentEnv:
    """Wraps an environment for JaxMARL's wrappers and training scripts.

    What its scripts rely on holds: dictionaries by agent, `obs["world_state"]` (*state_shape,) and
    `state_size`, `done["__all__"]`, every entry of `info` (num_agents,), and a `step` that resets
    by itself as all of JaxMARL's do (a whole reset at every step). See `JaxMARLMethods`.

    Raises:
        UserError: jaxmarl is not installed.
    """
    base = require("jaxmarl.environments.multi_agent_env", "jaxmarl").MultiAgentEnv
    return type("JaxMARLEnv", (JaxMARLMethods, base), {})(env)


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
    """What `to_jaxmarl` adds to JaxMARL's base class.

    An agent is done where it takes no part (dead or padded) and when the episode ends. `info` has
    the environment's metrics and `truncated`, repeated for each agent: JaxMARL itself does not tell
    a time limit from an end.
    """

    def __init__(self, env: Environment) -> None:
        spaces = require("jaxmarl.environments.spaces", "jaxmarl")
        spec = env.spec
        self.env = env
        self.num_agents = spec.num_agents
        self.agents = agent_names(spec.num_agents)
        self.state_size = int(np.prod(spec.state_shape))
        if isinstance(spec.action, Discrete):
            action = spaces.Discrete(spec.action.num_actions)
        else:
            action = spaces.Box(spec.action.low, spec.action.high, (spec.action.num_dims,))
        self.action_spaces = dict.fromkeys(self.agents, action)
        obs = spaces.Box(-np.inf, np.inf, spec.obs_shape)
        self.observation_spaces = dict.fromkeys(self.agents, obs)

    @property
    def name(self) -> str:
        """The class of the exported environment."""
        return type(self.env).__name__

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
        action = jnp.stack([actions[agent] for agent in self.agents])
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

    def _by_agent(self, values: Array) -> dict[str, Array]:
        return dict(zip(self.agents, values, strict=True))


def _typed(key: Key) -> Key:
    """A typed key; JaxMARL's scripts use raw ones."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


# --- PettingZoo -----------------------------------------------------------------------------------


def to_pettingzoo(env: Environment, seed: int = 0) -> ParallelEnv:
    """Wraps an environment as a PettingZoo `ParallelEnv`, with NumPy arrays in and out.

    Args:
        env: any environment; its `reset` and `step` are compiled on first use.
        seed: of the random numbers, until `reset` is given another one.

    Raises:
        UserError: pettingzoo is not installed.
    """
    base = require("pettingzoo", "pettingzoo").ParallelEnv
    return type("PettingZooEnv", (PettingZooMethods, base), {})(env, seed)


class PettingZooMethods:
    """What `to_pettingzoo` adds to PettingZoo's base class.

    - Observations are plain `Box` arrays. The legal actions are in `infos[agent]["action_mask"]`,
      (A,) int8, for discrete actions; the environment's metrics are in `infos` too.
    - `terminations` are True where the episode terminated, and for an agent that died;
      `truncations` where the clock ran out. Such agents leave `agents`, for the rest of the
      episode. Agents that are masked at the start never appear.
    - For an agent that left, the first legal action is played (the action nearest to zero, if
      continuous).
    - `reset(seed)` determines all that follows; `reset()` goes on with the random numbers.
    - `state()` is the global state, `render()` a picture if the environment can draw one.
    """

    def __init__(self, env: Environment, seed: int) -> None:
        spaces = require("gymnasium.spaces", "pettingzoo")
        spec = env.spec
        self.env = env
        drawable = hasattr(env, "draw")
        self.metadata = {
            "name": type(env).__name__,
            "render_modes": ["rgb_array"] if drawable else [],
            "is_parallelizable": True,
        }
        self.render_mode = "rgb_array" if drawable else None
        self.possible_agents = agent_names(spec.num_agents)
        self.agents: list[str] = []
        self.state_space = spaces.Box(-np.inf, np.inf, spec.state_shape, np.float32)
        self.observation_spaces = {
            agent: spaces.Box(-np.inf, np.inf, spec.obs_shape, np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: spaces.Discrete(spec.action.num_actions)
            if isinstance(spec.action, Discrete)
            else spaces.Box(spec.action.low, spec.action.high, (spec.action.num_dims,), np.float32)
            for agent in self.possible_agents
        }
        self._key = jax.random.key(seed)
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)

    def observation_space(self, agent: str) -> Any:
        """A Box without bounds, (*obs_shape) float32."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Discrete or Box, as the spec says."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Starts an episode: (observations, infos); `options` is not used."""
        if seed is not None:
            self._key = jax.random.key(seed)
        self._take(self._reset(self._next_key()))
        self.agents = [a for a, live in self._by_agent(self._now.agent_mask).items() if live]
        return self._observations(self.agents), self._infos(self.agents)

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Moves one step on.

        Args:
            actions: one for each of `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that acted.

        Raises:
            UserError: the episode is over, or an agent's action is missing.
        """
        acted = self.agents
        missing = [agent for agent in acted if agent not in actions]
        if missing or not acted:
            what = f"the actions lack {missing[0]}" if missing else "no agent is left; call reset()"
            raise UserError(f"cannot step {self.metadata['name']}: {what}")
        fill = self._by_agent(self._fill())
        action = np.stack([actions[a] if a in acted else fill[a] for a in self.possible_agents])
        action = action.astype(
            np.int32 if isinstance(self.env.spec.action, Discrete) else np.float32
        )
        self._take(self._step(self._next_key(), self._state, action))
        now = self._now
        terminated = self._by_agent(now.terminated | ~now.agent_mask)
        rewards = self._by_agent(now.reward)
        terminations = {a: bool(terminated[a]) for a in acted}
        truncations = {a: bool(now.truncated and not terminated[a]) for a in acted}
        self.agents = [a for a in acted if not (terminations[a] or truncations[a])]
        return (
            self._observations(acted),
            {a: float(rewards[a]) for a in acted},
            terminations,
            truncations,
            self._infos(acted),
        )

    def state(self) -> np.ndarray:
        """The global state, (*state_shape) float32."""
        return self._now.global_state

    def render(self) -> np.ndarray:
        """A picture of now, (height, width, 3) uint8.

        Raises:
            UserError: the environment has no `draw` method.
        """
        if self.render_mode is None:
            raise UserError(f"{self.metadata['name']} has no draw method, so it cannot be rendered")
        return self.env.draw(self._state)  # pyright: ignore[reportAttributeAccessIssue]

    def _take(self, result: tuple[Any, TimeStep]) -> None:
        self._state, time_step = result
        self._now = jax.device_get(time_step)

    def _next_key(self) -> Key:
        self._key, key = jax.random.split(self._key)
        return key

    def _by_agent(self, values: np.ndarray) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _fill(self) -> np.ndarray:
        """Legal actions for all agents."""
        action = self.env.spec.action
        if isinstance(action, Discrete):
            return self._now.action_mask.argmax(-1)
        return np.full(self._now.action_mask.shape, np.clip(0.0, action.low, action.high))

    def _observations(self, agents: list[str]) -> dict[str, np.ndarray]:
        obs = self._by_agent(self._now.obs)
        return {agent: obs[agent] for agent in agents}

    def _infos(self, agents: list[str]) -> dict[str, dict[str, Any]]:
        info = {name: float(value) for name, value in self._now.metrics.items()}
        if not isinstance(self.env.spec.action, Discrete):
            return {agent: dict(info) for agent in agents}
        masks = self._by_agent(self._now.action_mask.astype(np.int8))
        return {agent: info | {"action_mask": masks[agent]} for agent in agents}
