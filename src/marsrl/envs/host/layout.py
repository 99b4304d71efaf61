"""What the spaces of a `ParallelEnv` become in arrays of one shape for all agents; needs no JAX."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from marsrl.envs.limits import MAX_AGENTS, MAX_STEPS
from marsrl.errors import UserError, shown
from marsrl.extras import require

Parts = dict[str, tuple[tuple[int, ...], str]]
"""Name -> shape and dtype."""

CLOCKS = ("max_cycles", "max_steps")
"""Attributes in which environments keep the most steps of an episode."""


class Actions(NamedTuple):
    """What an agent can do: some choices at once, of which `Discrete` is one; or a point of a box.

    Attributes:
        shape: of an action, as the environment wants it.
        dtype: likewise.
        choices: the numbers of actions that one is chosen from; none if they are continuous.
        start: the first action of each choice.
        low: of each dimension of continuous ones.
        high: likewise.
    """

    shape: tuple[int, ...]
    dtype: str
    choices: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of actions, of all choices together; or of dimensions."""
        return sum(self.choices) or len(self.low)

    @property
    def rounded(self) -> bool:
        """Whether a point of the box must have whole coordinates."""
        return not self.choices and np.dtype(self.dtype).kind in "iub"


@dataclass(frozen=True)
class Layout:
    """How the agents' dictionaries lie in arrays; can be pickled.

    Attributes:
        agents: `possible_agents`, in order.
        obs_shape: of an agent; observations of different shapes are flattened, and zeros follow
            those that are shorter.
        obs_dtype: "uint8" for pictures in bytes, else "float32".
        state_shape: of `state()`; None without one: the observations in a row are the state.
        state_dtype: as `obs_dtype`.
        choices: the most actions that an agent has in each choice; none if they are continuous.
        actions: of each agent.
        rescaled: continuous actions are from -1 to 1 here, because agents' bounds differ.
        max_steps: the most steps of an episode.
        ends: an episode that has not ended by then is truncated, since someone has asked for it.
        team_reward: every agent gets the mean of all agents' rewards.
    """

    agents: tuple[Any, ...]
    obs_shape: tuple[int, ...]
    obs_dtype: str
    state_shape: tuple[int, ...] | None
    state_dtype: str
    choices: tuple[int, ...]
    actions: tuple[Actions, ...]
    rescaled: bool
    max_steps: int
    ends: bool
    team_reward: bool

    @property
    def num_actions(self) -> int:
        """A, of all choices together, or the most dimensions: the width of the action mask."""
        return sum(self.choices) or max(actions.size for actions in self.actions)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Of all agents' actions: (N,) for one choice, (N, K) for several, (N, A) continuous."""
        N, K = len(self.agents), len(self.choices)
        return (N,) if K == 1 else (N, K or self.num_actions)

    @property
    def action_dtype(self) -> str:
        """Likewise."""
        return "int32" if self.choices else "float32"

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(A,) each, between which policies act; the same for all agents."""
        if self.rescaled:
            return -np.ones(self.num_actions), np.ones(self.num_actions)
        own = self.actions[0]
        return np.asarray(own.low), np.asarray(own.high)

    @property
    def outputs(self) -> Parts:
        """The parts of a time step."""
        N, A = len(self.agents), self.num_actions
        parts: Parts = {
            "obs": ((N, *self.obs_shape), self.obs_dtype),
            "action_mask": ((N, A), "bool"),
            "agent_mask": ((N,), "bool"),
            "reward": ((N,), "float32"),
            "terminated": ((), "bool"),
            "truncated": ((), "bool"),
        }
        if self.state_shape is not None:
            parts["global_state"] = (self.state_shape, self.state_dtype)
        return parts

    def own_actions(self) -> np.ndarray:
        """(N, A) bool, what an agent has of them.

        Of each choice that it lacks it has the first action, so that one can always be chosen.
        """
        sizes = _by_choice(a.choices or (a.size,) for a in self.actions)
        own = [np.arange(max(of_agents)) < np.array(of_agents)[:, None] for of_agents in sizes]
        return np.concatenate(own, axis=-1)


def read_layout(
    task: str, env: Any, horizon: int | None, team_reward: bool, own_state: bool = True
) -> Layout:
    """The layout of an environment.

    Args:
        task: what messages call it.
        env: a `ParallelEnv`.
        horizon: the most steps of an episode; default: what the environment says.
        team_reward: see `Layout`.
        own_state: whether its `state()` is used, if it has one.

    Raises:
        UserError: it is none that can be trained here; the line says why.
    """
    agents = getattr(env, "possible_agents", None)
    if not isinstance(agents, list | tuple) or not 0 < len(agents) <= MAX_AGENTS:
        found = "none" if agents is None else shown(agents)
        raise UserError(
            f"{task}: possible_agents is {found}, expected the 1 to {MAX_AGENTS} agents that every "
            "episode has"
        )
    readers = [reader(task, agent, env.observation_space(agent)) for agent in agents]
    shapes = {r.shape for r in readers}
    alike = len(shapes) == 1
    obs_shape = readers[0].shape if alike else (max(math.prod(s) for s in shapes),)
    in_bytes = alike and all(r.dtype == np.uint8 for r in readers)
    actions = [_actions(task, agent, env.action_space(agent)) for agent in agents]
    if len({bool(a.choices) for a in actions}) > 1:
        raise UserError(
            f"{task}: some agents have discrete actions and some continuous ones, expected one kind"
        )
    bounds = {(a.low, a.high) for a in actions}
    state = _state(env) if own_state else None
    return Layout(
        agents=tuple(agents),
        obs_shape=obs_shape or (1,),
        obs_dtype="uint8" if in_bytes else "float32",
        state_shape=None if state is None else state.shape,
        state_dtype="uint8" if state is not None and state.dtype == np.uint8 else "float32",
        choices=tuple(map(max, _by_choice(a.choices for a in actions))),
        actions=tuple(actions),
        rescaled=len(bounds) > 1,
        max_steps=horizon or find_horizon(env) or MAX_STEPS,
        ends=horizon is not None,
        team_reward=team_reward,
    )


def notes(env: Any, layout: Layout) -> Iterator[str]:
    """What was converted, a sentence each."""
    N = len(layout.agents)
    names = ", ".join(map(str, layout.agents[:4])) + (", ..." if N > 4 else "")
    yield f"{N} agent{'s' if N > 1 else ''}: {names}"
    spaces = [env.observation_space(agent) for agent in layout.agents]
    kinds = sorted({f"{type(s).__name__} {s.dtype or ''}".strip() for s in spaces})
    share = ", which networks divide by 255" if layout.obs_dtype == "uint8" else ""
    yield f"observations: {', '.join(kinds)}, read as {layout.obs_shape} {layout.obs_dtype}{share}"
    if len({getattr(space, "shape", None) for space in spaces}) > 1:
        yield "observations differ between agents: they are flattened, and filled up with zeros"
    if len(layout.choices) > 1:
        numbers = " + ".join(map(str, layout.choices))
        yield f"an action is {len(layout.choices)} choices at once, of {numbers} actions"
    sizes = sorted({actions.choices or (actions.size,) for actions in layout.actions})
    if len(sizes) > 1:
        unit = "actions" if layout.choices else "dimensions"
        listed = " or ".join(" + ".join(map(str, size)) for size in sizes)
        yield f"agents have {listed} {unit}: what one lacks is masked"
    if any(actions.rounded for actions in layout.actions):
        yield "actions: Box of whole numbers, to which what policies choose is rounded"
    if layout.rescaled:
        yield "agents' bounds of actions differ: policies act from -1 to 1, which is rescaled"
    if layout.state_shape is None:
        yield "the global state is all observations in a row, not a state() of its own"
    if layout.team_reward and N > 1:
        yield "every agent gets the mean reward of all; --task-settings team_reward none if not"
    if layout.max_steps == MAX_STEPS:
        yield (
            "it does not say how long an episode can be (max_cycles or max_steps); if it may go on "
            "for ever: --task-settings horizon STEPS"
        )


class Reader(NamedTuple):
    """How an agent's observation is read: what it is in the end, and the function that makes it."""

    shape: tuple[int, ...]
    dtype: Any
    read: Callable[[Any], Any]
    has_mask: bool


def reader(task: str, agent: Any, space: Any) -> Reader:
    """The reader of an observation space, of a dictionary with an "action_mask" the rest."""
    spaces = require("gymnasium.spaces", "pettingzoo")
    has_mask = isinstance(space, spaces.Dict) and "action_mask" in space.spaces
    if not has_mask:
        return _plain_reader(spaces, task, agent, space)
    rest = {name: part for name, part in space.spaces.items() if name != "action_mask"}
    if not rest:
        raise UserError(
            f"{task}: agent {agent} observes its action_mask alone, expected an observation beside "
            "it"
        )
    if set(rest) == {"observation"}:
        plain = _plain_reader(spaces, task, agent, rest["observation"])
        return plain._replace(read=lambda x: plain.read(x["observation"]), has_mask=True)
    inner = spaces.Dict(rest)
    plain = _plain_reader(spaces, task, agent, inner)

    def read(x: Any) -> Any:
        return plain.read({name: x[name] for name in rest})

    return plain._replace(read=read, has_mask=True)


def _plain_reader(spaces: Any, task: str, agent: Any, space: Any) -> Reader:
    if isinstance(space, spaces.Box):
        return Reader(space.shape, space.dtype, np.asarray, False)
    if not getattr(space, "is_np_flattenable", False):
        raise UserError(
            f"{task}: agent {agent} observes {shown(space)}, which no array of one size can hold"
        )
    return Reader((spaces.flatdim(space),), np.float32, partial(spaces.flatten, space), False)


def _actions(task: str, agent: Any, space: Any) -> Actions:
    spaces = require("gymnasium.spaces", "pettingzoo")
    form = space.shape, str(space.dtype)
    if isinstance(space, spaces.Discrete):
        return Actions(*form, (int(space.n),), (int(space.start),))
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary) and math.prod(space.shape):
        binary = isinstance(space, spaces.MultiBinary)
        numbers = np.full(space.shape, 2) if binary else space.nvec
        first = np.zeros_like(numbers) if binary else space.start
        return Actions(*form, *(tuple(map(int, x.reshape(-1))) for x in (numbers, first)))
    if not isinstance(space, spaces.Box):
        raise UserError(
            f"{task}: agent {agent} has actions {shown(space)}, expected Discrete, MultiDiscrete, "
            "MultiBinary or Box"
        )
    bounds = np.stack([space.low, space.high]).reshape(2, -1)
    bounds, largest = bounds.astype(np.float64), np.finfo(np.float32).max
    known = bounds.size and (np.abs(bounds) < largest).all()
    if not known or not (bounds[1] - bounds[0] < largest).all():
        raise UserError(
            f"{task}: agent {agent} has actions {shown(space)}, expected finite bounds that are "
            "less than 3.4e38 apart"
        )
    low, high = (tuple(map(float, x)) for x in bounds)
    return Actions(*form, low=low, high=high)


def _by_choice(of_agents: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """The agents' numbers of actions in each choice; one where an agent does not have it."""
    return itertools.zip_longest(*of_agents, fillvalue=1)


def find_horizon(env: Any) -> int | None:
    """The most steps of an episode, if the environment tells; see `CLOCKS`."""
    inner = getattr(env, "unwrapped", None)
    for owner in (env, inner, getattr(inner, "env", None)):  # the last of PettingZoo's SISL
        for name in CLOCKS:
            value = getattr(owner, name, None)
            if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy has some too
                continue
            if 0 < (steps := int(value)) <= MAX_STEPS:
                return steps
    return None


def _state(env: Any) -> np.ndarray | None:
    """The global state of an environment that has begun; None if it has no such thing."""
    try:
        env.reset(seed=0)
        state = np.asarray(env.state())
    except Exception:  # PettingZoo's own raises NotImplementedError, others whatever they like
        return None
    return state if state.ndim and state.size and state.dtype.kind in "fiub" else None
