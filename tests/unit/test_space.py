"""What is tuned: parsing and its refusals, the default, the order of a grid."""

import dataclasses

import pytest

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.presets import preset
from marsrl.tune.space import (
    Choice,
    LogUniform,
    Space,
    Tied,
    Uniform,
    check_space,
    default_space,
    free,
    grid,
    present,
    read_space,
    settings,
    space_from,
    start,
    to_toml,
)

FILE = """
actor_lr = { low = 1e-4, high = 1e-2, log = true, points = 3 }
critic_lr = { tied = "actor_lr" }
gamma = { low = 0.9, high = 0.99 }
update_epochs = [2, 4]
width = { low = 16, high = 64, log = true, points = 3 }

[objective.mars]
eps = { low = 1, high = 100, log = true, points = 3 }
"""


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(FILE)
    return read_space(path, ["mars", "mappo"])


def test_a_file_is_read(space):
    assert space.shared == {
        "actor_lr": LogUniform(1e-4, 1e-2, 3),
        "critic_lr": Tied("actor_lr"),
        "gamma": Uniform(0.9, 0.99),
        "update_epochs": Choice((2, 4)),
        "width": LogUniform(16, 64, 3, whole=True),
    }
    assert space.of("mars")["eps"] == LogUniform(1.0, 100.0, 3)
    assert "eps" not in space.of("mappo")


def test_a_space_is_what_its_toml_says(space):
    assert space_from(to_toml(space), ["mars", "mappo"]) == space


def test_a_tied_setting_follows(space):
    dims = {name: space.shared[name] for name in ("actor_lr", "critic_lr")}
    assert settings(dims, {"actor_lr": 3e-4}) == {"actor_lr": 3e-4, "critic_lr": 3e-4}


def test_the_last_setting_of_a_grid_changes_fastest():
    dims = {
        "eps": LogUniform(1.0, 100.0, 3),
        "critic_lr": Tied("eps"),
        "update_epochs": Choice((2, 4)),
    }
    points = [(round(x["eps"]), x["update_epochs"]) for x in grid(dims)]
    assert points == [(1, 2), (1, 4), (10, 2), (10, 4), (100, 2), (100, 4)]


def test_whole_points_are_whole_and_different():
    assert LogUniform(16, 64, 3, whole=True).grid() == (16, 32, 64)
    assert Uniform(1, 3, 10, whole=True).grid() == (1, 2, 3)


def test_a_search_starts_from_the_settings_as_they_are():
    dims = {
        "actor_lr": LogUniform(1e-4, 1e-3),
        "width": Choice((32, 64)),
        "critic": Choice(("obs",)),
    }
    assert start(dims, [Config(actor_lr=5e-4, width=64)]) == {"actor_lr": 5e-4, "width": 64}
    assert start(dims, [Config(actor_lr=2e-3, width=16)]) == {}  # that no sampler could choose
    for given in (0.2, None):  # 1 + 0.2 - 1 is not 0.2
        config = Config(objective="mappo", eps=given)
        assert start({"eps": LogUniform(0.2, 1.0)}, [config]) == {"eps": 0.2}


def test_settings_as_they_are_may_differ_between_tasks_and_from_what_they_are_tied_to():
    dims = {
        "eps": Uniform(0.1, 1.0),
        "actor_lr": LogUniform(1e-4, 1e-2),
        "critic_lr": Tied("actor_lr"),
        "width": Choice((32, 64)),
    }
    configs = [Config(width=width, critic_lr=1e-3) for width in (64, 32)]
    assert present(dims, configs) == {"eps": 1.0, "actor_lr": 2e-3, "critic_lr": 1e-3}
    assert start(dims, configs) == {"eps": 1.0}


def test_the_default_space_is_valid_for_every_family():
    for task in ("rware/tiny-2ag", "mabrax/hopper_3x1", "paxmen/4ag"):
        for name in ("mars", "maspo", "mappo", "mars-additive", "mappo-geometric"):
            config = preset(task, objective=name)
            dims = default_space({name: [config]}, ()).of(name)
            assert {"eps", "actor_lr", "update_epochs", "ent_coef", "width"} <= set(dims)
            check_space(dims, config)


def test_the_default_leaves_out_what_is_fixed_and_what_does_not_divide():
    config = Config(num_envs=6, num_minibatches=2, core="gru")
    dims = default_space({"mars": [config]}, ("actor_lr", "width")).of("mars")
    assert "actor_lr" not in dims
    assert "width" not in dims
    assert isinstance(dims["critic_lr"], LogUniform)  # it has nothing to follow
    assert dims["num_minibatches"] == Choice((2,))
    assert "eps" not in default_space({"mars": [config]}, ("eps",)).of("mars")


def test_objectives_differ_in_their_trust_region_alone():
    configs = {name: [Config(objective=name)] for name in ("mars", "mappo")}
    space = default_space(configs, ())
    assert set(space.of("mars")) == set(space.of("mappo"))
    assert space.of("mars")["eps"] != space.of("mappo")["eps"]
    assert list(free(space.shared)) == [n for n in free(space.of("mars")) if n != "eps"]


REFUSED = [
    ("actor_lrr = [1.0]", "unknown setting 'actor_lrr'; did you mean actor_lr"),
    ("total_steps = [1, 2]", "total_steps cannot be tuned: .*--total-steps"),
    ("seeds = [1, 2]", "seeds cannot be tuned"),
    ("eps = 0.2", "eps is 0.2, expected a list of values, a range .* fixed value is --eps"),
    ("eps = []", "eps is .*, expected different values of one kind"),
    ("eps = [0.1, 0.1]", "different values"),
    ("eps = [0.1, 'a']", "values of one kind"),
    ("width = [16, 16.0]", r"width is \[16, 16.0\], expected different values of one kind"),
    ("share_parameters = [true, 'all']", r"\[True, 'all'\], expected different values$"),
    ("eps = { low = 0.1 }", "expected low and high, two finite numbers"),
    ("eps = { low = nan, high = 1.0 }", "two finite numbers"),
    ("eps = { low = 0.5, high = 0.1 }", "expected low below high"),
    ("eps = { low = 0.0, high = 0.1, log = true }", "expected more than 0 with log"),
    ("eps = { low = 0.1, high = 1, lgo = true }", "unknown 'lgo'; did you mean .*log"),
    ("eps = { low = 0.1, high = 1, points = 1 }", "eps.points is 1"),
    ("width = { low = 8.5, high = 16 }", "width is .*two finite whole numbers"),
    ("critic_lr = { tied = 'actor_lr' }", "tied to 'actor_lr', which is not tuned"),
    ("critic_lr = { tied = 'critic_lr' }", "tied to 'critic_lr', which is not tuned"),
    ("[objective.marz]\neps = [0.1]", "no objective that is tuned; did you mean mars"),
    ("[objective.mars]\nwidth = [8, 16]", "objective.mars.width .* not equal effort"),
    ("objective = 3", "expected tables"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_file_is_refused_with_its_name(tmp_path, text, reason):
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: .*{reason}"):
        read_space(path, ["mars", "mappo"])


def test_what_is_given_is_not_tuned_whatever_the_file_says(tmp_path, space):
    fixed = ("actor_lr", "critic_lr", "eps")
    left = read_space(tmp_path / "space.toml", ["mars", "mappo"], fixed)
    assert left.of("mars") == {n: d for n, d in space.of("mars").items() if n not in fixed}
    with pytest.raises(
        UserError, match=r"critic_lr is tied to actor_lr, which is given.*--critic-lr"
    ):
        read_space(tmp_path / "space.toml", ["mars", "mappo"], ("actor_lr",))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"share_parameters": [True, "groups"]}, (True, "groups")),
        ({"share_parameters": ["groups", "none", "all"]}, ("groups", False, True)),
        ({"width": [16.0, 64]}, (16, 64)),
    ],
)
def test_choices_are_what_a_configuration_has_for_them(given, values):
    space = space_from(given, ["mars"])
    (name,) = given
    assert list(map(repr, space.shared[name].grid())) == list(map(repr, values))  # True is no 1
    check_space(space.shared, Config())
    assert start(space.shared, [Config()]) == {name: getattr(Config(), name)}
    assert space_from(to_toml(space), ["mars"]) == space


MANY = Choice(tuple(range(1, 101)))


@pytest.mark.parametrize(
    ("dims", "reason"),
    [
        ({"num_minibatches": Choice((2, 3))}, "num_minibatches = 3 .*does not divide"),
        ({"eps": Uniform(-1.0, 0.5), "width": Choice((8,))}, "eps = -1.0 cannot"),
        ({"gamma": Uniform(0.5, 1.5)}, "gamma = 1.5 cannot be trained on paxmen/4ag"),
        ({}, "nothing is tuned"),
        ({"width": MANY, "update_epochs": MANY}, "width x update_epochs have 10,000 combinations"),
    ],
)
def test_what_a_run_would_refuse_is_refused_before_anything_starts(dims, reason):
    with pytest.raises(UserError, match=reason):
        check_space(dims, Config())


def test_combinations_of_choices_are_tried():
    dims = {"num_envs": Choice((4, 6)), "num_minibatches": Choice((2, 4))}
    with pytest.raises(UserError, match="num_envs = 6, num_minibatches = 4"):
        check_space(dims, Config(num_envs=4, num_minibatches=2, core="gru"))
    check_space(dims | {"num_minibatches": Choice((2,))}, Config(num_envs=4, num_minibatches=2))


def test_two_widths_are_no_eps():
    flexible = Config(objective="mars-flexible", eps_low=0.2, eps_high=0.5)
    with pytest.raises(UserError, match="mars-flexible takes eps_low and eps_high"):
        check_space({"eps": LogUniform(0.1, 1.0)}, flexible)
    check_space({"eps_high": LogUniform(0.1, 1.0)}, flexible)
    assert "eps" not in default_space({"mars-flexible": [flexible]}, ()).of("mars-flexible")


def test_everything_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Space({}).shared = {}  # pyright: ignore[reportAttributeAccessIssue]
