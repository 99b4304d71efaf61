"""The arrays that flow between environments, rollout and learner.

Shape legend, used in every docstring of the package:

- `S` seeds, `E` environments, `N` agents, `A` actions (or action dimensions)
- `T` rollout length, cut into `K` chunks of `L` consecutive steps: `T = K * L`
- `B` sequences in a minibatch (a sequence is one environment during one chunk)
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array
Key = jax.Array
"""A typed PRNG key, made by `jax.random.key`; split once, never reused."""
PyTree = Any


Parts = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of what lies in a row of numbers, one after another."""

Bound = float | tuple[float, ...]
"""One number for all dimensions of an action, or a tuple with one for each."""


@dataclass(frozen=True)
class Discrete:
    """Actions `0 .. num_actions - 1`, one int32 per agent."""

    num_actions: int

    @property
    def size(self) -> int:
        """Width of the action mask."""
        return self.num_actions

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one agent's action."""
        return ()

    @property
    def heads(self) -> tuple[int, ...]:
        """The numbers of actions that one is chosen from, here a single one."""
        return (self.num_actions,)

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the mask of each choice begins, here of the only one."""
        return (0,)


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once, the k-th one of `0 .. num_actions[k] - 1`: (K,) int32 per agent."""

    num_actions: tuple[int, ...]

    @property
    def size(self) -> int:
        """Width of the action mask, in which the choices' masks lie one after another."""
        return sum(self.num_actions)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one agent's action."""
        return (len(self.num_actions),)

    @property
    def heads(self) -> tuple[int, ...]:
        """The numbers of actions that one is chosen from."""
        return self.num_actions

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the mask of each choice begins."""
        return (0, *itertools.accumulate(self.num_actions[:-1]))


@dataclass(frozen=True)
class Box:
    """Actions of `num_dims` float32 per agent, from `low` to `high`."""

    num_dims: int
    low: Bound = -1.0
    high: Bound = 1.0

    @property
    def size(self) -> int:
        """Width of the action mask."""
        return self.num_dims

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one agent's action."""
        return (self.num_dims,)


Space = Discrete | MultiDiscrete | Box


RESERVED_METRICS = frozenset(
    (
        *("kind", "seed", "step", "greedy", "return", "returns", "length", "count"),  # a run's rows
        *("seconds", "steps_per_second"),
        *("family", "task", "objective", "run", "phase", "episode"),  # the results' tables
        *("truncated", "action_mask"),  # what exported environments tell besides metrics
    )
)
"""Names that no metric of an environment may have: they stand beside the metrics somewhere."""


@dataclass(frozen=True)
class EnvSpec:
    """What a learner must know of an environment before it builds a network.

    Attributes:
        num_agents: `N`.
        obs_shape: shape of one agent's observation; that of a picture, (H, W, C), is convolved.
        state_shape: shape of the global state, likewise.
        action: the action space, the same for every agent.
        max_steps: the horizon, the most steps that an episode can have; it may be truncated sooner.
        shared_reward: True if all agents always receive the same reward: the critic is then the
            team's, and gives one joint advantage.
        metrics: the keys of `TimeStep.metrics`; none of `RESERVED_METRICS`, and without a slash.
        groups: the type of each agent, such as `("scout", "tracker", "tracker")`, whose agents can
            share parameters; `()` if there are none.
        obs_parts: of which arrays an observation (F,) is made up, if it was a dictionary; see
            `marsrl.envs.flat`.
        state_parts: likewise the global state.
    """

    num_agents: int
    obs_shape: tuple[int, ...]
    state_shape: tuple[int, ...]
    action: Space
    max_steps: int
    shared_reward: bool
    metrics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    obs_parts: Parts = ()
    state_parts: Parts = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"action": {"kind": _KINDS[type(self.action)], **asdict(self.action)}}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> EnvSpec:
        """The inverse of `to_dict`, with lists as tuples.

        Raises:
            KeyError, TypeError: it is none. Values are not looked at.
        """
        action = {name: _tuples(value) for name, value in values["action"].items()}
        kind = {name: space for space, name in _KINDS.items()}[action.pop("kind")]
        values = {"groups": (), "obs_parts": (), "state_parts": ()} | values  # of an old version
        known = {f.name: _tuples(values[f.name]) for f in fields(EnvSpec) if f.name != "action"}
        return EnvSpec(action=kind(**action), **known)


_KINDS = {Discrete: "discrete", MultiDiscrete: "multi-discrete", Box: "box"}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def leaf_name(path: tuple) -> str:
    """What files and specs call a leaf of a tree, by the way to it: `outer/inner`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def as_float(x: Array) -> Array:
    """What networks read of observations that are no floats: uint8, of a picture, from 0 to 1."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x.astype(jnp.float32)


class Observation(NamedTuple):
    """The part of a `TimeStep` that a policy reads, for whoever has no environment.

    Attributes:
        obs: (..., N, *obs_shape), or a dictionary if the policy was trained on such.
        action_mask: (..., N, A) bool.
    """

    obs: Array
    action_mask: Array


class TimeStep(NamedTuple):
    """What an environment returns: unbatched, and with leading axes after `vmap`.

    Attributes:
        obs: (N, *obs_shape) float32, or whole numbers or bool, which networks read as float32
            (uint8 divided by 255). Where `spec.obs_shape` is `()`, a dictionary of such arrays
            (N, ...); see `marsrl.envs.flat`.
        global_state: (*state_shape,), likewise; not repeated per agent.
        action_mask: (N, A) bool. Discrete: the legal actions, at least one per agent (and choice).
            Continuous: the dimensions that exist for this agent (the others are padding).
        agent_mask: (N,) bool. False: dead or padded, takes no part in any loss or mean.
        reward: (N,) float32, as the environment pays it for the transition into this step.
        terminated: () bool: the future is worth nothing.
        truncated: () bool: the clock ran out, at `max_steps` at the latest, so bootstrap. Never
            together with `terminated`.
        metrics: scalars such as `{"won": ()}`, with the keys that the spec names; those of the
            last step of an episode count.
    """

    obs: Array
    global_state: Array
    action_mask: Array
    agent_mask: Array
    reward: Array
    terminated: Array
    truncated: Array
    metrics: dict[str, Array]

    @property
    def done(self) -> Array:
        """True where the episode ended, for either reason."""
        return self.terminated | self.truncated
