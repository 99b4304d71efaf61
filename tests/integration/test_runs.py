"""Whole runs of a tiny task: resume, crashes, corruption, divergence, and what is written."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marsrl
from compiled import once, program
from environments import Furnished, Scripted
from faults import record
from marsrl.devices import startup
from marsrl.errors import UserError
from marsrl.learner import program as program_module
from marsrl.learner.program import FINAL_BATCHES, Program
from marsrl.objectives import Objective, TrustRegion, mars, symmetric
from marsrl.runs import runner
from marsrl.runs.checkpoint import CheckpointError, Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.runs.monitor import Silent
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume, train, train_together
from run_folders import Listener

CONFIG = dataclasses.replace(
    record.CONFIG, total_steps=6 * 32, num_evaluations=6, keep_checkpoints=2
)
ENV = record.ENV
LAST = CONFIG.num_updates


def saved_state(path: Path, update: int = LAST):
    return Checkpoints(path / "checkpoints").restore(update, program(CONFIG, ENV).template)


def rows(path: Path) -> list[dict]:
    """The log without what a clock measured."""
    timing = ("seconds", "steps_per_second")
    kept = RunFolder(path).rows()
    return [{k: v for k, v in row.items() if k not in timing} for row in kept]


def assert_same(a, b):
    def words(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    jax.tree.map(lambda x, y: np.testing.assert_array_equal(words(x), words(y)), a, b)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    with once():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return train(CONFIG, path, env=ENV)


CRASHING = """
import os, signal, sys, threading
import jax
from pathlib import Path
from test_runs import CONFIG, ENV
from marsrl.runs import checkpoint
from marsrl.runs.monitor import Silent
from marsrl.runs.runner import train

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Monitor(Silent):
    def progress(self, step, rows):
        if moment == "after an update" and step == 3 * 32:
            die()

moment, out = sys.argv[1], Path(sys.argv[2])
if moment == "before the checksums":
    real = checkpoint.CheckpointWriter._complete
    def dying(self, partial, update, *more):
        if update == 4:
            die()
        return real(self, partial, update, *more)
    checkpoint.CheckpointWriter._complete = dying
if moment == "inside orbax":
    def watch():
        while not list((out / "checkpoints").glob("3.*tmp*")):
            pass
        die()
    threading.Thread(target=watch, daemon=True).start()
train(CONFIG, out, Monitor(), ENV)
"""


@pytest.mark.parametrize("moment", ["after an update", "before the checksums", "inside orbax"])
def test_a_killed_run_resumes_bit_for_bit(whole, tmp_path, moment):
    path = tmp_path / "killed"
    tests = Path(__file__).parents[1]
    source = Path(marsrl.__file__).parents[1]
    paths = f"{source}:{tests}:{tests / 'integration'}"
    env = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", CRASHING, moment, str(path)]
    process = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert RunFolder(path).status()["status"] == "running"
    resume(path, env=ENV)
    assert_same(saved_state(path), saved_state(whole.path))
    assert rows(path) == rows(whole.path)


def test_evaluated_logged_and_saved_parameters_are_the_same(whole):
    actor = saved_state(whole.path).learner.weights.actor
    stats = program(CONFIG, ENV).evaluate(actor)
    logged = [row for row in rows(whole.path) if row["kind"] == "eval"]
    last = [row["returns"] for row in logged if row["step"] == LAST * CONFIG.steps_per_update]
    np.testing.assert_array_equal(np.asarray(stats.episode_return), np.float32(last))
    assert {row["step"] for row in logged} == set(CONFIG.evaluation_steps)


def test_the_last_parameters_are_scored_on_many_episodes(whole):
    actor = saved_state(whole.path).learner.weights.actor
    evaluate = program(CONFIG, ENV).evaluate
    played = [evaluate(actor, 1 + i).episode_return for i in range(FINAL_BATCHES)]
    last = [row for row in rows(whole.path) if row["kind"] == "last"]
    assert [row["seed"] for row in last] == list(CONFIG.seeds)
    assert {row["step"] for row in last} == {LAST * CONFIG.steps_per_update}
    expected = np.concatenate(played, axis=1)
    np.testing.assert_array_equal(np.float32([row["returns"] for row in last]), expected)


def test_every_episode_counts_once(whole):
    for row in rows(whole.path):
        if row["kind"] == "eval":
            assert len(row["returns"]) == CONFIG.eval_episodes
            assert 3 <= row["length"] <= 5  # each one ended: at 3 (terminated) or 5 (truncated)


def test_the_newest_and_the_best_checkpoints_are_kept(whole):
    kept = Checkpoints(whole.path / "checkpoints").steps()
    for seed in CONFIG.seeds:
        scores = {
            row["step"] // CONFIG.steps_per_update: row["return"]
            for row in rows(whole.path)
            if row["kind"] == "eval" and row["seed"] == seed
        }
        assert any(scores[update] == max(scores.values()) for update in kept)
    assert kept[-2:] == [LAST - 1, LAST]
    assert len(kept) <= 2 + len(CONFIG.seeds)


def test_a_corrupt_checkpoint_is_named_and_the_previous_one_used(whole, tmp_path):
    path = copy_run(whole.path, tmp_path / "corrupt")
    victim = max((path / "checkpoints" / str(LAST)).rglob("*"), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{victim.name}.* is corrupt"):
        saved_state(path)
    resume(path, env=ENV)
    assert_same(saved_state(path), saved_state(whole.path))


def test_a_foreign_checkpoint_is_refused_by_the_name_of_its_leaf(whole):
    other = dataclasses.replace(CONFIG, width=16)
    checkpoints = Checkpoints(whole.path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"leaf learner/.*float32.*expected float32"):
        checkpoints.restore(LAST, Program(other, ENV).template)


def copy_run(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def test_a_finished_run_stays_as_it_is(whole, tmp_path):
    path = copy_run(whole.path, tmp_path / "again")
    resume(path, env=ENV)
    assert rows(path) == rows(whole.path)


def test_a_finished_run_without_checkpoints_is_not_trained_again(whole, tmp_path):
    path = copy_run(whole.path, tmp_path / "bare")
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(UserError, match=r"has finished and has no checkpoints; .*restart=True"):
        resume(path, env=ENV)
    assert rows(path) == rows(whole.path)


def test_an_existing_folder_is_not_touched(whole):
    before = (whole.path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists"):
        train(CONFIG, whole.path, env=ENV)
    assert (whole.path / "metrics.jsonl").read_bytes() == before


@dataclasses.dataclass(frozen=True)
class Poisoned(Scripted):
    """Pays NaN in one episode of many, so that one seed meets it before the other."""

    rarely: float = 0.97

    def at(self, clock):
        time_step = super().at(clock)
        bad = (clock.start > self.rarely) & (clock.t > 1)
        return time_step._replace(reward=jnp.where(bad, jnp.nan, time_step.reward))


def test_a_diverged_seed_stops_and_keeps_its_last_good_state(tmp_path):
    config = dataclasses.replace(CONFIG, seeds=(0, 1, 2), total_steps=12 * 32)
    result = train(config, tmp_path / "run", env=Poisoned())
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert result.diverged
    for seed, step in result.diverged.items():
        why = result.not_finite[seed]
        assert status["seeds"][str(seed)] == {"status": "diverged", "step": step, "not_finite": why}
        assert why
        after = [r for r in rows(result.path) if r["seed"] == seed and r["step"] >= step]
        assert not [r for r in after if r["kind"] in ("train", "eval")]
    checkpoints = Checkpoints(result.path / "checkpoints")
    state = checkpoints.restore(checkpoints.steps()[-1], program(config, Poisoned()).template)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.weights))


def test_a_seed_is_not_touched_by_another_that_diverges(tmp_path):
    config = dataclasses.replace(CONFIG, seeds=(1, 2, 3), total_steps=12 * 32)
    beside = train(config, tmp_path / "beside", env=Poisoned(rarely=0.993))
    assert set(beside.diverged) == {1}
    among_healthy = train(config, tmp_path / "among", env=ENV)
    mine, theirs = (
        [row for row in rows(result.path) if row["seed"] in (2, 3)]
        for result in (beside, among_healthy)
    )
    assert_close(mine, theirs)


@dataclasses.dataclass(frozen=True)
class Worthless(Scripted):
    """Pays nothing that is a number, from the start."""

    def at(self, clock):
        return super().at(clock)._replace(reward=jnp.full(self.num_agents, jnp.nan))


def test_a_run_of_which_every_seed_diverges_ends_and_says_what_was_not_finite(tmp_path):
    env = Worthless()
    result = train(CONFIG, tmp_path / "run", env=env)
    assert result.all_diverged
    assert result.diverged == {3: 32, 5: 32}
    assert all("critic/loss" in text for text in result.not_finite.values())
    assert json.loads((result.path / "status.json").read_text())["status"] == "diverged"
    again = resume(result.path, env=env)
    assert (again.diverged, again.not_finite) == (result.diverged, result.not_finite)
    assert load_policy(result.path, env=env).step == 0


@dataclasses.dataclass(frozen=True)
class Blind(Scripted):
    """Shows NaN."""

    def at(self, clock):
        time_step = super().at(clock)
        return time_step._replace(obs=jnp.full_like(time_step.obs, jnp.nan))


def test_an_environment_that_begins_with_nan_is_refused(tmp_path):
    with pytest.raises(UserError, match="begins with obs that is not finite"):
        train(CONFIG, tmp_path / "run", env=Blind())


@pytest.mark.parametrize("path", [None, 3, b"x", []])
def test_what_is_no_path_is_refused_by_name(path):
    for call, name in (
        (lambda: train(CONFIG, path, env=ENV), "out"),
        (lambda: resume(path), "path"),
        (lambda: load_policy(path), "run"),
    ):
        with pytest.raises(UserError, match=f"{name} is .*, expected a path"):
            call()


def test_one_environment_and_one_agent(tmp_path):
    config = dataclasses.replace(CONFIG, num_envs=1, num_minibatches=1, total_steps=16, seeds=(0,))
    result = train(config, tmp_path / "run", env=Scripted(num_agents=1))
    assert set(result.final_return) == {0}


def test_a_run_that_does_not_fit_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(program_module, "free_memory", lambda mesh: 1000)
    monkeypatch.setattr(runner, "Program", Program)  # one that has yet to ask for memory
    monkeypatch.setattr(startup, "num_cores", lambda: 2)
    told = Listener()
    with (
        pytest.warns(UserWarning, match="one of 2 cores: call marsrl.configure_jax"),
        pytest.raises(UserError, match="lower num_envs"),
    ):
        train(CONFIG, tmp_path / "large", told, ENV)
    assert list(tmp_path.iterdir()) == []
    assert told.said == ["mars on passed:Scripted, seeds 3, 5"]  # before it was compiled


def test_every_number_of_a_log_is_in_the_docs(whole):
    docs = Path(__file__).parents[2] / "docs"
    words = "".join((docs / name).read_text() for name in ("runs.md", "objectives.md"))
    told = set(re.findall(r"`([\w/]+)`", words))
    for kind in ("train", "eval", "last", "final"):
        (row, *_) = (row for row in rows(whole.path) if row["kind"] == kind)
        of_the_task = {"won", "episode/won"}
        assert row.keys() - told - of_the_task <= {"kind", "seed", "greedy", "check"}, kind


def assert_close(mine: list[dict], theirs: list[dict]):
    """The same rows, of two programs, which round differently."""
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, str) or value is None:
                assert value == other[name]
            elif name != "ratio/teammates":  # which correlates rounding, while nothing has moved
                np.testing.assert_allclose(value, other[name], rtol=0.01, atol=0.02, err_msg=name)


def test_runs_that_train_together_are_as_if_each_were_alone(tmp_path, whole):
    wide = dataclasses.replace(CONFIG, eps=2.0, actor_lr=5e-3, gamma=0.9, ent_coef=0.1, seeds=(5,))
    paths = [tmp_path / "as-before", tmp_path / "wide"]
    results = train_together([CONFIG, wide], paths, env=ENV)
    assert [result.path for result in results] == paths
    assert [set(result.final_return) for result in results] == [{3, 5}, {5}]
    alone = train(wide, tmp_path / "alone", env=ENV)
    assert_close(rows(paths[0]), rows(whole.path))
    assert_close(rows(paths[1]), rows(alone.path))
    assert {row["eps"] for row in rows(paths[1]) if row["kind"] == "train"} == {2.0}
    # each folder is a run like any other: its own configuration, checkpoints and policy
    assert RunFolder(paths[1]).config() == wide
    state = Checkpoints(paths[1] / "checkpoints").restore(LAST, program(wide, ENV).template)
    (last,) = [r["returns"] for r in rows(paths[1])[-3:] if r["kind"] == "eval"] or [None]
    played = program(wide, ENV).evaluate(state.learner.weights.actor).episode_return[0]
    if last is not None:
        np.testing.assert_array_equal(played, np.float32(last))
    assert load_policy(paths[1], env=ENV).step > 0
    resume(paths[1], env=ENV)


def test_runs_that_train_together_have_a_folder_each(tmp_path):
    paths = [tmp_path / "one", tmp_path / "one"]
    other = dataclasses.replace(CONFIG, eps=2.0)
    for outs, message in (
        (paths[:1], "2 configurations and 1 outs"), (paths, "outs has .*one twice"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            train_together([CONFIG, other], outs, env=ENV)
    with pytest.raises(UserError, match=r"config is 'lbf', expected a Config, such as marsrl\."):
        train("lbf", tmp_path / "x")
    with pytest.raises(UserError, match=r"expected is \{\}, expected a Config, such as marsrl\."):
        resume(tmp_path, expected={})
    for call in (partial(train, CONFIG, tmp_path / "x"), partial(resume, tmp_path)):
        with pytest.raises(UserError, match="objective is 'mars', expected an Objective"):
            call(env=ENV, objective="mars")
        for monitor in ("x", 0, Silent, object()):
            with pytest.raises(UserError, match=r"^monitor is .*; expected None or a monitor, su"):
                call(monitor=monitor)
    with pytest.raises(UserError, match="0 configurations and 0 outs"):
        train_together([], [], env=ENV)
    with pytest.raises(UserError, match="a Silent follows one run, expected names where 2"):
        train_together([CONFIG, other], [tmp_path / "a", tmp_path / "b"], followers=[Silent()])
    assert list(tmp_path.iterdir()) == []


def test_runs_that_train_together_may_have_an_objective_that_is_passed(tmp_path, whole):
    others = dataclasses.replace(CONFIG, actor_lr=5e-3, seeds=(5,))
    own = dataclasses.replace(mars(CONFIG.eps), name="2-sided")
    paths = [tmp_path / "as-before", tmp_path / "fast"]
    train_together([CONFIG, others], paths, env=ENV, objective=own)
    assert_close(rows(paths[0]), rows(whole.path))
    assert RunFolder(paths[1]).config().objective == "passed:_2_sided"


def test_runs_that_cannot_train_together_are_refused_before_anything_is_written(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for changes, said in (
        ({"width": 16}, "width is .* and 16"),
        ({"objective": "mappo"}, "objective is 'mars' and 'mappo'"),
        ({"target_kl": 0.01}, "target_kl"),
    ):
        with pytest.raises(UserError, match=said):
            train_together([CONFIG, dataclasses.replace(CONFIG, **changes)], paths, env=ENV)
    assert not list(tmp_path.iterdir())


def test_a_steered_trust_region_pictures_and_groups_resume_bit_for_bit(tmp_path):
    config = dataclasses.replace(CONFIG, target_kl=0.02, share_parameters="groups")
    env = Furnished(num_agents=3, groups=("a", "b", "a"))  # a dictionary with a picture

    class Ending(Silent):
        def progress(self, step, rows):
            if step == 3 * 32:
                raise KeyboardInterrupt

    uninterrupted, interrupted = tmp_path / "uninterrupted", tmp_path / "interrupted"
    train(config, uninterrupted, env=env)
    with pytest.raises(KeyboardInterrupt):
        train(config, interrupted, Ending(), env=env)
    resume(interrupted, env=env)
    assert rows(interrupted) == rows(uninterrupted)
    sizes = [row["eps"] for row in rows(uninterrupted) if row["kind"] == "train"]
    assert len(set(sizes)) > 2


def test_an_objective_that_is_passed_trains_like_a_named_one(tmp_path, whole):
    result = train(CONFIG, str(tmp_path / "same"), env=ENV, objective=mars(CONFIG.eps))
    assert rows(result.path) == rows(whole.path)
    own = Objective("my own", symmetric, TrustRegion.geometric(1.5))
    path = tmp_path / "own"
    train(CONFIG, path, env=ENV, objective=own)
    recorded = RunFolder(path).config()
    assert (recorded.objective, recorded.eps) == ("passed:my_own", 1.5)
    with pytest.raises(UserError, match=r"pass it again: resume\(objective=...\)"):
        resume(path, env=ENV)
    resume(str(path), env=Falsy(**vars(ENV)), objective=own)


class Falsy(type(ENV)):
    """An environment that is passed, although it has a length, which is 0."""

    def __len__(self):
        return 0
