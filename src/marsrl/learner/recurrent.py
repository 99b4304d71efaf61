"""The recurrent part of a GRU over a sequence, with a backward pass of its own.

Differentiating the scan would add each step's share of the kernels' gradient inside the loop. Here
the loop only carries `dh` back; the kernels' gradient is one matrix product over all steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from marsrl.types import Array


class _Gates(NamedTuple):
    """What the backward pass needs of every step, (L, B, ..., H) each."""

    r: Array
    z: Array
    n: Array
    q: Array
    """The reset gate's factor: `h K_n + bias`."""


@jax.custom_vjp
def gru(inputs: list[Array], carry: Array, keep: Array, kernel: Array, bias: Array) -> Array:
    """`h' = n + z (h - n)` after each step, (L, B, ..., H) (Cho et al. 2014).

    `r = sigmoid(x_r + h K_r)`, `z = sigmoid(x_z + h K_z)`, `n = tanh(x_n + r (h K_n + bias))`.

    Args:
        inputs: `x_r, x_z, x_n`, (L, B, ..., H) each.
        carry: `h` before the first step, (B, ..., H).
        keep: (L, B, ..., 1) bool; where False, `h` is 0 before the step.
        kernel: `K_r, K_z, K_n` side by side, (H, 3 H).
        bias: (H,).
    """
    return _forward(inputs, carry, keep, kernel, bias)[0]


def _forward(
    inputs: list[Array], carry: Array, keep: Array, kernel: Array, bias: Array
) -> tuple[Array, Any]:
    def step(h: Array, xs: tuple[list[Array], Array]) -> tuple[Array, tuple[Array, _Gates]]:
        (x_r, x_z, x_n), keep = xs
        h = jnp.where(keep, h, 0.0)
        # One product for all gates: a gate that had a product of its own would be written over it,
        # and XLA's CPU backend does not vectorise what reads and writes the same memory.
        h_r, h_z, h_n = jnp.split(h @ kernel, 3, axis=-1)
        r = jax.nn.sigmoid(x_r + h_r)
        z = jax.nn.sigmoid(x_z + h_z)
        q = h_n + bias
        n = jnp.tanh(x_n + r * q)
        h = n + z * (h - n)
        return h, (h, _Gates(r, z, n, q))

    _, (after, gates) = jax.lax.scan(step, carry, (inputs, keep))
    return after, (carry, keep, kernel, after, gates)


def _backward(saved: Any, d_after: Array) -> tuple[list[Array], Array, None, Array, Array]:
    carry, keep, kernel, after, gates = saved
    before = jnp.where(keep, jnp.concatenate([carry[None], after[:-1]]), 0.0)
    to_r, to_z, to_q = jnp.split(kernel.T, 3)

    def step(dh: Array, xs: tuple) -> tuple[Array, tuple[Array, ...]]:
        (r, z, n, q), h, keep, d_out = xs
        dh = dh + d_out
        dz = dh * (h - n) * z * (1 - z)
        dn = dh * (1 - z) * (1 - n**2)
        dq = dn * r
        dr = dn * q * r * (1 - r)
        back = dr @ to_r + dz @ to_z + dq @ to_q
        return jnp.where(keep, z * dh + back, 0.0), (dr, dz, dn, dq)

    d_carry, (dr, dz, dn, dq) = jax.lax.scan(
        step, jnp.zeros_like(carry), (gates, before, keep, d_after), reverse=True
    )
    h, *gradients = (x.reshape((-1, x.shape[-1])) for x in (before, dr, dz, dq))
    d_kernel = jnp.concatenate([h.T @ d for d in gradients], axis=-1)
    return [dr, dz, dn], d_carry, None, d_kernel, gradients[-1].sum(0)


gru.defvjp(_forward, _backward)
