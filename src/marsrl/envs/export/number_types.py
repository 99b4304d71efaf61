"""What kind of numbers an environment shows, which is not in its spec."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from marsrl.envs.base import Environment


class Numbers(NamedTuple):
    """A type, and the numbers that it has: bytes are from 0 to 255, floats have no bounds."""

    dtype: np.dtype
    low: float
    high: float


def numbers_of(env: Environment) -> tuple[Numbers, Numbers]:
    """Those of observations, and of the global state; `reset` is traced, on no device."""
    now = jax.eval_shape(env.reset, jax.eval_shape(lambda: jax.random.key(0)))[1]
    return _numbers(np.dtype(now.obs.dtype)), _numbers(np.dtype(now.global_state.dtype))


def _numbers(dtype: np.dtype) -> Numbers:
    if dtype.kind == "b":
        return Numbers(dtype, 0, 1)
    if dtype.kind in "iu":
        return Numbers(dtype, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    return Numbers(dtype, -np.inf, np.inf)
