"""Our environments for PettingZoo."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from marsrl.envs.base import Environment
from marsrl.envs.export.number_types import Numbers, numbers_of
from marsrl.envs.flat import flat, name_of
from marsrl.envs.vector import OnHost
from marsrl.errors import UserError
from marsrl.extras import require
from marsrl.types import Box, Discrete, Key, MultiDiscrete, Space, TimeStep

if TYPE_CHECKING:
    from pettingzoo import ParallelEnv


def to_pettingzoo(env: Environment, seed: int | None = None) -> ParallelEnv:
    """Wraps an environment as a PettingZoo `ParallelEnv`, with NumPy arrays in and out.

    Until its first reset it starts no device of JAX, so it can be handed to a process that is
    forked. It can be pickled, at any time, if the environment can.

    Args:
        env: any environment; its `reset` and `step` are compiled on first use.
        seed: of the random numbers, until `reset` is given another one; by default the system's
            entropy at the first reset, so that copies differ.

    Raises:
        UserError: pettingzoo is not installed.
    """
    base = require("pettingzoo", "pettingzoo").ParallelEnv
    return type("PettingZooEnv", (PettingZooMethods, base), {})(flat(env), seed)


class PettingZooMethods:
    """What `to_pettingzoo` adds to PettingZoo's base class, which is imported on use only.

    - Observations are plain `Box` arrays of the environment's own type: float32 without bounds,
      or whole numbers, such as bytes from 0 to 255, or bool.
    - The legal actions are in `infos[agent]["action_mask"]`, (A,) int8, for discrete actions, or a
      tuple of such, one for each of several choices; the environment's metrics are in `infos` too.
    - `terminations` are True where the episode terminated, and for an agent that died;
      `truncations` where the clock ran out. Such agents leave `agents`, for the rest of the
      episode. Agents that are masked at the start never appear.
    - For an agent that left, the first legal action is played (the action nearest to zero, if
      continuous).
    - `reset(seed)` determines all that follows; `reset()` goes on with the random numbers.
      Those of an environment that was given no seed are its own, also in copies made before the
      first reset.
    - `state()` is the global state, `render()` a picture if the environment can draw one.
    """

    def __init__(self, env: Environment, seed: int | None) -> None:
        spaces = require("gymnasium.spaces", "pettingzoo")
        spec = env.spec
        self.env = env
        drawable = hasattr(env, "draw")
        self.metadata = {
            "name": name_of(env),
            "render_modes": ["rgb_array"] if drawable else [],
            "is_parallelizable": True,
        }
        self.render_mode = "rgb_array" if drawable else None
        self.possible_agents = [f"agent_{i}" for i in range(spec.num_agents)]
        self.agents: list[str] = []
        seen, state = numbers_of(env)
        self.state_space = _box(spaces, spec.state_shape, state)
        self.observation_spaces = {
            agent: _box(spaces, spec.obs_shape, seen) for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: _action_space(spaces, spec.action) for agent in self.possible_agents
        }
        self._dtype = np.float32 if isinstance(spec.action, Box) else np.int32
        self._seed = seed
        self._key: Any = None  # made at the first reset
        self._moment: tuple[Any, Any] | None = None  # state, time step as NumPy arrays
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)

    def __reduce__(self) -> tuple[Any, ...]:
        """By way of `to_pettingzoo`: neither this class nor compiled functions can be pickled."""
        compiled = ("_reset", "_step")
        state = {name: value for name, value in vars(self).items() if name not in compiled}
        return to_pettingzoo, (self.env,), state

    def observation_space(self, agent: str) -> Any:
        """A Box, (*obs_shape), of the type of the observations; floats have no bounds."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Discrete, MultiDiscrete or Box, as the spec says."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Starts an episode: (observations, infos); `options` is not used."""
        if seed is None and self._key is None:
            seed = secrets.randbits(32) if self._seed is None else self._seed
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
        played = self._by_agent(self._fill()) | {agent: actions[agent] for agent in acted}
        action = np.stack([played[agent] for agent in self.possible_agents]).astype(self._dtype)
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
        """The global state, (*state_shape), of the environment's own type."""
        return self._now.global_state

    def render(self) -> np.ndarray:
        """A picture of now, (height, width, 3) uint8.

        Raises:
            UserError: the environment has no `draw` method.
        """
        if self.render_mode is None:
            raise UserError(f"{self.metadata['name']} has no draw method, so it cannot be rendered")
        return self.env.draw(self._state, "")  # pyright: ignore[reportAttributeAccessIssue]

    def close(self) -> None:
        """Ends the processes of an environment outside of JAX."""
        if isinstance(self.env, OnHost):
            self.env.close()

    def _take(self, result: tuple[Any, TimeStep]) -> None:
        state, time_step = result
        self._moment = state, jax.device_get(time_step)
        if isinstance(self.env, OnHost):
            self.env.check()

    def _next_key(self) -> Key:
        self._key, key = jax.random.split(self._key)
        return key

    @property
    def _state(self) -> Any:
        return self._started()[0]

    @property
    def _now(self) -> Any:
        return self._started()[1]

    def _started(self) -> tuple[Any, Any]:
        if self._moment is None:
            raise UserError(f"{self.metadata['name']} has not started; call reset()")
        return self._moment

    def _by_agent(self, values: np.ndarray) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))

    def _fill(self) -> np.ndarray:
        """Legal actions for all agents."""
        action = self.env.spec.action
        if isinstance(action, Discrete):
            return self._now.action_mask.argmax(-1)
        if isinstance(action, MultiDiscrete):
            return np.stack([m.argmax(-1) for m in _masks(action, self._now.action_mask)], axis=-1)
        return np.full(self._now.action_mask.shape, np.clip(0.0, action.low, action.high))

    def _observations(self, agents: list[str]) -> dict[str, np.ndarray]:
        obs = self._by_agent(self._now.obs)
        return {agent: obs[agent] for agent in agents}

    def _infos(self, agents: list[str]) -> dict[str, dict[str, Any]]:
        info = {name: float(value) for name, value in self._now.metrics.items()}
        action = self.env.spec.action
        if isinstance(action, Box):
            return {agent: dict(info) for agent in agents}
        masks = self._by_agent(self._now.action_mask.astype(np.int8))
        if isinstance(action, MultiDiscrete):
            masks = {agent: tuple(_masks(action, mask)) for agent, mask in masks.items()}
        return {agent: info | {"action_mask": masks[agent]} for agent in agents}


def _masks(action: MultiDiscrete, mask: np.ndarray) -> list[np.ndarray]:
    """Those of each choice."""
    return np.split(mask, action.starts[1:], axis=-1)


def _box(spaces: Any, shape: tuple[int, ...], numbers: Numbers) -> Any:
    return spaces.Box(numbers.low, numbers.high, shape, numbers.dtype)


def _action_space(spaces: Any, action: Space) -> Any:
    if isinstance(action, Discrete):
        return spaces.Discrete(action.num_actions)
    if isinstance(action, MultiDiscrete):
        return spaces.MultiDiscrete(action.num_actions)
    low, high = (np.full(action.num_dims, bound, np.float32) for bound in (action.low, action.high))
    return spaces.Box(low, high, dtype=np.float32)
