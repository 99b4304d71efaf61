"""Dense layers and convolutions, and how their kernels begin."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import variance_scaling, zeros_init

from marsrl.config import KernelInit
from marsrl.types import Array, Key


def initializer(kind: KernelInit, gain: float, blocks: int = 1) -> nn.initializers.Initializer:
    """How a kernel (..., F) begins, as a matrix from all its other axes to the last.

    Args:
        kind: "normal": independent values of variance `gain**2 / fan_in`; "orthogonal": `gain`
            times a matrix whose columns (or rows, if those are fewer) are orthonormal, uniform
            among all of them (Saxe et al. 2014).
        gain: what a unit input is scaled to.
        blocks: of how many equal kernels, side by side, it is made up.
    """
    if kind == "normal":
        return variance_scaling(gain**2, "fan_in", "normal")

    def init(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        block = (*shape[:-1], shape[-1] // blocks)
        parts = [_orthogonal(key, block, dtype) for key in jax.random.split(key, blocks)]
        return gain * jnp.concatenate(parts, axis=-1)

    return init


def _orthogonal(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """The orthogonal factor of a normal matrix, by Newton-Schulz iterations.

    They take every singular value to 1 by products alone (Björck and Bowie 1971). On a two-core CPU
    the QR factorisations of jax's own, jitted and mapped over seeds, can wait for each other for
    ever, and compiling them takes seconds.
    """
    rows, columns = math.prod(shape[:-1]), shape[-1]
    tall = jax.random.normal(key, (max(rows, columns), min(rows, columns)), dtype)
    tall = tall / jnp.linalg.norm(tall)  # no singular value is above 1

    def closer(_: int, x: Array) -> Array:
        square = jnp.matmul(x.T, x, precision="highest")
        return 1.5 * x - 0.5 * jnp.matmul(x, square, precision="highest")

    tall = jax.lax.fori_loop(0, _ITERATIONS, closer, tall)
    return (tall if rows >= columns else tall.T).reshape(shape)


_ITERATIONS = 40  # each multiplies a small singular value by 1.5: 1e-7 in all


class Dense(nn.Module):
    """A dense layer on the last axis, with the parameters of flax's."""

    features: int
    gain: float
    kernel_init: KernelInit = "normal"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., features) for x (..., F)."""
        begin = initializer(self.kernel_init, self.gain)
        kernel = self.param("kernel", begin, (x.shape[-1], self.features))
        bias = self.param("bias", zeros_init(), (self.features,))
        # as one matrix, since XLA's CPU backend contracts several axes (the gradient of the kernel)
        # more slowly: 20 % of the whole backward pass
        rows = x.reshape((-1, x.shape[-1])) @ kernel + bias
        return rows.reshape((*x.shape[:-1], self.features))


class Conv(nn.Module):
    """A convolution by 3 x 3 kernels with a border of zeros, with the parameters of flax's.

    It is a product of patches: several seeds in one program would make flax's a grouped
    convolution, which XLA's CPU backend computes slowly (`marsrl.compiler` has the gain).
    """

    features: int
    gain: float
    stride: int = 1
    kernel_init: KernelInit = "normal"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(K, H / stride, W / stride, features), rounded up, for pictures x (K, H, W, C)."""
        patches = _patches(x, self.stride)
        begin = initializer(self.kernel_init, self.gain)
        kernel = self.param("kernel", begin, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", zeros_init(), (self.features,))
        rows = patches.reshape((-1, patches.shape[-1])) @ kernel.reshape((-1, self.features))
        return (rows + bias).reshape((*patches.shape[:-1], self.features))


def _patches(x: Array, stride: int) -> Array:
    """What lies under a 3 x 3 kernel at each of its places: (K, H', W', 9 C) for (K, H, W, C)."""
    ends = [(side - 1) // stride * stride + 1 for side in x.shape[1:3]]  # of the kernel's corner
    borders = [end + 2 - side for end, side in zip(ends, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((border // 2, -(-border // 2)) for border in borders), (0, 0)))
    height, width = ends
    places = [(i, j) for i in range(3) for j in range(3)]
    shifted = [x[:, i : i + height : stride, j : j + width : stride] for i, j in places]
    return jnp.concatenate(shifted, axis=-1)
