"""What programs take as inputs, and the size of the trust region that follows a KL."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from environments import small_config
from marsrl.config import INPUTS
from marsrl.errors import UserError
from marsrl.learner.schedule import (
    LEAST_SIZE,
    MOST_SIZE,
    check_shared,
    hyperparameters,
    steered,
)


def inputs_of(**changes):
    config = small_config(**changes)
    return hyperparameters(config, config.make_objective())


@pytest.mark.parametrize("start", [0.05, 0.2, 5.0])
@pytest.mark.parametrize("target_kl", [1e-3, 1e-2])
def test_the_size_settles_where_the_target_is_met(start, target_kl):
    """A policy whose KL grows like the square of the width, with noise as in training."""
    inputs = inputs_of(eps=start, target_kl=target_kl)
    rng, log_size, seen = np.random.default_rng(0), jnp.float32(0), []
    for _ in range(120):
        schedule = inputs.scheduled(jnp.int32(0), log_size)
        kl = 0.02 * schedule.eps_high**2 * rng.lognormal(sigma=0.3)
        log_size = steered(log_size, schedule, kl, inputs.target_kl)
        seen.append(float(kl))
    assert np.median(seen[-60:]) == pytest.approx(target_kl, rel=0.15)


@pytest.mark.parametrize(("kl", "bound"), [(1e3, LEAST_SIZE), (0.0, MOST_SIZE)])
def test_a_target_out_of_reach_ends_at_a_bound(kl, bound):
    inputs, log_size = inputs_of(eps=0.2, target_kl=0.01), jnp.float32(0)
    for _ in range(150):
        log_size = steered(
            log_size, inputs.scheduled(jnp.int32(0), log_size), jnp.float32(kl), 0.01
        )
    np.testing.assert_allclose(inputs.scheduled(jnp.int32(0), log_size).eps_high, bound, rtol=1e-4)


def test_a_kl_that_is_not_finite_changes_nothing():
    inputs = inputs_of(target_kl=0.01)
    schedule = inputs.scheduled(jnp.int32(0), jnp.float32(0.3))
    for kl in (math.nan, math.inf):
        assert steered(jnp.float32(0.3), schedule, jnp.float32(kl), 0.01) == jnp.float32(0.3)


def test_both_widths_of_a_flexible_region_are_scheduled_and_steered():
    inputs = inputs_of(objective="mars-flexible", eps_low=0.1, eps_high=0.4, target_kl=0.01)
    schedule = inputs.scheduled(jnp.int32(0), jnp.log(2.0))
    np.testing.assert_allclose([schedule.eps_low, schedule.eps_high], [0.2, 0.8], rtol=1e-6)


def test_beyond_its_end_a_schedule_stays_there():
    inputs = inputs_of(anneal_lr=True, ent_coef=0.01, ent_coef_end=0.001, eps=0.4, eps_end=0.1)
    at_end, beyond = (
        inputs.scheduled(jnp.float32(times * inputs.num_updates), 0.0) for times in (1, 3)
    )
    np.testing.assert_allclose(at_end[:5], (0, 0, 0.001, 0.1, 0.1), rtol=1e-5)
    assert beyond == at_end


def test_what_may_differ_within_a_program():
    config = small_config()
    different = {
        "eps": 0.7, "eps_low": None, "eps_high": None, "eps_end": 0.1, "target_kl": None,
        "actor_lr": 1e-4, "critic_lr": 1e-4, "anneal_lr": True, "ent_coef": 0.1,
        "ent_coef_end": 0.0, "gamma": 0.5, "gae_lambda": 0.5, "seeds": (7,),
    }  # fmt: skip
    assert {*INPUTS} == different.keys() - {"seeds"}
    check_shared(config, dataclasses.replace(config, **different))
    with pytest.raises(UserError, match=r"update_epochs is 1 and 2, .* differ in eps, "):
        check_shared(config, dataclasses.replace(config, update_epochs=2))
    own = dataclasses.replace(config, objective="mine:objective")
    with pytest.raises(UserError, match="mine:objective has a program for each eps"):
        check_shared(own, own)
