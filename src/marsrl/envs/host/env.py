"""Environments of PettingZoo and Gymnasium with the interface of all others."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.host.bank import Bank, HostState
from marsrl.envs.host.game import Game
from marsrl.envs.host.layout import Layout, notes, read_layout
from marsrl.envs.host.memory import STARTS
from marsrl.envs.host.source import Source
from marsrl.envs.limits import MAX_STEPS
from marsrl.envs.vector import OnHost, Pool, VectorEnv, VectorState
from marsrl.errors import check_choice, check_int
from marsrl.extras import quiet
from marsrl.loading import guarded
from marsrl.types import Array, Box, Discrete, EnvSpec, Key, MultiDiscrete, Space, TimeStep

TeamReward = Literal["mean", "none"]
GlobalState = Literal["own", "observations"]
_TRIED = 25
"""Steps of random play when an environment is made, so that what cannot be trained is said then."""


def make_host(
    library: str,
    name: str,
    /,
    horizon: int | None = None,
    team_reward: TeamReward = "mean",
    global_state: GlobalState = "own",
    **settings: Any,
) -> HostEnv:
    """Makes an environment of PettingZoo or Gymnasium.

    Args:
        library: "pettingzoo" or "gymnasium".
        name: see `Source`.
        horizon: the most steps of an episode, after which it is truncated; default: the
            environment's own end.
        team_reward: "mean": every agent gets the mean of all agents' rewards. "none": its own.
        global_state: "own": the environment's `state()`, if it has one. "observations": all in a
            row.
        settings: keyword arguments of the environment's factory.

    Raises:
        UserError: it cannot be made, or cannot be trained here; the line says why.
    """
    check_choice("team_reward", team_reward, get_args(TeamReward))
    check_choice("global_state", global_state, get_args(GlobalState))
    if horizon is not None:
        check_int("horizon", horizon, 1, most=MAX_STEPS)
    source = Source(library, name, settings)
    env = source.open()
    with quiet():
        shared, own_state = team_reward == "mean", global_state == "own"
        layout = guarded(source.task, read_layout, source.task, env, horizon, shared, own_state)
        told = (*notes(env, layout), *guarded(source.task, _try, source.task, env, layout))
        guarded(f"{source.task}: close", getattr(env, "close", lambda: None))
    return HostEnv(source, layout, told)


def _try(task: str, env: Any, layout: Layout) -> list[str]:
    """Plays a few random steps; returns what is worth knowing."""
    game, rng = Game(task, env, layout), np.random.default_rng(0)
    now = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.outputs.items()}
    game.reset(0, now)
    first = now["obs"].copy()
    for _ in range(_TRIED):
        if game.step(game.random_action(rng, now["action_mask"]), now):
            break
    game.reset(0, now)
    if np.array_equal(first, now["obs"], equal_nan=layout.obs_dtype == "float32"):
        return []
    return ["reset(seed=0) has two different starts: runs with it are not repeatable"]


class HostEnv(OnHost):
    """A foreign environment; see `marsrl.envs.base.Environment`.

    Under `vmap`, all environments are moved by one call into Python, however many axes there are.
    `reset` and `step` are for episodes that are played once, such as those of an evaluation: each
    `reset` starts all of them anew, and one that is over stays as it is. For training there is
    `vectorized`.

    Attributes:
        spec: as for every environment.
    """

    def __init__(self, source: Source, layout: Layout, notes: tuple[str, ...] = ()) -> None:
        self.source = source
        self.task = source.task
        self.layout = layout
        self.notes = notes
        self.spec = _spec(layout)
        self._bank = Bank(source, layout)

    def reset(self, key: Key) -> tuple[HostState, TimeStep]:
        """Starts an episode, which follows from the key alone."""
        return started(self.layout, self._bank, key)

    def step(self, key: Key, state: HostState, action: Array) -> tuple[HostState, TimeStep]:
        """Moves one step on; the environment has random numbers of its own, so `key` is unused."""
        result = _call(self._bank.step, _shapes(self.layout), state, action)
        return _moment(self.layout, result)

    def vectorized(self) -> VectorEnv:
        """Copies of it for training, which are others than those that `reset` plays."""
        return HostVector(self)

    def check(self) -> None:
        """Raises the UserError, if any, that has ended its processes."""
        self._bank.check()

    def close(self) -> None:
        """Ends its processes; the next `reset` starts new ones."""
        self._bank.close()


class HostVector(VectorEnv):
    """Copies of a foreign environment, played together; its processes restart what has ended.

    Attributes:
        episodes: the environment itself, whose copies play evaluations.
    """

    on_host = True

    def __init__(self, env: HostEnv) -> None:
        super().__init__(env)
        self.episodes = env
        self.layout = env.layout
        self._bank = Bank(env.source, env.layout)

    def empty_pool(self, key: Key, size: int) -> Pool:
        """Where the seeds of starts come from: start k of an environment has the k-th of its key.

        No start is drawn ahead: that would need more copies of the environment.
        """
        none = jnp.zeros(key.shape, jnp.int32)
        return Pool(key, (), none, none)  # pyright: ignore[reportArgumentType]

    def reset(self, key: Key) -> VectorState:
        """Starts an episode for each of the keys (E,)."""
        state, now = jax.vmap(partial(started, self.layout, self._bank))(key)
        return _vector_state(state, now, jnp.zeros(key.shape, jnp.int32))

    def stagger(self, key: Key, state: VectorState, pool_size: int) -> VectorState:
        """As for other environments, but the processes play the random steps by themselves."""

        def play_on(key: Key, state: HostState) -> tuple[HostState, TimeStep, Array]:
            shapes = _shapes(self.layout) | {"length": jax.ShapeDtypeStruct((), jnp.int32)}
            result = _call(self._bank.play_on, shapes, state, _seed(key))
            return *_moment(self.layout, result), result["length"]

        return _vector_state(*jax.vmap(play_on)(key, state.env))

    def check(self) -> None:
        """Raises the UserError, if any, that has ended processes."""
        self._bank.check()
        self.episodes.check()

    def close(self) -> None:
        """Ends all processes, those of evaluations too."""
        self._bank.close()
        self.episodes.close()

    def _moved(
        self, key: Key, state: Any, action: Array, pool: Pool
    ) -> tuple[tuple[Any, TimeStep], tuple[Any, TimeStep], Pool]:
        shapes = _shapes(self.layout)
        shapes |= {f"start/{name}": shapes[name] for name in STARTS if name in shapes}
        seed = jax.vmap(lambda key, number: _seed(jax.random.fold_in(key, number)))(
            pool.key, pool.used
        )
        result = jax.vmap(partial(_call, self._bank.step_and_restart, shapes))(state, action, seed)
        start = jax.tree.map(jnp.zeros_like, result) | {
            name.removeprefix("start/"): x for name, x in result.items() if "/" in name
        }
        moved, outcome = jax.vmap(partial(_moment, self.layout))(result)
        return (moved, outcome), (moved, jax.vmap(partial(_moment, self.layout))(start)[1]), pool


def started(layout: Layout, bank: Bank, key: Key) -> tuple[HostState, TimeStep]:
    """A fresh start out of a bank."""
    return _moment(layout, _call(bank.reset, _shapes(layout), _seed(key)))


def _moment(layout: Layout, result: dict[str, Array]) -> tuple[HostState, TimeStep]:
    """What a bank returned, as the next ticket and the time step."""
    state = result["obs"].reshape(-1) if layout.state_shape is None else result["global_state"]
    return HostState(result["row"], result["moment"]), TimeStep(
        obs=result["obs"],
        global_state=state,
        action_mask=result["action_mask"],
        agent_mask=result["agent_mask"],
        reward=result["reward"],
        terminated=result["terminated"],
        truncated=result["truncated"],
        metrics={},
    )


def _call(function: Callable[..., Any], shapes: dict[str, Any], *args: Any) -> dict[str, Array]:
    """Calls into Python from a compiled program; all that are vmapped in one call.

    It is declared pure, so that it can be vmapped, and is so as far as the program can tell: a
    ticket and an action have one result (see `Bank`).
    """
    return jax.pure_callback(function, shapes, *args, vmap_method="broadcast_all")


def _seed(key: Key) -> Array:
    """A seed that environments of all kinds take: 31 bits."""
    return jax.random.bits(key, (), jnp.uint32) >> 1


def _shapes(layout: Layout) -> dict[str, jax.ShapeDtypeStruct]:
    parts = layout.outputs | {"row": ((), "int32"), "moment": ((), "int32")}
    return {name: jax.ShapeDtypeStruct(*part) for name, part in parts.items()}


def _vector_state(state: HostState, now: TimeStep, length: Array) -> VectorState:
    """Environments that have come so far; what was played by others does not count."""
    return VectorState(
        env=state,
        time_step=now,
        first=length == 0,
        episode_return=jnp.zeros(length.shape),
        episode_length=length,
        counted=length == 0,
    )


def _spec(layout: Layout) -> EnvSpec:
    N, obs_shape = len(layout.agents), layout.obs_shape
    return EnvSpec(
        num_agents=N,
        obs_shape=obs_shape,
        state_shape=layout.state_shape or (N * math.prod(obs_shape),),
        action=_action(layout),
        max_steps=layout.max_steps,
        shared_reward=layout.team_reward or N == 1,
    )


def _action(layout: Layout) -> Space:
    if layout.choices:
        several = len(layout.choices) > 1
        return MultiDiscrete(layout.choices) if several else Discrete(layout.num_actions)
    low, high = (tuple(map(float, x)) for x in layout.bounds)
    alike = len(set(low)) == len(set(high)) == 1
    return Box(layout.num_actions, low[0], high[0]) if alike else Box(len(low), low, high)
