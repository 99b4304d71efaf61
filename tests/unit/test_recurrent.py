"""The GRU against the same recurrence written down plainly and differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.learner.recurrent import gru

L, B, N, H = 7, 3, 2, 5


def plain(inputs, carry, keep, kernel, bias):
    outputs, kernels = [], [kernel[:, i * H : (i + 1) * H] for i in range(3)]
    for t in range(L):
        x_r, x_z, x_n = (x[t] for x in inputs)
        h = jnp.where(keep[t], carry, 0.0)
        r = jax.nn.sigmoid(x_r + h @ kernels[0])
        z = jax.nn.sigmoid(x_z + h @ kernels[1])
        carry = (1 - z) * jnp.tanh(x_n + r * (h @ kernels[2] + bias)) + z * h
        outputs.append(carry)
    return jnp.stack(outputs)


@pytest.fixture(scope="module", params=[(B,), (B, N)], ids=["batch", "batch-and-agents"])
def case(request):
    rng, batch = np.random.default_rng(0), request.param

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    keep = rng.random((L, *batch, 1)) > 0.3
    assert not keep[0].all()  # the carry itself is dropped somewhere, and kept elsewhere
    assert keep[0].any()
    inputs = [draw(L, *batch, H) for _ in range(3)]
    args = (inputs, draw(*batch, H), jnp.asarray(keep), draw(H, 3 * H), draw(H))
    return args, draw(L, *batch, H)


def gradients(function, args, weight):
    inputs, carry, keep, kernel, bias = args

    def loss(inputs, carry, kernel, bias):
        return jnp.sum(weight * function(inputs, carry, keep, kernel, bias))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(inputs, carry, kernel, bias)


def assert_close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_outputs_and_gradients_are_those_of_the_plain_recurrence(case):
    args, weight = case
    assert_close(jax.jit(gru)(*args), plain(*args))
    assert_close(gradients(gru, args, weight), gradients(plain, args, weight))


def test_gradients_under_vmap(case):
    """As separate parameters and stacked seeds use it."""
    args, weight = case

    inputs, carry, keep, kernel, bias = args

    def run(function, scale):
        def loss(kernel):
            return jnp.sum(weight * function(inputs, carry, keep, kernel, bias))

        return jax.grad(loss)(scale * kernel)

    scales = jnp.array([1.0, 0.5])
    ours, theirs = (jax.jit(jax.vmap(lambda s, f=f: run(f, s)))(scales) for f in (gru, plain))
    assert_close(ours, theirs)
