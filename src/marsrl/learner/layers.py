"""Dense layers and convolutions, and how their kernels begin."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling, zeros_init

from marsrl.compiler import add_bias
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


class Conv(nn.Module):
    """A convolution by 3 x 3 kernels with a border of zeros, with the parameters of flax's.

    It is a product of patches: several seeds in one program would make flax's a grouped
    convolution, which XLA's CPU backend computes slowly (`marsrl.compiler` has the gain).
    """

    features: int
    gain: float
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(K, H / stride, W / stride, features), rounded up, for pictures x (K, H, W, C)."""
        patches = _patches(x, self.stride)
        kernel = self.param("kernel", normal(self.gain), (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", zeros_init(), (self.features,))
        rows = patches.reshape((-1, patches.shape[-1])) @ kernel.reshape((-1, self.features))
        return add_bias(rows, bias).reshape((*patches.shape[:-1], self.features))


def _patches(x: Array, stride: int) -> Array:
    """What lies under a 3 x 3 kernel at each of its places: (K, H', W', 9 C) for (K, H, W, C)."""
    ends = [(side - 1) // stride * stride + 1 for side in x.shape[1:3]]  # of the kernel's corner
    borders = [end + 2 - side for end, side in zip(ends, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((border // 2, -(-border // 2)) for border in borders), (0, 0)))
    height, width = ends
    places = [(i, j) for i in range(3) for j in range(3)]
    shifted = [x[:, i : i + height : stride, j : j + width : stride] for i, j in places]
    return jnp.concatenate(shifted, axis=-1)
