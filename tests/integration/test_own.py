"""Environments that people write without a thought of hashing, and pictures that fail."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from environments import Scripted, small_config
from marsrl.errors import UserError
from marsrl.runs import commands
from marsrl.runs.folder import RunFolder
from marsrl.runs.policy import load_policy, record_episode
from marsrl.runs.runner import Result, resume, train

SCRIPTED = Scripted()


class Delegating:
    """All of `Scripted` but its hash; it cannot draw, although it says so."""

    @property
    def spec(self):
        return SCRIPTED.spec

    def reset(self, key):
        return SCRIPTED.reset(key)

    def step(self, key, state, action):
        state, time_step = SCRIPTED.step(key, state, action)
        return state, time_step._replace(reward=time_step.reward * self.scale[0])

    def draw(self, state, caption=""):
        raise ValueError(f"no ink [/red]\n{caption}")


@dataclasses.dataclass
class Plain(Delegating):
    scale: tuple = (1.0,)


@dataclasses.dataclass(frozen=True)
class WithArray(Delegating):
    scale: jax.Array = dataclasses.field(default_factory=lambda: jnp.ones(2))


@pytest.fixture(scope="module", params=[Plain, WithArray])
def trained(request, tmp_path_factory):
    """An environment that has no hash, and a run on it."""
    env, run = request.param(), tmp_path_factory.mktemp("own") / "run"
    with pytest.raises(TypeError, match="unhashable"):
        hash(env)
    config = small_config(total_steps=48, core="ff", num_evaluations=1, eval_episodes=4, seeds=(0,))
    train(config, run, env=env)
    return env, run


def test_a_team_is_evaluated(trained, monkeypatch, capsys):
    env, run = trained
    policy = load_policy(run, env=env)
    monkeypatch.setattr("marsrl.runs.policy.load_policy", lambda *_, **__: policy)
    commands.Evaluate(run, episodes=4, json=True)()
    printed = json.loads(capsys.readouterr().out)
    assert printed["step"] == policy.step
    assert len(set(printed["returns"])) == 4
    assert np.isfinite(record_episode(policy, jax.random.key(0))[1])


def test_no_other_environment_is_taken_for_the_one_that_was_passed(trained):
    env, run = trained
    assert RunFolder(run).config().task == f"passed:{type(env).__name__}"
    with pytest.raises(UserError, match=rf"{type(env).__name__}; .* load_policy\(run, env=...\)"):
        _ = load_policy(run).env
    with pytest.raises(UserError, match=r"pass it again: resume\(env=...\)"):
        resume(run)
    with pytest.raises(UserError, match=r"load_policy\(run, env=...\)"):
        commands.Evaluate(run)()


def test_a_picture_that_fails_is_a_line_and_the_training_is_finished(trained, capsys):
    env, run = trained
    commands._draw(Result(run, {}, {}, {}, False), load_policy(run, env=env))
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "trained team" in line)
    expected = "trained team: not drawn: draw raised ValueError: no ink [/red] (test_own.py, line "
    assert line.startswith(expected)
    assert {path.suffix for path in run.iterdir()} >= {".png"}
    assert not list(run.glob("*episode*"))
