"""Dense layers, and how their kernels begin."""

from __future__ import annotations

import flax.linen as nn
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
