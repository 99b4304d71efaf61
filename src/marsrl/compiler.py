"""What the code does for the sake of XLA's compiler, on CPUs above all; elsewhere it is plain JAX.

Each is here with what it gained when it came (jax 0.10.2, November 2026, two cores), so that it can
go once a compiler needs it no more. Beside these: gradients and Adam work on one flat vector
(`learner.update`; an update of the MPE row 14 % faster on two devices), a device that holds one
seed runs it without `vmap` (`devices.sharding.spread`; with `take`, a second start in 2.0 instead
of 3.2 s), the GRU has one product for all gates and a backward pass of its own
(`learner.recurrent`; updates of the MPE row 70 % faster), and a convolution is a product of patches
(`learner.layers.Conv`; three seeds in one program, forward 2 to 3 and gradient 6 times as fast).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
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


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """`x + bias`; the bias has the shape of x's last axes, (..., *bias.shape).

    Its gradient is a product with ones: XLA's CPU backend sums rows several times as slowly, and
    the library YNNPACK would have to be let loose on all sums, which slows down some environments'
    rules (see `compiler_options`).
    """
    return x + bias


def _add_bias_forward(x: Array, bias: Array) -> tuple[Array, Array]:
    return x + bias, bias


def _add_bias_backward(bias: Array, gradient: Array) -> tuple[Array, Array]:
    return gradient, sum_rows(gradient.reshape((-1, bias.size))).reshape(bias.shape)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def sum_rows(rows: Array) -> Array:
    """The sum (H,) over the rows (K, H)."""
    # made from the rows, so that `vmap` maps both factors: else it transposes the rows
    ones = jnp.where(rows[:, 0] > 0, 1.0, 1.0)
    return jnp.matmul(ones, rows, precision="highest")


def in_memory(x: Array) -> Array:
    """`x` itself, but stored before it is read: a transposed one is then transposed only once.

    Without it, XLA's CPU backend makes the products of the GRU's kernels without YNNPACK, and an
    update of the default task takes 4 % longer.
    """
    return jax.lax.optimization_barrier(x)


def compiler_options(platform: str, once: bool = False) -> dict[str, Any] | None:
    """What halves the time that a CPU's compiler takes, and lets it call YNNPACK for products only.

    None for another platform than "cpu". With `once`, for a program that runs once.

    With jax 0.10.2 the step of the default task takes 9 instead of 19 s of processor time and then
    runs in 0.59 instead of 0.65 s; a step of the others that were tried is 0 to 8 % slower.
    """
    if platform != "cpu":
        return None
    quick = once or jax.config.read("jax_disable_most_optimizations")
    options = {
        "xla_backend_optimization_level": 0 if quick else 1,
        # products only: sums over a short axis of a large array, as SMAX's rules have them, are
        # up to ten times slower in that library (jax-ml/jax#37465)
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    }
    if jax.__version_info__ < (0, 11):  # later compilers have but one way to emit fused operations
        options["xla_cpu_use_fusion_emitters"] = False
    return options


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Tracing makes many objects that stay; searching them takes a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
