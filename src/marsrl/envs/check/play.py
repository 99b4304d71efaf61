"""Third part of the check: random play."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.distributions import random_action
from marsrl.envs.base import Environment
from marsrl.envs.check.clock import Clock
from marsrl.envs.check.members import Note, attempt
from marsrl.envs.check.picture import in_picture
from marsrl.envs.check.shapes import named
from marsrl.envs.vector import OnHost
from marsrl.types import Array, Box, EnvSpec, Key, TimeStep

NUM_EPISODES = 4
"""Played side by side."""
LONGEST = 2000
"""Steps of play by default, never beyond the horizon."""
_SHOWN = 3
"""Entries of an array that a note names."""
_RTOL, _ATOL = 1e-3, 1e-4  # compiled physics rounds differently; a wrong result is further off

Moment = tuple[Any, TimeStep]
"""What `reset` and `step` return, of NUM_EPISODES episodes."""


def in_play(env: Environment, seed: int, num_steps: int | None) -> Iterator[str]:
    """Failures in single calls, then in whole episodes of random legal actions."""
    keys = jax.random.split(jax.random.key(seed), NUM_EPISODES)
    reset = jax.jit(jax.vmap(env.reset))
    advance = jax.jit(jax.vmap(partial(_advance, env), in_axes=(0, None, 0)))
    start = attempt("reset, compiled and vmapped,", reset, keys)
    if not isinstance(env, OnHost):  # where no step can be taken twice
        yield from _in_calls(env, keys, start, advance)
    length = min(env.spec.max_steps, num_steps or LONGEST)
    yield from _in_episodes(env.spec, length, start, lambda t, now: advance(keys, t, now)[1])


def _in_calls(
    env: Environment, keys: Key, start: Moment, advance: Callable[..., tuple[Array, Moment]]
) -> Iterator[str]:
    """Failures in calls that are made in different ways, and in pictures."""
    yield from _unlike("reset", _first(start), jax.jit(env.reset), keys[0])
    played = attempt("step, compiled and vmapped,", advance, keys, 1, start)
    step_key, _ = _keys(keys[0], 1)
    state, action = _first((start[0], played[0]))
    yield from _unlike("step", _first(played[1]), jax.jit(env.step), step_key, state, action)
    yield from in_picture(env, [_first(start[0]), _first(played[1][0])])


def _in_episodes(
    spec: EnvSpec, length: int, now: Moment, advance: Callable[[int, Moment], Moment]
) -> Iterator[str]:
    """Each failure once, where it is first met; what follows the end of an episode is ignored."""
    found: dict[str, int] = {}
    running = np.ones(NUM_EPISODES, bool)
    obs_clock = Clock(spec.num_agents * math.prod(spec.obs_shape))
    state_clock = Clock(math.prod(spec.state_shape))
    t, truncates = 0, False
    for t in range(length + 1):
        now = attempt("step", advance, t, now) if t else now
        time_step = jax.device_get(now[1])
        for sentence, wrong in _rules(spec, time_step, t).items():
            if (wrong & running).any():
                found.setdefault(sentence, t)
        obs_clock.see(*_entries(time_step.obs, time_step.agent_mask & running[:, None]))
        state_clock.see(*_entries(time_step.global_state, running))
        truncates |= bool((time_step.truncated & running).any())
        if t:
            running &= ~time_step.done
        if not running.any():
            break
    yield from (f"{'step' if t else 'reset'}: {what} (at step {t})" for what, t in found.items())
    if truncates or t < spec.max_steps:  # where random play ends early, a good team's may not
        yield from _told_time(spec, obs_clock.ticking(), state_clock.ticking())


def _entries(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (E, ...) and whether they count (E,) or (E, N), both by entry: (E, F)."""
    flat, counts = (x.reshape(len(x), -1) for x in (values, counts))
    return flat, np.repeat(counts, flat.shape[1] // counts.shape[1], axis=1)


def _told_time(spec: EnvSpec, in_obs: np.ndarray, in_state: np.ndarray) -> Iterator[Note]:
    """The note on a clock, given the entries that tick, of all agents' observations in a row."""
    in_obs = np.unique(in_obs % math.prod(spec.obs_shape))
    places = [
        f"{name} ({_listed(entries, shape)})"
        for name, entries, shape in (
            ("the observation", in_obs, spec.obs_shape),
            ("the global state", in_state, spec.state_shape),
        )
        if len(entries)
    ]
    if places:
        yield Note(
            f"{' and '.join(places)} tell{'s' if len(places) == 1 else ''} the time: the final "
            "observation of a truncated episode is of a kind that is never acted on; "
            "time limits are still bootstrapped (bootstrap_truncated)"
        )


def _listed(entries: np.ndarray, shape: tuple[int, ...]) -> str:
    """Indices into an array of that shape, the first few of them."""
    shown = [x.tolist() for x in np.stack(np.unravel_index(entries[:_SHOWN], shape), axis=-1)]
    names = ", ".join(str(x[0] if len(x) == 1 else tuple(x)) for x in shown)
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"entr{'y' if len(entries) == 1 else 'ies'} {names}{more}"


def _keys(key: Key, t: Array | int) -> tuple[Key, Key]:
    """The keys of transition `t` and of the actions that lead to it."""
    step_key, action_key = jax.random.split(jax.random.fold_in(key, t))
    return step_key, action_key


def _advance(env: Environment, key: Key, t: Array, now: Moment) -> tuple[Array, Moment]:
    """Random legal actions, and what they lead to."""
    state, time_step = now
    step_key, action_key = _keys(key, t)
    action = random_action(action_key, env.spec.action, time_step.action_mask)
    return action, env.step(step_key, state, action)


def _first(batch: Any) -> Any:
    """The first of the episodes."""
    return jax.tree.map(lambda leaf: leaf[0], batch)


def _unlike(what: str, batched: Any, function: Callable[..., Any], *args: Any) -> Iterator[str]:
    """Where two calls for one episode differ from each other, or else from the vmapped one.

    Compiled, as every program here calls it: called plainly, each of hundreds of operations would
    be compiled by itself, which took from a quarter of the time of all the rest to as much.
    """
    alone, again = (attempt(what, function, *args) for _ in range(2))
    if names := _differences(alone, again):
        yield f"{what}: another {names} when called again with the same arguments"
    elif names := _differences(alone, batched, _RTOL, _ATOL):
        yield f"{what}: another {names} vmapped than alone; expected that only the arguments matter"


def _differences(a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0) -> str:
    """The names of the leaves in which two results differ; the tolerance is for floats only."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return "structure"

    def differ(x: np.ndarray, y: np.ndarray) -> bool:
        tolerance = (rtol, atol) if x.dtype.kind == "f" else (0.0, 0.0)
        return not np.isclose(x, y, *tolerance, equal_nan=True).all()

    pairs = zip(named(*a), named(*b), strict=True)
    return ", ".join(name for (name, x), (_, y) in pairs if differ(_numbers(x), _numbers(y)))


def _numbers(leaf: Any) -> np.ndarray:
    """A leaf for NumPy; a typed PRNG key as its words."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _rules(spec: EnvSpec, now: TimeStep, t: int) -> dict[str, np.ndarray]:
    """What may be wrong at step `t` (0: a start) -> in which episodes it is, (NUM_EPISODES,) bool.

    `now` has NumPy arrays with a leading axis of episodes.
    """
    floats = {"obs": now.obs, "global_state": now.global_state, "reward": now.reward}
    floats |= {f"metrics[{name!r}]": value for name, value in now.metrics.items()}
    rules = {
        f"{name} has values that are not finite": ~_all(np.isfinite(value))
        for name, value in floats.items()
    }
    mask, live = np.asarray(now.action_mask), np.asarray(now.agent_mask)
    if isinstance(spec.action, Box):
        rules["action_mask leaves a live agent without a dimension"] = ~_all(mask.any(-1) | ~live)
    else:
        rules["action_mask leaves an agent, dead or alive, without a legal action"] = ~_all(
            np.logical_or.reduceat(mask, spec.action.starts, axis=-1)
        )
    terminated, truncated = np.asarray(now.terminated), np.asarray(now.truncated)
    if t == 0:
        return rules | {
            "reward is not zero": ~_all(now.reward == 0),
            "terminated or truncated is True": terminated | truncated,
            "agent_mask is all False": ~live.any(-1),
        }
    rules["terminated and truncated are both True"] = terminated & truncated
    if spec.shared_reward:
        same = np.isclose(now.reward, now.reward[:, :1], rtol=1e-6)
        rules["rewards differ between agents although spec.shared_reward is True"] = ~_all(same)
    if t >= spec.max_steps:
        over = terminated | truncated
        rules[f"the episode goes on at spec.max_steps = {spec.max_steps}"] = ~over
    return rules


def _all(x: Any) -> np.ndarray:
    """Whether all is True, for each episode."""
    x = np.asarray(x)
    return x.reshape(len(x), -1).all(-1)
