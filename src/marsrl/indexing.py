"""Reading from arrays at indices that the caller knows to be in bounds."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from marsrl.types import Array


def take(x: Array | np.ndarray, index: Any) -> Array:
    """`x[index]` for arrays of indices that are neither negative nor too large.

    JAX's own indexing counts negative indices from the end and fills in for those out of bounds:
    three times as many operations, which every program would trace, lower and compile.

    Args:
        x: what to read from.
        index: as in `x[index]`; an index out of bounds reads anything.
    """
    return jnp.asarray(x).at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
