"""Going on beyond the end of a run, and starting from another run's parameters."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compiled import once
from environments import Scripted
from faults import record
from marsrl.errors import Interrupted, UserError
from marsrl.runs import runner
from marsrl.runs import sources as sources_module
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import EPISODE, RunFolder
from marsrl.runs.monitor import Silent
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume, train
from marsrl.runs.transfer import read_source
from run_folders import Listener

CONFIG = dataclasses.replace(record.CONFIG, anneal_lr=True, keep_checkpoints=9)
ENV = record.ENV
STEPS = CONFIG.num_updates * CONFIG.steps_per_update


@pytest.fixture(scope="module", autouse=True)
def compiled():
    with once():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("continue") / "source"
    train(CONFIG, path, env=ENV)
    return path


def first_weights(path):
    """Before training: name -> (S, ...)."""
    return Checkpoints(path / "checkpoints").part(0, ("learner", "weights"))


def test_a_finished_run_goes_on_to_a_later_end(source, tmp_path):
    path = shutil.copytree(source, tmp_path / "copy")
    before = list(RunFolder(path).rows())
    resume(path, env=ENV, total_steps=2 * STEPS)
    folder = RunFolder(path)
    config, rows = folder.config(), list(folder.rows())
    assert (config.total_steps, config.num_evaluations) == (2 * STEPS, 2 * CONFIG.num_evaluations)
    assert folder.status()["status"] == "finished"
    kept = [row for row in before if row["kind"] in ("train", "eval")]
    assert rows[: len(kept)] == kept
    assert max(row["step"] for row in rows if row["kind"] == "train") == 2 * STEPS
    assert {row["step"] for row in rows if row["kind"] == "last"} == {2 * STEPS}
    noted = json.loads((path / "config.json").read_text())["extended"]
    assert noted == [{"from": CONFIG.total_steps, "to": 2 * STEPS, "at": STEPS}]
    # whole checkpoints say the same, so that the folder is sound
    resume(path, env=ENV)
    with pytest.raises(UserError, match=f"total_steps = {STEPS}, expected {2 * STEPS} at least"):
        resume(path, env=ENV, total_steps=STEPS)


class Stopping(Silent):
    """A signal after so many steps."""

    def __init__(self, step):
        self.step = step

    def progress(self, step, rows):
        if step == self.step:
            signal.raise_signal(signal.SIGTERM)


def test_what_no_number_depends_on_need_not_be_as_expected(source, tmp_path):
    path = shutil.copytree(source, tmp_path / "copy")
    expected = dataclasses.replace(CONFIG, log_interval=7, keep_checkpoints=1)
    resume(path, env=ENV, expected=expected)
    assert RunFolder(path).config().log_interval == CONFIG.log_interval
    with pytest.raises(UserError, match="started with another configuration"):
        resume(path, env=ENV, expected=dataclasses.replace(CONFIG, gamma=0.5))


def test_a_run_tells_with_what_else_it_went_on(tmp_path, monkeypatch):
    path, reached = tmp_path / "run", CONFIG.steps_per_update
    with pytest.raises(Interrupted):
        train(CONFIG, path, Stopping(reached), ENV)
    begun = json.loads((path / "config.json").read_text())
    assert "resumed" not in begun
    here = sources_module.describe_machine()
    other = here | {"versions": here["versions"] | {"jax": "another"}}
    for machine in (other, other, here):
        monkeypatch.setattr(sources_module, "describe_machine", lambda machine=machine: machine)
        resume(path, env=ENV)
    noted = json.loads((path / "config.json").read_text())
    assert {name: noted[name] for name in here} == {name: begun[name] for name in here}
    assert [note["at"] for note in noted["resumed"]] == [reached, STEPS]
    assert [{x: note[x] for x in here} for note in noted["resumed"]] == [other, here]


def test_a_run_that_is_to_end_where_it_was_stopped_is_evaluated_there(tmp_path):
    path, reached = tmp_path / "run", CONFIG.steps_per_update
    with pytest.raises(Interrupted):
        train(CONFIG, path, Stopping(reached), ENV)
    assert [row["kind"] for row in RunFolder(path).rows()] == ["eval"] * 2  # none of the update
    result = resume(path, env=ENV, total_steps=reached)
    steps = {kind: set() for kind in ("eval", "train", "last", "final")}
    for row in RunFolder(path).rows():
        steps[row["kind"]].add(row["step"])
    assert steps["eval"] == {0, reached}
    assert steps["train"] == steps["last"] == {reached}
    assert set(Checkpoints(path / "checkpoints").scores()) == {0, 1}
    assert RunFolder(path).status()["status"] == "finished"
    assert set(result.final_return) == set(CONFIG.seeds)
    # and it goes on from there as if it had been meant to from the start
    resume(path, env=ENV, total_steps=STEPS)
    train(dataclasses.replace(CONFIG, num_evaluations=5), tmp_path / "whole", env=ENV)
    mine, whole = (Checkpoints(p / "checkpoints") for p in (path, tmp_path / "whole"))
    last = CONFIG.num_updates
    for name, leaf in whole.part(last, ("learner", "weights")).items():
        np.testing.assert_array_equal(mine.part(last, ("learner", "weights"))[name], leaf)
    assert mine.scores() == whole.scores()


class Odd(Scripted):
    """Its state holds an array of size 0, and a key of another kind than JAX's own."""

    def reset(self, key):
        clock, time_step = super().reset(key)
        odd = {"none": jnp.zeros((0, 2)), "key": jax.random.key(3, impl="rbg")}
        return (clock, odd), time_step

    def step(self, key, state, action):
        clock, time_step = super().step(key, state[0], action)
        return (clock, state[1]), time_step


def test_a_state_with_an_array_of_size_0_and_a_strange_key_is_trained_and_resumed(tmp_path):
    config, reached = dataclasses.replace(CONFIG, stagger=True), CONFIG.steps_per_update
    env = Odd()
    train(config, tmp_path / "whole", env=env)
    path = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        train(config, path, Stopping(reached), env)
    resume(path, env=env)
    mine, whole = (Checkpoints(p / "checkpoints") for p in (path, tmp_path / "whole"))
    assert mine.scores() == whole.scores()
    leaves = whole.part(CONFIG.num_updates, ())
    assert any("key" in name for name in leaves)
    assert not any("none" in name for name in leaves)
    for name, leaf in mine.part(CONFIG.num_updates, ()).items():
        np.testing.assert_array_equal(leaf, leaves[name], err_msg=name)


def test_a_run_that_cannot_go_on_stays_as_it_was(source, tmp_path):
    path = shutil.copytree(source, tmp_path / "copy")
    before = {name: (path / name).read_bytes() for name in ("config.json", "status.json")}
    with pytest.raises(UserError, match=r"num_agents|checkpoint"):
        resume(path, env=Scripted(num_agents=3), total_steps=2 * STEPS)
    for file in path.glob("checkpoints/*/checksums.json"):
        file.write_text("{}")
    with pytest.raises(UserError, match="checksums"):
        resume(path, env=ENV, total_steps=2 * STEPS)
    assert {name: (path / name).read_bytes() for name in before} == before


def test_a_checkpoint_is_named_by_a_number_or_its_digits(source):
    for name in (STEPS, str(STEPS), f"{STEPS:_}", f"{STEPS / 10}e1", float(STEPS)):
        assert load_policy(source, checkpoint=name, env=ENV).step == STEPS
    for name in ("²", 7):
        with pytest.raises(
            UserError, match=f"no checkpoint '{name}' of seed .; expected best, latest, "
        ):
            load_policy(source, checkpoint=name, env=ENV)


def test_a_source_names_its_checkpoint_as_numbers_are_written(source):
    for name in (STEPS, f"{STEPS:_}", f"{STEPS / 10}e1"):
        assert read_source(f"{source}@{name}").step == STEPS


def test_pictures_are_set_aside_with_what_they_show(source, tmp_path):
    path = shutil.copytree(source, tmp_path / "copy")
    (path / EPISODE).touch()
    aside = RunFolder(path).set_aside()
    assert not (path / EPISODE).exists()
    assert (aside / EPISODE).exists()


def test_a_run_starts_from_a_seed_of_another(source, tmp_path):
    listening = Listener()
    config = dataclasses.replace(CONFIG, seeds=(8, 9), init_from=f"{source}:5@latest")
    train(config, tmp_path / "run", listening, ENV)
    checkpoints = Checkpoints(source / "checkpoints")
    theirs = checkpoints.part(checkpoints.complete()[-1], ("learner", "weights"))
    index = CONFIG.seeds.index(5)
    for name, leaf in first_weights(tmp_path / "run").items():
        np.testing.assert_array_equal(leaf, np.stack([theirs[name][index]] * 2), err_msg=name)
    (said,) = [text for text in listening.said if "starts from" in text]
    assert f"starts from seed 5 of {source}, step {STEPS:,}: " in said
    assert "fresh" not in said
    assert RunFolder(tmp_path / "run").config().init_from == f"{source}:5@latest"


def test_another_task_takes_what_fits_and_says_what_does_not(source, tmp_path):
    listening, larger = Listener(), Scripted(num_agents=ENV.num_agents + 1)
    config = dataclasses.replace(CONFIG, seeds=(5,), init_from=str(source))
    train(config, tmp_path / "run", listening, larger)
    mine, theirs = first_weights(tmp_path / "run"), first_weights(source)
    (ids,) = [name for name in mine if name.endswith("agent_id")]
    assert mine[ids].shape[1] == theirs[ids].shape[1] + 1
    (said,) = [text for text in listening.said if "starts from" in text]
    assert f"{ids} (but for {ENV.num_agents} agents)" in said
    assert "head/kernel" not in said.partition("fresh")[2].partition("critic")[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}:4", "has no seed 4"),
        ("{}@7", "has no checkpoint '7' of seed .; expected best, latest, 0"),
        ("{}/nothing", "not a run folder"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(source, tmp_path, name, said):
    config = dataclasses.replace(CONFIG, init_from=name.format(source))
    with pytest.raises(UserError, match=said):
        train(config, tmp_path / "run", env=ENV)
    assert not (tmp_path / "run").exists()


def test_networks_of_which_nothing_fits_are_refused(source, tmp_path):
    config = dataclasses.replace(CONFIG, width=4, init_from=str(source), actor_norm="layer")
    with pytest.raises(UserError, match=r"nothing of .* fits here"):
        train(config, tmp_path / "run", env=Scripted(num_agents=1))
    assert not (tmp_path / "run").exists()


def test_another_environment_is_named_before_anything_is_compiled(source, tmp_path, monkeypatch):
    path = shutil.copytree(source, tmp_path / "copy")
    monkeypatch.setattr(runner, "Program", None)
    larger = Scripted(num_agents=ENV.num_agents + 1)
    expected = f"Scripted is not what this team was trained on: num_agents is {larger.num_agents}"
    for use in (
        lambda: resume(path, env=larger, total_steps=10**4),
        lambda: load_policy(path, env=larger),
    ):
        with pytest.raises(UserError, match=expected):
            use()
