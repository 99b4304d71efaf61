"""The adapter that turns an environment of JaxMARL into one of ours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.errors import UserError
from marsrl.types import Array, Box, Discrete, EnvSpec, Key, TimeStep

TeamReward = Literal["mean", "none"]


class State(NamedTuple):
    """A state of the library's, and our own clock.

    Attributes:
        library: the library's state.
        step: () int32, transitions since the start.
    """

    library: Any
    step: Array


class Actions(NamedTuple):
    """The one action space that holds every agent's.

    Attributes:
        space: as wide as the widest agent's.
        exists: (N, A) bool, the actions or dimensions that an agent has.
        low: (N, A) float32, lower bounds of continuous dimensions as the library knows them.
        high: (N, A) float32, upper bounds.
    """

    space: Discrete | Box
    exists: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class JaxMARL:
    """An environment of JaxMARL, stacked over agents and never reset from within.

    - Observation, (N, ...) float32: the library's. Where agents' differ in shape, each is
      flattened and padded with zeros.
    - Global state: the library's `"world_state"`, else all observations in a row, unpadded.
    - Action: as wide as the widest agent's; `action_mask` marks what an agent has, and what the
      library calls available. Continuous actions keep the library's bounds where all are the
      same, and are scaled from [-1, 1] otherwise.
    - `agent_mask`: False for an agent that is done before the episode is.
    - Reward: the library's, or the mean over agents for each of them.
    - End: `truncated` at step `horizon`; `terminated` by every earlier ending, and by one at the
      horizon unless the library's own clock strikes there too.

    Attributes:
        library: the library's environment.
        horizon: transitions of a full episode.
        clock: the step at which the library's own clock ends an episode; None: it has none.
        team_reward: "mean": every agent gets the mean over agents. "none": its own.
    """

    library: Any
    horizon: int
    clock: int | None = None
    team_reward: TeamReward = "none"

    pays_alike: ClassVar[bool] = False
    """Whether the library pays all agents the same."""

    @property
    def spec(self) -> EnvSpec:
        """Sizes, spaces and horizon."""
        return self._spec

    @cached_property
    def _spec(self) -> EnvSpec:
        _, first = jax.eval_shape(lambda: self.reset(jax.random.key(0)))
        return EnvSpec(
            num_agents=len(self.library.agents),
            obs_shape=first.obs.shape[1:],
            state_shape=first.global_state.shape,
            action=self.actions.space,
            max_steps=self.horizon,
            shared_reward=self.pays_alike or self.team_reward == "mean",
            metrics=tuple(first.metrics),
            groups=self._groups(),
        )

    @cached_property
    def actions(self) -> Actions:
        """The common action space.

        Raises:
            UserError: some agents' actions are discrete and others' continuous, or of a third
                kind, or unbounded.
        """
        return _common_space([self.library.action_space(a) for a in self.library.agents])

    def reset(self, key: Key) -> tuple[State, TimeStep]:
        """Starts an episode."""
        with warnings.catch_warnings(action="ignore"):  # brax's and jaxnav's, when traced
            obs, library = self.library.reset(key)
        zero = jnp.zeros(len(self.library.agents), jnp.float32)
        never = jnp.zeros((), bool)
        state = State(_strong(library), jnp.zeros((), jnp.int32))
        return state, self._time_step(state, obs, zero, {"__all__": never}, never)

    def step(self, key: Key, state: State, action: Array) -> tuple[State, TimeStep]:
        """Moves one step on."""
        actions = self._by_agent(action)
        with warnings.catch_warnings(action="ignore"):
            # the library's `step` resets by itself and loses the final observation
            result = self.library.step_env(key, state.library, actions)
        obs, library, reward, done, info = result
        state = State(_strong(library), state.step + 1)
        rewards = jnp.stack([reward[a] for a in self.library.agents]).astype(jnp.float32)
        if self.team_reward == "mean":
            rewards = jnp.full_like(rewards, rewards.mean())
        terminated = self._terminated(state, done["__all__"], info)
        return state, self._time_step(state, obs, rewards, done, terminated)

    def _time_step(
        self, state: State, obs: Any, reward: Array, done: Any, terminated: Array
    ) -> TimeStep:
        return TimeStep(
            obs=_stack([obs[a] for a in self.library.agents]),
            global_state=self._global_state(state, obs),
            action_mask=self._action_mask(state),
            agent_mask=self._agent_mask(state, done),
            reward=reward,
            terminated=terminated,
            truncated=(state.step >= self.horizon) & ~terminated,
            metrics=self._metrics(state),
        )

    def _by_agent(self, action: Array) -> dict[Any, Array]:
        agents = self.library.agents
        space, _, low, high = self.actions
        if isinstance(space, Discrete):
            return {a: action[i] for i, a in enumerate(agents)}
        ours = np.asarray(space.low), np.asarray(space.high)
        if (low != ours[0]).any() or (high != ours[1]).any():
            unit = (action - ours[0]) / (ours[1] - ours[0])
            action = unit * (high - low) + low
        sizes = [self.library.action_space(a).shape[0] for a in agents]
        return {a: action[i, : sizes[i]] for i, a in enumerate(agents)}

    def _global_state(self, state: State, obs: Any) -> Array:
        if isinstance(obs, dict) and "world_state" in obs:
            return obs["world_state"].astype(jnp.float32)
        return jnp.concatenate([_flat(obs[a]) for a in self.library.agents])

    def _action_mask(self, state: State) -> Array:
        exists = jnp.asarray(self.actions.exists)
        if not self._offers_masks:
            return exists
        available = self._available(state.library)
        rows = [available[a].astype(bool) for a in self.library.agents]
        mask = jnp.stack([_pad(row, exists.shape[1]) for row in rows])
        # once Hanabi has ended nothing is available, and a mask needs one action at least
        return jnp.where(mask.any(-1, keepdims=True), mask, exists)

    @cached_property
    def _available(self) -> Any:
        """The library's function from a state to masks; Hanabi's has a name of its own."""
        return getattr(self.library, "get_legal_moves", self.library.get_avail_actions)

    @cached_property
    def _offers_masks(self) -> bool:
        """Whether there are masks, and of the right size, which those of JaxNav are not."""
        if isinstance(self.actions.space, Box):
            return False
        try:
            masks = jax.eval_shape(
                lambda: self._available(self.library.reset(jax.random.key(0))[1])
            )
        except NotImplementedError:  # the base class raises it where an environment has none
            return False
        agents = self.library.agents
        return all(masks[a].shape == (self.library.action_space(a).n,) for a in agents)

    def _agent_mask(self, state: State, done: Any) -> Array:
        gone = jnp.stack([jnp.asarray(done.get(a, False)) for a in self.library.agents])
        return ~gone | done["__all__"]

    def _terminated(self, state: State, done: Array, info: Any) -> Array:
        return done if self.clock is None else done & (state.step < self.clock)

    def _metrics(self, state: State) -> dict[str, Array]:
        return {}

    def _groups(self) -> tuple[str, ...]:
        return ()


def _common_space(spaces: list[Any]) -> Actions:
    kinds = {type(space).__name__ for space in spaces}
    if kinds == {"Discrete"}:
        sizes = [int(space.n) for space in spaces]
    elif kinds == {"Box"} and all(len(space.shape) == 1 for space in spaces):
        sizes = [space.shape[0] for space in spaces]
    else:
        raise UserError(f"expected all actions discrete or all continuous, got {sorted(kinds)}")
    width = max(sizes)
    exists = np.arange(width) < np.array(sizes)[:, None]
    if kinds == {"Discrete"}:
        return Actions(Discrete(width), exists, np.zeros_like(exists), np.zeros_like(exists))
    low, high = (
        np.stack([np.resize(getattr(space, end), width) for space in spaces]).astype(np.float32)
        for end in ("low", "high")
    )
    if not np.isfinite([low, high]).all():
        raise UserError("expected bounded continuous actions")
    alike = (low == low[0, 0]).all() and (high == high[0, 0]).all()
    bounds = (float(low[0, 0]), float(high[0, 0])) if alike else (-1.0, 1.0)
    return Actions(Box(width, *bounds), exists, low, high)


def _strong(tree: Any) -> Any:
    """The same with explicit dtypes.

    The library's start and its later states differ in weak types, for which whatever is compiled
    for the one would be compiled again for the other.
    """
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), tree)


def _stack(observations: list[Any]) -> Array:
    """(N, ...) float32 from one array, or one tree of arrays, per agent."""
    shapes = {getattr(x, "shape", None) for x in observations}
    if len(shapes) == 1 and None not in shapes:
        return jnp.stack(observations).astype(jnp.float32)
    rows = [_flat(x) for x in observations]
    width = max(len(row) for row in rows)
    return jnp.stack([_pad(row, width) for row in rows])


def _flat(tree: Any) -> Array:
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(tree)])


def _pad(row: Array, width: int) -> Array:
    return jnp.pad(row, (0, width - len(row)))
