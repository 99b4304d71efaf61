"""A trust region that is steered: the same target is met on different tasks and geometries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.registry import make
from marsrl.learner.algorithm import make_algorithm
from marsrl.presets import preset

UPDATES, SETTLED = 100, 50
"""Updates that the test trains, and of which the last are to be at the target."""


@pytest.mark.parametrize(
    ("task", "objective", "target"),
    [
        ("paxmen/4ag", "mars", 2e-3),
        ("aerojax/track-3ag", "maspo", 5e-4),
        ("paxmen/5ag", "mappo", 2e-3),
    ],
)
def test_the_target_is_reached(task, objective, target):
    config = preset(
        task, objective=objective, core="ff", width=16, num_envs=16, rollout_length=20,
        num_minibatches=2, eps=0.2, anneal_lr=False, target_kl=target, total_steps=UPDATES * 320,
    )  # fmt: skip
    algorithm = make_algorithm(config, make(task))

    @jax.jit
    def train(state):
        return jax.lax.scan(lambda state, _: algorithm.step(state), state, length=UPDATES)

    _, metrics = train(jax.jit(algorithm.init)(jax.random.key(0)))
    kl = np.asarray(metrics["update_kl"].total)
    # of small batches it is noisy: what is steered is its logarithm
    assert np.exp(np.log(kl[-SETTLED:]).mean()) == pytest.approx(target, rel=0.25)
    eps = np.asarray(metrics["eps"].total)
    assert eps[0] == pytest.approx(config.settled().eps)
    assert np.ptp(np.log(eps)) > 0.1  # it had to move
    assert jnp.isfinite(eps).all()
    assert dataclasses.replace(config, target_kl=None).hash != config.hash
