"""Configurations in files, and what they are over and under."""

import dataclasses

import pytest

from marsrl.cli import _config, main
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.presets import preset
from marsrl.runs.folder import RunFolder
from marsrl.settings import read_config, seeds, write_config
from marsrl.trust import KINDS

ORIGIN = {"versions": {}, "git": None, "machine": {}}
LBF = "lbf/8x8-2p-2f-coop"


def written(path, text):
    path.write_text(text)
    return path


def test_a_file_is_over_the_preset_of_its_task(tmp_path):
    text = f'task = "{LBF}"\ntotal_steps = 1e6\nseeds = "0-2 7"\n[task_settings]\nfov = 3\n'
    config = read_config(written(tmp_path / "my.toml", text))
    expected = preset(LBF, total_steps=1_000_000, seeds=(0, 1, 2, 7), task_settings={"fov": 3})
    assert config == expected
    assert config.core == preset(LBF).core != Config.core


def test_the_width_of_another_objective_is_not_taken_out_of_a_run(tmp_path):
    run = tmp_path / "run"
    RunFolder.create(run, Config(objective="mars").settled(), ORIGIN)
    config = _config(["train", "--config", str(run), "--objective", "mappo"])
    assert dataclasses.replace(config, objective="mappo").settled().eps == 0.2
    assert config.settled() == Config(objective="mars").settled()
    RunFolder.create(tmp_path / "wide", Config(objective="mars", eps=2.0), ORIGIN)
    assert read_config(tmp_path / "wide").eps == 2.0


@pytest.mark.parametrize("kind", ["task", "objective"])
def test_what_was_passed_is_no_name_for_another_run(tmp_path, kind):
    RunFolder.create(tmp_path / "run", Config(**{kind: "passed:mine"}), ORIGIN)
    for trust in (False, True):
        with pytest.raises(UserError, match=rf"passed as an object, mine; .* --{kind}"):
            read_config(tmp_path / "run", trust=trust)
    assert read_config(tmp_path / "run", given={kind})


def test_the_width_of_an_objective_that_was_passed_is_not_another_s(tmp_path):
    RunFolder.create(tmp_path / "run", Config(objective="passed:mine", eps=0.5), ORIGIN)
    assert read_config(tmp_path / "run", given={"objective"}).eps is None


def test_the_value_of_an_option_is_no_option(tmp_path):
    RunFolder.create(tmp_path / "run", Config(network="mine:boom"), ORIGIN)
    with pytest.raises(UserError, match=r"network 'mine:boom'.*--trust"):
        _config(["train", "--config", str(tmp_path / "run"), "--out", "network"])


def test_the_task_of_the_command_line_has_its_own_preset(tmp_path):
    path = written(tmp_path / "my.toml", "num_envs = 64\n")
    assert _config(["train", "--config", str(path), "--task", LBF]) == preset(LBF, num_envs=64)
    assert _config(["train", f"--config={path}"]) == preset(Config.task, num_envs=64)
    assert _config(["train", "--task", LBF]) == preset(LBF)


@pytest.mark.parametrize(
    "config",
    [Config(), preset(LBF), Config(task_settings={"a": 1, "b": "x"}, kl_stop=0.02, seeds=(3, 5))],
    ids=["default", "preset", "own"],
)
def test_what_is_printed_is_read_back(tmp_path, config):
    assert read_config(written(tmp_path / "c.toml", write_config(config))) == config


def test_none_can_be_written(tmp_path):
    path = written(tmp_path / "c.toml", 'kl_stop = "none"\nactor_norm = "none"\n')
    config = read_config(path)
    assert config.kl_stop is None
    assert config.actor_norm == "none"


def test_who_shares_parameters_is_a_name_or_a_bool(tmp_path):
    given = {"true": True, "false": False, '"all"': True, '"none"': False, '"groups"': "groups"}
    for text, expected in given.items():
        path = written(tmp_path / "c.toml", f"share_parameters = {text}\n")
        assert read_config(path).share_parameters == expected
        assert read_config(written(path, write_config(read_config(path)))) == read_config(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gamma = 0.9\n\ntotal_step = 5", "line 3: unknown setting 'total_step'.*total_steps"),
        ("# mine\ngamma = 2.0", "line 2: gamma = 2.0 must be from 0 to 1; nearest: 1"),
        ('seeds = "0-x"', "line 1: seeds: '0-x' is no seed"),
        ("gamma = ", "c.toml: "),
    ],
)
def test_a_wrong_file_is_told_by_line_and_key(tmp_path, text, said):
    path = written(tmp_path / "c.toml", text)
    with pytest.raises(UserError, match=said) as refused:
        read_config(path)
    assert str(refused.value).startswith(str(path))


def test_a_runs_config(tmp_path):
    config = preset(LBF, num_envs=64)
    RunFolder.create(tmp_path / "run", config, ORIGIN)
    assert read_config(tmp_path / "run") == config
    path = tmp_path / "run" / "config.json"
    assert read_config(path) == config
    path.write_text(path.read_text().replace('"num_envs": 64', '"num_envs": 32'))
    with pytest.raises(UserError, match="was edited or damaged"):
        read_config(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_runs_code_needs_trust_and_ones_own_does_not(tmp_path, kind):
    RunFolder.create(tmp_path / "run", Config(**{kind: "mine:boom"}), ORIGIN)
    with pytest.raises(UserError, match=rf"{kind} 'mine:boom'.*--trust"):
        read_config(tmp_path / "run")
    own = written(tmp_path / "c.toml", f'{kind} = "mine:boom"')
    for config in (
        read_config(tmp_path / "run", trust=True),
        read_config(tmp_path / "run", given={kind}),
        read_config(own),
    ):
        assert getattr(config, kind) == "mine:boom"


@pytest.mark.parametrize(
    ("words", "found"),
    [("3", (3,)), ("0 1 2", (0, 1, 2)), ("0-4", (0, 1, 2, 3, 4)), ("7 1-2", (7, 1, 2))],
)
def test_seeds(words, found):
    assert seeds(words.split()) == found


@pytest.mark.parametrize("words", ["--seeds 0-2 7", "--objective mappo --seeds 0 1-2 7"])
def test_seeds_of_the_command_line(words, capsys):
    main(["config", *words.split()])
    assert "\nseeds = [0, 1, 2, 7]\n" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["a", "1-", "-1", "3-1", "0-99999999999", "1.5", "0--2"])
def test_no_seeds(word):
    with pytest.raises(ValueError, match=r"no seed|no range"):
        seeds([word])
