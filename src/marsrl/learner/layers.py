"""Dense layers and biases whose gradients are matrix products.

The gradient of a bias is a sum over rows, for which XLA's CPU backend has two ways: its own takes
several times as long as the product here, and the library YNNPACK would have to be let loose on all
sums, and slows down some environments' rules (`marsrl.devices.sharding` says which).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling, zeros_init

from marsrl.types import Array


def normal(gain: float) -> nn.initializers.Initializer:
    """Initialises a kernel with variance `gain**2 / fan_in`."""
    # Not orthogonal: on a two-core CPU the QR factorisations of a jitted, vmapped orthogonal
    # initialisation can wait for each other for ever, and compiling them takes seconds.
    return variance_scaling(gain**2, "fan_in", "normal")


class Dense(nn.Module):
    """A dense layer on the last axis, with the parameters of flax's."""

    features: int
    gain: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., features) for x (..., F)."""
        kernel = self.param("kernel", normal(self.gain), (x.shape[-1], self.features))
        bias = self.param("bias", zeros_init(), (self.features,))
        # as one matrix, since XLA's CPU backend contracts several axes (the gradient of the kernel)
        # more slowly: 20 % of the whole backward pass
        rows = add_bias(x.reshape((-1, x.shape[-1])) @ kernel, bias)
        return rows.reshape((*x.shape[:-1], self.features))


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """`x + bias`; the bias has the shape of x's last axes, (..., *bias.shape)."""
    return x + bias


def _forward(x: Array, bias: Array) -> tuple[Array, Array]:
    return x + bias, bias


def _backward(bias: Array, gradient: Array) -> tuple[Array, Array]:
    return gradient, sum_rows(gradient.reshape((-1, bias.size))).reshape(bias.shape)


add_bias.defvjp(_forward, _backward)


def sum_rows(rows: Array) -> Array:
    """The sum (H,) over the rows (K, H)."""
    # made from the rows, so that `vmap` maps both factors: else it transposes the rows
    ones = jnp.where(rows[:, 0] > 0, 1.0, 1.0)
    return jnp.matmul(ones, rows, precision="highest")
