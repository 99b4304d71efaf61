"""Signals, lost checkpoints, full disks and second writers: nothing is lost without a word."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import orbax.checkpoint as ocp
import pytest

import marsrl
from faults.record import CONFIG, ENV, STOPPED, Stopper
from faults.tiny import assert_same_run, copy, digest, rows
from marsrl.errors import Interrupted, UserError
from marsrl.runs import loop
from marsrl.runs.checkpoint import CheckpointError, Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.runs.lock import Lock
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume, train
from marsrl.runs.signals import Signals
from marsrl.system import signals_noted
from run_folders import Listener


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_update_at_hand_and_the_run_goes_on(number, whole, compiled, tmp_path):
    path, before = tmp_path / "run", signal.getsignal(number)
    with pytest.raises(
        Interrupted, match=re.escape(f"go on with: marsrl.resume('{path}', env=...) in")
    ) as stop:
        train(CONFIG, path, Stopper(number), ENV)
    assert stop.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert Checkpoints(path / "checkpoints").steps()[-1] == STOPPED
    assert RunFolder(path).status()["status"] == "stopped"
    assert load_policy(path, checkpoint="latest", env=ENV).step == STOPPED * CONFIG.steps_per_update
    assert load_policy(path, env=ENV).step != STOPPED * CONFIG.steps_per_update  # not evaluated
    resume(path, env=ENV)
    assert_same_run(path, whole, compiled)


def test_the_speed_after_a_stop_is_that_of_what_was_trained_since(compiled, tmp_path, monkeypatch):
    path, clock = tmp_path / "run", itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with pytest.raises(Interrupted):
        train(CONFIG, path, Stopper(signal.SIGTERM), ENV)
    resume(path, env=ENV)
    rows = [row for row in RunFolder(path).rows() if row["kind"] == "train"]
    (after, _) = [row for row in rows if row["step"] == (STOPPED + 1) * CONFIG.steps_per_update]
    # one update of both seeds in a second, beside the one from before the stop
    assert after["steps_per_second"] == 2 * CONFIG.steps_per_update


def test_a_second_signal_ends_the_process_at_once():
    before = signal.getsignal(signal.SIGTERM)
    signals = Signals()
    with signals_noted(signals.note):
        assert signals.received() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received() == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_in_a_thread_leaves_signals_alone(whole, compiled, tmp_path):
    thread = threading.Thread(target=lambda: train(CONFIG, tmp_path / "run", env=ENV))
    thread.start()
    thread.join()
    assert_same_run(tmp_path / "run", whole, compiled)


def test_the_command_line_exits_with_128_and_the_signal(tmp_path):
    code = """
import os, signal, sys
from marsrl.cli import main
from marsrl.runs.monitor import ConsoleMonitor
real = ConsoleMonitor.progress
def progress(self, step, rows):
    real(self, step, rows)
    os.kill(os.getpid(), signal.SIGTERM) if step == 32 else None
ConsoleMonitor.progress = progress
main(sys.argv[1:])
"""
    options = (
        "--seeds 0 --num-envs 4 --rollout-length 8 --width 8 --num-minibatches 1 --update-epochs 1 "
        "--total-steps 256 --num-evaluations 2 --eval-episodes 2 --no-stagger --core ff"
    )
    env = os.environ | {"PYTHONPATH": str(Path(marsrl.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", code, "train", *options.split(), "--out", "run"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 143, ended.stderr
    text = "marsrl: stopped after step 32, which is saved; go on with: marsrl resume run\n"
    assert ended.stderr == text


def test_lost_checkpoints_are_not_a_reason_to_begin_anew(whole, compiled, tmp_path):
    path = copy(whole, tmp_path / "run")
    RunFolder(path).write_status("running", 160, {})
    shutil.rmtree(path / "checkpoints")
    logged = rows(path)
    with pytest.raises(CheckpointError, match=r"step 160, .*: marsrl\.resume\(.*, restart=True\)"):
        resume(path, env=ENV)
    assert rows(path) == logged
    resume(path, env=ENV, restart=True)
    aside = path / "before-restart-1"
    assert sorted(p.name for p in aside.iterdir()) == ["metrics.jsonl", "status.json"]
    shutil.rmtree(aside)
    assert_same_run(path, whole, compiled)


def test_a_restart_that_is_refused_takes_nothing_apart(whole, compiled, tmp_path):
    path = copy(whole, tmp_path / "run")
    before = digest(path)
    with pytest.raises(UserError, match="total_steps"):
        resume(path, env=ENV, restart=True, total_steps=-5)
    assert digest(path) == before
    (path / "config.json").write_text("{")
    before = digest(path)
    with pytest.raises(UserError, match=r"config\.json"):
        resume(path, env=ENV, restart=True)
    assert digest(path) == before


def test_checkpoints_that_are_all_damaged_are_named(whole, compiled, tmp_path):
    path = copy(whole, tmp_path / "run")
    for update in Checkpoints(path / "checkpoints").steps():
        (path / "checkpoints" / str(update) / "checksums.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"does not list.*restart=True"):
        resume(path, env=ENV)
    for update in Checkpoints(path / "checkpoints").steps():
        (path / "checkpoints" / str(update) / "checksums.json").unlink()
    with pytest.raises(CheckpointError, match=r"those of updates \[.*\] are not"):
        resume(path, env=ENV)


def test_what_orbax_cannot_restore_is_passed_over_in_one_line(
    whole, compiled, tmp_path, monkeypatch
):
    path, monitor, real = copy(whole, tmp_path / "run"), Listener(), ocp.Checkpointer.restore
    newest = Checkpoints(path / "checkpoints").steps()[-1]

    def restore(self, folder, *args, **more):
        if Path(folder).parent.name == str(newest) and not refused(monitor):
            raise ValueError("no luck\nat all")
        return real(self, folder, *args, **more)

    monkeypatch.setattr(ocp.Checkpointer, "restore", restore)
    if len(Checkpoints(path / "checkpoints").steps()) == 1:
        copy(path / "checkpoints" / str(newest), path / "checkpoints" / "2")
    assert_going_back_is_said(path, monitor)


def refused(monitor):
    return [text for text in monitor.said if "refused: " in text]


def assert_going_back_is_said(path, monitor):
    resume(path, monitor, ENV)
    assert [text for text in refused(monitor) if "no luck" in text]
    assert all("\n" not in text for text in monitor.said)


def test_a_full_disk_is_one_line_and_loses_nothing(whole, compiled, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "run", ocp.Checkpointer.save, []

    def save(self, *args, **more):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device\nmore")
        return real(self, *args, **more)

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    with pytest.raises(UserError, match=r"^cannot write the checkpoint .*No space left on device$"):
        train(CONFIG, path, env=ENV)
    assert Checkpoints(path / "checkpoints").steps() == [0]
    resume(path, env=ENV)
    assert_same_run(path, whole, compiled)


def test_a_second_writer_is_refused_and_touches_nothing(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    lock = Lock(path)
    lock.take()
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=f"being written by process {os.getpid()}"):
        resume(path, env=ENV)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
    lock.release()


@pytest.mark.parametrize("name", ["exp[1]", "back\\slash", "a*b?", "{x} y#%41"])
def test_a_path_of_any_characters_holds_checkpoints(name, whole, compiled, tmp_path):
    path = tmp_path / name / "run"
    train(CONFIG, path, env=ENV)
    assert_same_run(path, whole, compiled)
    assert load_policy(path, env=ENV).step == load_policy(whole, env=ENV).step
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_other_versions_are_told(whole, tmp_path):
    path, monitor = copy(whole, tmp_path / "run"), Listener()
    content = json.loads((path / "config.json").read_text())
    del content["check"]
    content["versions"]["jax"] = "0.1.2"
    (path / "config.json").write_text(json.dumps(content))
    resume(path, monitor, ENV)
    assert [text for text in monitor.said if "begun with jax 0.1.2, now" in text]


def test_an_evaluation_that_is_not_finite_counts_as_the_worst(
    whole, compiled, tmp_path, monkeypatch
):
    real, calls = compiled.evaluate, []

    def evaluate(actor, batch=0):
        stats = real(actor, batch)
        calls.append(batch)
        bad = batch == 0 and calls.count(0) == 3  # the last evaluation
        return stats._replace(episode_return=stats.episode_return * float("nan")) if bad else stats

    monkeypatch.setattr(compiled, "evaluate", evaluate)
    path, monitor = tmp_path / "run", Listener()
    result = train(CONFIG, path, monitor, ENV)
    assert [text for text in monitor.said if "no finite return; it counts as the worst" in text]
    assert RunFolder(path).status()["status"] == "finished"
    assert set(result.final_return) == set(CONFIG.seeds)
    assert load_policy(path, env=ENV).step == 2 * CONFIG.steps_per_update  # of equals the newest
    resume(path, env=ENV)
