"""Arrays of JAX, PyTorch or NumPy: their shapes, and what is constant to differentiation."""

from __future__ import annotations

from typing import Any, TypeAlias

from array_api_compat import array_namespace, is_jax_array, is_torch_array

from marsrl.errors import shown

# No type is common to the arrays of JAX, PyTorch and NumPy, and naming one would import it.
Array: TypeAlias = Any

_TOO_SMALL = ("float16", "torch.float16")


def expanded(name: str, x: Array, log_ratio: Array) -> Array:
    """Repeats the axes of size 1; a missing axis is an error, since NumPy's rule could misalign."""
    for what, array in (("log_ratio", log_ratio), (name, x)):
        if not hasattr(array, "shape"):
            raise ValueError(f"{what} is {shown(array)}, expected an array")
    if str(log_ratio.dtype) in _TOO_SMALL:
        raise ValueError("log_ratio is float16, in which exp overflows; expected float32")
    shape, target = tuple(x.shape), tuple(log_ratio.shape)
    if len(shape) != len(target) or any(
        n not in (1, m) for n, m in zip(shape, target, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {shape}; expected that of log_ratio, {target}, "
            "or 1 in place of some of its axes"
        )
    return array_namespace(x).broadcast_to(x, target)


def constant(x: Array) -> Array:
    """Returns `x` cut out of the automatic differentiation of its framework."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        from jax.lax import stop_gradient  # here, so that only JAX users import JAX

        return stop_gradient(x)
    return x
