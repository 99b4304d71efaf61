"""Dictionaries of arrays as rows of numbers."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np

from environments import Furnished, Scripted, random_weights, small_config
from marsrl.envs.check import check_env
from marsrl.envs.flat import flat
from marsrl.learner.algorithm import networks_of

ENV = flat(Furnished(num_agents=3))
KEY = jax.random.key(0)


def test_an_environment_without_dictionaries_is_left_alone():
    env = Scripted()
    assert flat(env) is env
    assert flat(ENV) is ENV


def test_the_spec_says_what_lies_where():
    spec = ENV.spec
    assert spec.obs_parts == (("body/angles", (3,)), ("body/turns", (1,)), ("view", (9, 4, 2)))
    assert spec.obs_shape == (3 + 1 + 72,)
    assert spec.state_parts == (("all", (3,)), ("map", (9, 4, 2)))
    assert spec.state_shape == (3 + 72,)
    assert type(spec).from_dict(spec.to_dict()) == spec
    assert hash(spec) == hash(flat(Furnished(num_agents=3)).spec)


def test_a_row_holds_the_arrays_in_order_as_float32():
    state, plain = jax.jit(Furnished(num_agents=3).reset)(KEY)
    for now in (ENV.reset(KEY)[1], ENV.step(KEY, state, jnp.zeros(3, jnp.int32))[1]):
        assert now.obs.dtype == now.global_state.dtype == jnp.float32
    row = ENV.reset(KEY)[1].obs
    np.testing.assert_allclose(row[:, :3], plain.obs["body"]["angles"], rtol=1e-6)
    np.testing.assert_array_equal(row[:, 3], plain.obs["body"]["turns"])
    pictures = np.asarray(plain.obs["view"]).reshape(3, -1)
    np.testing.assert_allclose(255 * row[:, 4:], pictures, rtol=1e-5)


def test_the_check_knows_it():
    notes = check_env(Furnished(num_agents=3), num_steps=2)
    assert notes[0] == (
        "obs is a dictionary, read as one row of float32: "
        "body/angles (3,), body/turns (1,), view (9, 4, 2)"
    )
    assert notes[1].startswith("global_state is a dictionary")


def test_pictures_in_a_dictionary_are_convolved():
    networks = networks_of(small_config(critic="both"), ENV.spec)
    params = random_weights(networks)
    for weights, number in ((params.actor, 2), (params.critic, 4)):
        layers = weights.params["params"]["Body_0"]["Pictures_0"]
        assert [layers[f"Conv_{i}"]["kernel"].shape[2:] for i in range(len(layers))] == [
            (2, 32),
            (32, 32),
        ] * (number // 2)


def test_it_can_be_pickled_and_has_what_the_environment_has():
    copy = pickle.loads(pickle.dumps(ENV))
    assert copy.spec == ENV.spec
    assert copy.terminates_at == 3
    assert not hasattr(copy, "draw")
