import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.learner.layers import Conv, Dense, initializer


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


NORMAL = initializer("normal", 2.0)


@pytest.mark.parametrize("shape", [(7,), (6, 7), (2, 3, 5, 7)])
def test_dense_is_flax_dense(shape):
    """Parameters, values and gradients: checkpoints and random streams depend on the first."""
    alike(Dense(4, 2.0), nn.Dense(4, kernel_init=NORMAL), draw(0, *shape), shape[:-1])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(5, 5), (4, 7), (1, 2)])
def test_conv_is_flax_conv(sides, stride):
    flax = nn.Conv(4, (3, 3), stride, kernel_init=NORMAL)
    sizes = [-(-side // stride) for side in sides]
    alike(Conv(4, 2.0, stride), flax, draw(0, 6, *sides, 3), (6, *sizes))


@pytest.mark.parametrize(
    "shape", [(64, 64), (5, 20), (20, 5), (1, 4), (4, 1), (3, 3, 4, 8), (512, 512)]
)
def test_orthogonal_kernels_are(shape):
    init = initializer("orthogonal", 2.0)
    kernels = jax.vmap(lambda key: init(key, shape))(jax.random.split(jax.random.key(0), 2))
    for kernel in np.asarray(kernels, np.float64).reshape(2, -1, shape[-1]):
        tall = kernel if kernel.shape[0] >= kernel.shape[1] else kernel.T
        np.testing.assert_allclose(tall.T @ tall, 4 * np.eye(tall.shape[1]), atol=1e-4)
    assert abs(kernels[0] - kernels[1]).max() > 0.1


def test_each_gate_s_kernel_is_orthogonal():
    kernel = np.asarray(initializer("orthogonal", 1.0, blocks=3)(jax.random.key(0), (8, 24)))
    for gate in np.split(kernel, 3, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)


def test_no_direction_of_orthogonal_kernels_is_preferred():
    keys = jax.random.split(jax.random.key(1), 4000)
    kernels = jax.vmap(lambda key: initializer("orthogonal", 1.0)(key, (3, 3)))(keys)
    np.testing.assert_allclose(kernels.mean(0), 0, atol=0.05)
    np.testing.assert_allclose((kernels**2).mean(0), 1 / 3, atol=0.03)
    assert 0.45 < np.mean(np.linalg.det(np.asarray(kernels)) > 0) < 0.55


def alike(ours, flax, x, shape):
    params = ours.init(jax.random.key(2), x)
    assert jax.tree.structure(params) == jax.tree.structure(flax.init(jax.random.key(2), x))
    jax.tree.map(np.testing.assert_array_equal, params, flax.init(jax.random.key(2), x))
    weight = draw(1, *shape, 4)

    def loss(layer, params, x):
        return jnp.sum(weight * jnp.sin(layer.apply(params, x)))

    assert ours.apply(params, x).shape == (*shape, 4)
    mine, theirs = (jax.value_and_grad(loss, (1, 2))(layer, params, x) for layer in (ours, flax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), mine, theirs)
