"""Malformed input of every kind: refused in one line, at once, or taken."""

import itertools
import json
import math
import re
import string

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

import marsrl
from marsrl.bench.suite import Suite
from marsrl.cli import _commands
from marsrl.commandline import parse
from marsrl.config import _MOST, Config
from marsrl.envs.registry import make_unchecked
from marsrl.errors import UserError, near_misses, printable, shown
from marsrl.objectives import Objective, make_objective
from marsrl.reading import (
    MAX_DEPTH,
    MAX_TOML_BYTES,
    parse_json,
    parse_toml,
    read_json,
    read_toml,
    whole_number,
)

LONG = "x" * 100_000
HUGE = 10**5000
NAMES = list(Config.__dataclass_fields__)


def one_line(error):
    """The message of a refusal; a list of all that is known does not count towards its length."""
    message = str(error)
    assert message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message.partition("; known: ")[0].partition("; the nearest are: ")[0]) < 300
    return message


def refused(call, *args, **settings):
    with pytest.raises(UserError) as caught:
        call(*args, **settings)
    return one_line(caught.value)


# --- A configuration ------------------------------------------------------------------------------


VALUES = [
    ({"critic_lr": 10**400}, "critic_lr = a whole number of about 401 digits"),
    ({"critic_lr": 1e300}, "critic_lr = 1e+300 must be finite and at most 1e+09"),
    ({"critic_lr": math.inf}, "critic_lr = inf"),
    ({"rollout_length": 10**9, "chunk_length": 7}, "rollout_length = 1000000000 must be at most"),
    ({"num_envs": 10**9, "num_minibatches": 7}, "num_envs = 1000000000 must be at most"),
    ({"num_envs": 2**20, "rollout_length": 10**6}, "num_envs x rollout_length = 1048576000000"),
    ({"num_envs": 999_983, "num_minibatches": 7, "rollout_length": 1}, "is 1"),
    ({"total_steps": 2**63}, "total_steps = 9223372036854775808 must be at most"),
    ({"total_steps": 10**15}, "total_steps = 1000000000000000 must be at most"),
    ({"total_steps": 10**13}, "counts them to 2,147,483,647; nearest: "),
    ({"total_steps": HUGE}, "about 5,001 digits"),
    ({"update_epochs": 1e19}, "update_epochs = 10000000000000000000 must be at most"),
    ({"num_evaluations": 10**9}, "num_evaluations = 1000000000"),
    ({"eval_episodes": 10**9}, "eval_episodes = 1000000000"),
    ({"eval_seed": 10**20}, "eval_seed = 100000000000000000000 must be at most 4,294,967,295"),
    ({"log_interval": 2**31}, "log_interval = 2147483648 must be at most"),
    ({"seeds": range(10**9)}, "at most 10,000 seeds"),
    ({"seeds": (HUGE,)}, "about 5,001 digits"),
    ({"seeds": [[0]]}, "seeds = ([0],) has the wrong type"),
    ({"width": math.nan}, "width = nan"),
    ({"width": math.inf}, "width = inf"),
    ({"core": LONG}, "(100,000 characters) has the wrong type, expected one of gru, ff"),
    ({"core": "gruu"}, "did you mean gru"),
    ({"share_parameters": "group"}, "expected one of all, groups, none; did you mean groups"),
    ({"share_parameters": 1}, "share_parameters = 1 has the wrong type, expected one of all"),
    ({"task": LONG}, "(100,000 characters)"),
    ({"task": ""}, "task = ''"),
    ({"task": "\x1b[31m"}, r"task = '\x1b[31m'"),
    ({"objective": LONG}, "(100,000 characters)"),
    ({"objective": "[/x]"}, "unknown objective '[/x]'"),
    ({"objective": ":f"}, "expected module:factory"),
    ({"objective": "m:f", "eps": -1.0}, "eps = -1.0"),
    ({"objective": "m:f", "eps_low": 0.1}, "m:f takes eps alone"),
    ({"eps": 1e-300}, "eps of a geometric region must be from 1e-06 to 1e+06, got 1e-300"),
    ({"task_settings": {"a": math.nan}}, "task_settings: a = nan"),
    ({"task_settings": {"a": 2**63}}, "task_settings: a = 9223372036854775808"),
    ({"task_settings": {"a": LONG}}, "task_settings: a"),
    ({"task_settings": {"a": [1]}}, "task_settings = {'a': [1]} has the wrong type"),
    ({"task_settings": {1: 1}}, "task_settings = {1: 1} has the wrong type"),
]


@pytest.mark.parametrize(("changes", "message"), VALUES, ids=[m for _, m in VALUES])
def test_a_value_is_refused_by_name_in_one_line(changes, message):
    for make in (lambda: Config(**changes), lambda: Config.from_dict(changes)):
        assert message in refused(make)


@pytest.mark.parametrize("values", [None, 3, LONG, [1] * 10**6, {1: 2}, {LONG: 2}, {"sedes": 1}])
def test_what_is_no_table_of_settings(values):
    refused(Config.from_dict, values)


def test_the_largest_numbers_of_a_configuration_are_usable():
    for name, most in _MOST.items():
        fits = {"total_steps": 858_993_452_800, "chunk_length": 50}.get(name, most)
        lengths = {"num_envs": 1} if name == "rollout_length" else {}
        config = Config(**{"num_minibatches": 1} | lengths | {name: fits})
        assert config.hash
        assert config.num_updates * config.update_epochs * config.num_minibatches < 2**31


def test_numbers_of_numpy_and_lists_are_taken_as_python_s_own():
    config = Config(
        seeds=np.array([3, 1]), num_envs=np.int64(64), total_steps=1e6, gamma=np.float32(0.5),
        stagger=np.bool_(False), task_settings={"num_agents": np.int64(4)},
    )  # fmt: skip
    assert config == Config(
        seeds=(3, 1), num_envs=64, total_steps=1_000_000, gamma=0.5, stagger=False,
        task_settings={"num_agents": 4},
    )  # fmt: skip
    assert config == Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert Config(seeds=[0, 1]) == Config(seeds=range(2)) == Config()
    assert type(config.total_steps) is type(config.seeds[0]) is int


def test_a_preset_names_what_an_unknown_setting_is_near():
    assert "'total_step'; did you mean total_steps" in refused(marsrl.preset, "x", total_step=5)
    assert "wrong type" in refused(marsrl.preset, ["x"])


odd = [10**400, -(10**400), LONG, 2**31, 2**32, 2**63, 1e19, "\ud800", "\x1b[0m", "[/x]"]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(odd)
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), values, max_size=4))
def test_any_table_makes_a_configuration_or_one_line(table):
    try:
        config = Config.from_dict(table)
    except UserError as error:
        one_line(error)
    else:
        assert len(config.hash) == 12
        assert config.layout.shapes
        assert Config.from_dict(config.to_dict()) == config


# --- Names, settings, objectives ------------------------------------------------------------------


# no colon: random modules are not for importing
names = st.text(st.characters(exclude_characters=":"), max_size=30)


@given(names | st.sampled_from(["paxmen/4ag", "aerojax/track-3ag"]), st.text(max_size=8), values)
@example("paxmen/4ag", "num_agents", 10**400)
@example("paxmen/4ag", "task", 1)
@example("paxmen/4ag", "what", 1)
@example("aerojax/track-3ag", "call", 1)
@example("aerojax/track-3ag", "half_side", 10**400)
@example("aerojax/track-3ag", "scenario", [])
@settings(max_examples=50)
def test_any_name_and_setting_makes_an_environment_or_one_line(task, name, value):
    try:
        make_unchecked(task, **{name: value})
    except UserError as error:
        one_line(error)


@pytest.mark.parametrize("task", [None, 3, ["paxmen/4ag"], "", ":", "\ud800:x", "a/b/c", LONG])
def test_what_is_no_name_of_a_task(task):
    refused(marsrl.make, task)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("mpe/simple_spread_v3-3ag", {"num_agents": 10**9}, "num_agents is 1000000000"),
        ("mpe/simple_spread_v3-3ag", {"max_steps": 10**20}, "at most 1000000; nearest: 1000000"),
        ("rware/tiny-2ag", {"shelf_rows": 10**9}, "shelf_rows is 1000000000, expected at most 99"),
        ("rware/tiny-2ag", {"num_agents": LONG}, "(100,000 characters), expected a whole number"),
        ("connector/5x5x3a", {"grid_size": 10**30}, "expected at most 99; nearest: 99"),
        ("lbf/8x8-2p-2f-coop", {"grid_size": HUGE}, "about 5,001 digits, expected at most 99"),
        ("smax/2s3z", {"max_steps": 10**30}, "max_steps is 1"),
        ("mabrax/hopper_3x1", {"episode_length": 10**20}, "episode_length is 1"),
        ("paxmen/4ag", {"num_agents": 10**5000}, "expected 4 to 6; nearest: 6"),
    ],
    ids=itertools.count(),
)
def test_absurd_sizes_of_environments_are_refused_before_anything_is_made(task, settings, message):
    assert message in refused(marsrl.make, task, **settings)


@given(scalars, scalars, scalars, scalars)
@example("mappo", None, None, None)
@example("maspo", "0.2", None, None)
@example(1, 0.2, None, None)
@example(["mars"], 0.2, None, None)
@example("mappo", 1e-300, None, None)
@example("mars", math.nan, None, None)
@example("mars", True, None, None)
@example("mars", 10**400, None, None)
@example("mars-flexible", 0.2, 0.1, 10**400)
def test_any_arguments_make_an_objective_or_one_line(name, eps, low, high):
    if isinstance(name, str) and ":" in name:
        return
    try:
        made = make_objective(name, eps, low, high)
    except ValueError as error:
        one_line(error)
    else:
        assert isinstance(made, Objective)
        lower, upper = np.float32(made.region.lower), np.float32(made.region.upper)
        assert -np.inf < lower < 1 < upper < np.inf
        assert lower > 0 or made.region.kind != "geometric"


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "message"),
    [
        (0.1, 1.0, "log_ratio is 0.1, expected an array"),
        (np.zeros(2), [1.0, 2.0], "advantage is [1.0, 2.0], expected an array"),
        (np.zeros(2, np.float16), np.zeros(2), "log_ratio is float16"),
    ],
)
def test_an_objective_says_what_it_takes(log_ratio, advantage, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_objective("mars")(log_ratio, advantage)


@pytest.mark.parametrize("eps", ["0.2", 1e-300, 0, -1, 1e300])
def test_a_width_that_cannot_be_is_called_by_its_name(eps):
    with pytest.raises(ValueError, match=r"^eps "):
        make_objective("mars", eps)


# --- The command line -----------------------------------------------------------------------------


def parsed(*words):
    return parse(_commands(list(words)), list(words), "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --seeds a", "--seeds: 'a' is no seed, such as 3, and no range, such as 0-4"),
        ("train --total-steps 1e6x", "--total-steps: '1e6x' is no whole number"),
        ("train --total-steps 1e-3", "'1e-3' is no whole number"),
        ("train --total-steps 1.5", "'1.5' is no whole number"),
        ("train --devices x", "--devices: 'x' is no whole number"),
        ("train --total-steps 1e30", "total_steps = 1000000000000000000000000000000"),
        ("train --unknown 1", "'--unknown' is not understood"),
        ("train --num-env 8", "'--num-env' is not understood; did you mean --num-envs"),
        ("train --seed 1", "'--seed' is not understood; did you mean --seeds"),
        ("train --core lstm", "invalid choice 'lstm' for argument '--core'"),
        ("train --share-parameters grops", "'grops' is none of all, groups, none; did you mean gr"),
        ("train --no-share", "'--no-share' is not understood"),
        ("train --gamma x", "--gamma: 'x' is no number, such as 0.2 or 1e-3"),
        ("train --eps abc", "--eps: 'abc' is no number, such as 0.2 or 1e-3"),
        ("compare --bounds 1", "--bounds: cannot be ['1'], expected --bounds LOW HIGH"),
        ("train --task-settings size", "--task-settings: expected pairs of NAME VALUE"),
        ("train --confg x", "'--confg' is not understood; did you mean --config or"),
        ("doctor --path x", "'--path' is not understood; did you mean --repair or --accept?"),
        ("resume --run X", "'--run' is not understood"),
        ("resume", "Missing from marsrl resume: RUN"),
        ("bench report --stor x", "'--stor' is not understood"),
        ("train --total-steps", "Missing value for argument '--total-steps'"),
        ("train more", "'more' is not understood"),
        ("--unknown 1", "'--unknown' is no command"),
        ("trian", "'trian' is no command; did you mean train?"),
        ("nope", "'nope' is no command"),
        ("bench rnu", "'rnu' is no command; did you mean run?"),
        ("bench", "expected a command; known: plan, run"),
        ("bench run nano", "--store"),
        ("evaluate", "RUN"),
        (f"train --task {LONG}", "(100,000 characters) must be a name"),
        (f"train {LONG}", "(100,000 characters) is too long for a word"),
    ],
)
def test_a_command_line_is_refused_in_one_line(words, message):
    assert message in refused(parsed, *words.split())


def test_whole_numbers_of_the_command_line():
    words = "train --total-steps 1e6 --num-envs 6_4 --seeds 0 1-2 --devices None"
    config = parsed(*words.split()).config
    assert (config.total_steps, config.num_envs, config.seeds) == (1_000_000, 64, (0, 1, 2))
    assert config.devices is None
    assert [whole_number(word) for word in ("-3", "1.50e2", "+7", "2.0")] == [-3, 150, 7, 2]


def test_who_shares_parameters_is_a_value_or_a_flag_of_old():
    given = {"": True, " all": True, "=none": False, " groups": "groups", " --width 4": True}
    for words, expected in given.items():
        line = f"train --share-parameters{words}".split()
        assert parsed(*line).config.share_parameters == expected
    config = parsed("train", "--no-share-parameters", "--width", "4").config
    assert (config.share_parameters, config.width) == (False, 4)


OPTIONS = ["--seeds", "--total-steps", "--core", "--task", "--gamma", "--out", "--stagger"]
words = st.sampled_from([*OPTIONS, "train", "bench", "run", "0", "1e6", "a=b", "--", "-1", "\x1b"])


@given(st.lists(words | st.text(string.printable, max_size=8), max_size=6))
@settings(max_examples=40)
def test_any_words_are_a_command_or_one_line(line):
    if any(word.startswith(("-h", "-H", "--help", "--tyro")) for word in line):
        return
    try:
        parsed(*line)
    except UserError as error:
        one_line(error)


# --- Files ----------------------------------------------------------------------------------------


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_json, "[" * 10**6, "too deep"),
        (parse_json, nested(900), "too deep"),
        (parse_json, nested(MAX_DEPTH + 1), "too deep"),
        (parse_json, "9" * 5000, "(5,000 characters) has more than 20 digits"),
        (parse_json, "9" * 21, "has more than 20 digits"),
        (parse_json, "{", "not JSON"),
        (parse_json, "", "not JSON"),
        (parse_toml, "x = " + "[" * 100_000, "too deep"),
        (parse_toml, "x = " + nested(MAX_DEPTH + 1), "too deep"),
        (parse_toml, "a." * 100_000 + "a = 1", "line 1 has a key of more than 32 parts"),
        (parse_toml, "\n[" + "'' . " * 10_000 + "a]", "line 2 has a key"),
        (parse_toml, "x = {" + "a." * 100_000 + "a = 1}", "line 1 has a key"),
        (parse_toml, "x = " + "9" * 5000, "more than 20 digits"),
        (parse_toml, "x = " + "9" * 30, "more than 20 digits"),
        (parse_toml, "x=1979-13-01", "line 1"),
        (parse_toml, "a b", "line 1"),
    ],
    ids=itertools.count(),
)
def test_text_beyond_the_limits_is_refused(parse, text, message):
    assert message in refused(parse, text)


def test_text_within_the_limits_is_read(tmp_path):
    assert parse_json(nested(MAX_DEPTH - 1))
    assert parse_json("18446744073709551615") == 2**64 - 1
    assert parse_toml(" " * 200_000 + "\nx = '" + "a.b " * 10_000 + "'")["x"].startswith("a.b")
    path = tmp_path / "x.toml"
    path.write_text("a = 1")
    assert read_toml(path) == {"a": 1}
    path.write_text("#" * (MAX_TOML_BYTES + 1))
    assert "x.toml has more than" in refused(read_toml, path)
    path.write_bytes(b"\xff")
    assert "x.toml" in refused(read_toml, path)
    assert "cannot read" in refused(read_json, tmp_path)
    assert "cannot read" in refused(read_json, tmp_path / "none")


KEYS = ["name", "tasks", "objectives", "seeds", "settings"]


@given(st.dictionaries(st.sampled_from(KEYS), values))
def test_any_table_makes_a_suite_or_one_line(table):
    try:
        Suite.from_dict(table)
    except UserError as error:
        one_line(error)


# --- Messages -------------------------------------------------------------------------------------


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mars", "'mars'"),
        (0.25, "0.25"),
        (10**20, "1" + "0" * 20),
        (HUGE, "a whole number of about 5,001 digits"),
        (-HUGE, "a whole number of about 5,001 digits"),
        (LONG, f"'{'x' * 40}'... (100,000 characters)"),
        ([HUGE], "[a whole number of about 5,001 digits]"),
        ("\x1b[31m", r"'\x1b[31m'"),
        (np.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
    ],
    ids=itertools.count(),
)
def test_a_value_is_shown_on_one_short_line(value, text):
    assert shown(value) == text


def test_anything_is_shown():
    for value in ([[[[[[0]]]]]], list(range(10**6)), dict.fromkeys(range(9), LONG), Rude(), object):
        assert len(shown(value)) < 300


def test_names_out_of_files_are_plain_text():
    assert printable("a\x1b[31mb\x07\u202ec\nd\te") == "a?[31mb??c\nd\te"
    assert near_misses(HUGE, ["mars"]) == "; known: mars"


def test_an_endless_message_is_cut():
    message = str(UserError(f"{LONG} is odd"))
    assert len(message) < 5000
    assert message.endswith("is odd")
