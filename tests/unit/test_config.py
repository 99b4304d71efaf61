import dataclasses
import json
import re

import pytest

from marsrl.config import Config
from marsrl.errors import UserError, near_misses

UNUSUAL = Config(
    objective="mappo", seeds=(3, 1, 4), core="ff", critic="obs", value_clip=0.2, eps=0.1, width=32
)


def refusal(make):
    """The one line with which a configuration is refused."""
    with pytest.raises(UserError) as caught:
        make()
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"chunk_length": 20}, ["chunk_length = 20", "rollout_length = 50", "nearest", "25"]),
        ({"chunk_length": 100}, ["chunk_length = 100", "rollout_length = 50", "is 50"]),
        ({"num_minibatches": 5}, ["num_minibatches = 5", "128", "is 4"]),
        ({"num_minibatches": 256}, ["num_minibatches = 256", "is 128"]),
        ({"core": "ff", "num_envs": 3, "num_minibatches": 4}, ["num_minibatches", "150", "is 3"]),
        ({"devices": 7}, ["devices = 7", "2 seeds", "32 blocks", "nearest", "is 8"]),
    ],
)
def test_sizes_that_do_not_divide(changes, named):
    message = refusal(lambda: Config(**changes))
    for part in named:
        assert part in message


@pytest.mark.parametrize("changes", [{"advantage_per_agent": True}, {"advantage_floor": 0.1}])
def test_settings_that_would_do_nothing(changes):
    ((name, value),) = changes.items()
    assert Config(**changes)
    message = refusal(lambda: Config(normalize_advantage=False, **changes))
    assert f"{name} = {value} must be " in message
    assert "without normalize_advantage" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"num_envs": 8.5},
        {"num_envs": "8"},
        {"num_envs": True},
        {"num_envs": None},
        {"gamma": "0.99"},
        {"eps": "wide"},
        {"stagger": 1},
        {"core": "lstm"},
        {"critic": "global"},
        {"task": 4},
        {"seeds": 3},
        {"seeds": (1.5,)},
        {"seeds": ("1",)},
        {"value_clip": "small"},
        {"actor_lr": "2e-3"},
    ],
    ids=str,
)
def test_wrong_types(changes):
    ((name, value),) = changes.items()
    message = refusal(lambda: Config(**changes))
    assert name in message
    assert repr(value) in message
    assert "wrong type" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"num_envs": 0},
        {"total_steps": -1},
        {"gamma": 1.01},
        {"gamma": float("nan")},
        {"gae_lambda": -0.1},
        {"actor_lr": 0.0},
        {"max_grad_norm": 0.0},
        {"ent_coef": -0.01},
        {"chunk_length": 0},
        {"reset_pool": 0},
        {"value_clip": 0.0},
        {"devices": -1},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
        {"seeds": (2**32,)},
    ],
    ids=str,
)
def test_impossible_values(changes):
    ((name, value),) = changes.items()
    message = refusal(lambda: Config(**changes))
    assert f"{name} = {value!r} must be" in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"objective": "marz"}, ["'marz'", "mars"]),
        ({"eps": -0.2}, ["eps", "-0.2"]),
        ({"objective": "mappo", "eps": 1.5e6}, ["eps", "1500000"]),
        ({"eps_low": 0.1}, ["eps_low"]),
        ({"objective": "mappo", "eps": 0.5, "eps_end": 1.5e6}, ["eps_end", "1500000"]),
        ({"objective": "mars-flexible"}, ["eps_low", "eps_high"]),
    ],
    ids=str,
)
def test_objectives_that_do_not_exist(changes, named):
    message = refusal(lambda: Config(**changes))
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    ("key", "meant"),
    [("num_env", "num_envs"), ("actor_learning_rate", "actor_lr"), ("chunk_len", "chunk_length")],
)
def test_unknown_keys_with_near_misses(key, meant):
    message = refusal(lambda: Config.from_dict({key: 1}))
    assert f"unknown setting {key!r}; did you mean" in message
    assert meant in message


def test_an_unknown_key_like_no_other_lists_all():
    message = refusal(lambda: Config.from_dict({"zzzz": 1}))
    for field in dataclasses.fields(Config):
        assert field.name in message


def test_near_misses():
    assert near_misses("maps", ["mars", "mappo"]).startswith("; did you mean ma")
    assert near_misses("xyz", ["mars", "mappo"]) == "; known: mars, mappo"
    assert near_misses("xyz", []) == "; there are none"


# --- Round trip -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [Config(), UNUSUAL], ids=["default", "unusual"])
def test_json_round_trip(config):
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_keys_take_their_default():
    assert Config.from_dict({"objective": "mappo", "seeds": [7]}) == Config(
        objective="mappo", seeds=(7,)
    )


# --- Derived --------------------------------------------------------------------------------------


def test_hash_names_the_configuration_without_its_seeds():
    assert re.fullmatch("[0-9a-f]{12}", Config().hash)
    assert Config(seeds=(5,)).hash == Config().hash
    assert Config(seeds=(5,), devices=1).hash == Config().hash
    assert Config(log_interval=3, keep_checkpoints=9).hash == Config().hash
    changes = [
        {"task": "paxmen/5ag"},
        {"eps": 0.3},
        {"core": "ff"},
        {"num_envs": 64},
        {"stagger": False},
        {"eval_seed": 1},
    ]
    assert len({Config(**change).hash for change in [{}, *changes]}) == len(changes) + 1


def test_a_setting_that_came_later_does_not_change_the_hash_of_published_results():
    assert Config().hash == "30b606c1b34f"
    assert Config(kernel_init="orthogonal").hash != Config().hash


def test_hash_survives_the_file():
    assert Config.from_dict(json.loads(json.dumps(UNUSUAL.to_dict()))).hash == UNUSUAL.hash


def test_counts():
    config = Config(num_envs=6, rollout_length=20, chunk_length=5, total_steps=1001)
    assert (config.sequence_length, config.num_chunks, config.num_sequences) == (5, 4, 24)
    assert config.steps_per_update == 120
    assert config.num_updates == 9  # rounded up
    assert Config(core="ff").sequence_length == 1
    assert Config(core="gru").sequence_length == Config().rollout_length


def test_the_objective_is_the_named_one():
    assert Config().make_objective().name == "mars"
    flexible = Config(objective="mars-flexible", eps_low=0.1, eps_high=0.3).make_objective()
    assert (flexible.region.lower, flexible.region.upper) == (0.9, 1.3)


@pytest.mark.parametrize(
    ("changes", "blocks"),
    [
        ({}, 32),  # 128 sequences, 4 of them in a block
        ({"core": "ff"}, 64),  # the most
        ({"num_envs": 16}, 4),
        ({"num_envs": 6, "num_minibatches": 2}, 3),
        ({"num_envs": 7, "num_minibatches": 1}, 7),
        ({"num_envs": 1, "num_minibatches": 5, "chunk_length": 10}, 1),
    ],
)
def test_blocks_give_every_minibatch_an_equal_share(changes, blocks):
    config = Config(**changes)
    assert config.env_blocks == blocks
    assert config.num_envs % blocks == 0
    assert config.num_sequences // blocks % config.num_minibatches == 0


def test_devices_share_seeds_before_environments():
    shapes = Config(seeds=(0, 1, 2), num_envs=16).layout.shapes  # 4 blocks
    assert shapes == {1: (1, 1), 2: (1, 2), 3: (3, 1), 4: (1, 4), 6: (3, 2), 12: (3, 4)}
    assert Config(seeds=(0, 1), num_envs=16).layout.shapes[4] == (2, 2)


def test_the_hash_does_not_tell_a_whole_number_from_the_float_it_stands_for():
    assert Config(gamma=1).hash == Config(gamma=1.0).hash != Config().hash
