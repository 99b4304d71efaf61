"""Observations that are dictionaries, as rows of numbers.

Everything behind an environment (memory, moments, networks, exports) knows one array. So vectors
and pictures of a dictionary are put in a row, and the spec says what lies where: networks take it
apart again, and convolve the pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from marsrl.envs.base import Environment
from marsrl.envs.vector import OnHost
from marsrl.types import Array, EnvSpec, Key, Parts, TimeStep, as_float, leaf_name


def flat(env: Environment) -> Environment:
    """The environment itself, or if its observations or states are dictionaries, `Flat`.

    They are if its spec says `obs_shape=()` or `state_shape=()`, which are no shapes of arrays.
    """
    spec = getattr(env, "spec", None)
    if isinstance(spec, EnvSpec) and () in (spec.obs_shape, spec.state_shape):
        return Flat(env)
    return env


def name_of(env: Any) -> str:
    """What messages call an environment: its class, or the task if it is outside of JAX."""
    inner = env.env if isinstance(env, Flat) else env
    return inner.task if isinstance(inner, OnHost) else type(inner).__name__


def row(tree: Any, batch_axes: int) -> Array:
    """The leaves of a tree one after another, as floats; `batch_axes` are left as they are."""
    leaves = [as_float(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate([x.reshape((*x.shape[:batch_axes], -1)) for x in leaves], axis=-1)


@dataclass(frozen=True, eq=False)
class Flat:
    """An environment whose dictionaries of arrays are rows (N, F) or (F,) of float32.

    In the order of sorted names; of nested dictionaries as "outer/inner". Whole numbers become
    float32, and uint8 is divided by 255.

    Attributes:
        env: whose time steps have dictionaries for `obs`, `global_state` or both.
    """

    env: Any

    @property
    def spec(self) -> EnvSpec:
        """The environment's, with the shapes of the dictionaries in its time steps."""
        return self._spec

    @cached_property
    def _spec(self) -> EnvSpec:
        spec: EnvSpec = self.env.spec
        made = jax.eval_shape(self.env.reset, jax.eval_shape(lambda: jax.random.key(0)))
        now = made[1] if isinstance(made, tuple) and len(made) == 2 else None
        if not isinstance(now, TimeStep):
            return spec  # which the check will refuse
        if spec.obs_shape == () and isinstance(now.obs, dict):
            parts = _parts(now.obs, 1)
            spec = replace(spec, obs_shape=(_size(parts),), obs_parts=parts)
        if spec.state_shape == () and isinstance(now.global_state, dict):
            parts = _parts(now.global_state, 0)
            spec = replace(spec, state_shape=(_size(parts),), state_parts=parts)
        return spec

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        """Starts an episode."""
        return self._flat(*self.env.reset(key))

    def step(self, key: Key, state: Any, action: Array) -> tuple[Any, TimeStep]:
        """Moves one step on."""
        return self._flat(*self.env.step(key, state, action))

    def _flat(self, state: Any, now: TimeStep) -> tuple[Any, TimeStep]:
        if self.spec.obs_parts:
            now = now._replace(obs=row(now.obs, 1))
        if self.spec.state_parts:
            now = now._replace(global_state=row(now.global_state, 0))
        return state, now

    def __getattr__(self, name: str) -> Any:
        """What else the environment has, such as `draw`."""
        if name == "env":  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.env, name)


def _parts(tree: Any, batch_axes: int) -> Parts:
    return tuple(
        (leaf_name(path), leaf.shape[batch_axes:] or (1,))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    )


def _size(parts: Parts) -> int:
    return sum(math.prod(shape) for _, shape in parts)
