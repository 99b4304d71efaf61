"""A run that is killed before any system call that changes its folder goes on as if never stopped.

The states that a SIGKILL can leave are recorded from one run, a copy before each call; each is then
resumed to its end and compared with a run that nothing disturbed.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import marsrl
from faults.record import CONFIG, ENV
from faults.tiny import assert_same_run, copy, digest, rows
from marsrl.errors import UserError
from marsrl.runs.folder import RunFolder
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume, train

HERE = Path(__file__).parent
HANDFUL = 5


@pytest.fixture(scope="module")
def shim(tmp_path_factory, counted):
    """The library that sees every system call, orbax's too; None if there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    counted[f"recordings by {'system calls' if compiler else 'calls of Python alone'}"] += 1
    if compiler is None:
        return None
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    options = ["-shared", "-fPIC", "-o", str(library), str(HERE / "shim.c"), "-ldl", "-lpthread"]
    subprocess.run([compiler, *options], check=True, capture_output=True)
    return library


@pytest.fixture(scope="module")
def recorded(shim, tmp_path_factory):
    """Records a scenario, once: the distinct states of its folder, in order, the last included."""

    @functools.cache
    def record(scenario: str, before: Path | None = None) -> list[Path]:
        root = tmp_path_factory.mktemp(scenario)
        watch, copies = root / "watched", root / "copies"
        copies.mkdir()
        if before:
            copy(before, watch)
        else:
            watch.mkdir()
        paths = [str(Path(marsrl.__file__).parents[1]), str(HERE.parent)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        env |= {"FAULTS_WATCH": str(watch), "FAULTS_INTO": str(copies)}
        env |= {"LD_PRELOAD": str(shim)} if shim else {}
        command = [sys.executable, str(HERE / "record.py"), scenario, str(watch), str(copies)]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == (143 if scenario == "stop" else 0), ended.stderr
        states = {digest(path): path for path in reversed([*sorted(copies.iterdir()), watch])}
        return list(reversed(states.values()))

    return record


@pytest.fixture(scope="module")
def training(recorded):
    return recorded("train")


def go_on(state: Path, folder: Path) -> Path:
    """What a person does after a kill: resume, or train again if there is no run."""
    path = copy(state, folder) / "run"
    if path.exists():
        resume(path, env=ENV)
    else:
        train(CONFIG, path, env=ENV)
    assert [p.name for p in folder.iterdir()] == ["run"]
    return path


def try_all(states, whole, compiled, tmp_path):
    failed = {}
    for i, state in enumerate(states):
        try:
            path = go_on(state, tmp_path / str(i))
            assert_same_run(path, whole, compiled)
            assert load_policy(path, env=ENV).step == load_policy(whole, env=ENV).step
            shutil.rmtree(tmp_path / str(i))
        except Exception as error:
            failed[state.name] = repr(error)
    assert failed == {}


def test_killed_while_training(training, whole, compiled, some, counted, tmp_path):
    assert len(training) > 100  # each orbax checkpoint alone is more than thirty calls
    states = some(training, HANDFUL)
    try_all(states, whole, compiled, tmp_path)
    counted["kills while training"] += len(states)


def test_killed_while_stopping_on_a_signal(recorded, whole, compiled, some, counted, tmp_path):
    states = some(recorded("stop"), HANDFUL)
    try_all(states[-1:] + states[:-1], whole, compiled, tmp_path)  # the last one: not killed
    counted["kills of a run that a signal stops"] += len(states)


def test_killed_while_resuming(training, recorded, whole, compiled, some, counted, tmp_path):
    inside = [s for s in training if list(s.glob("run/checkpoints/*.tmp/*"))]
    states = some(recorded("resume", inside[len(inside) // 2]), HANDFUL)
    try_all(states, whole, compiled, tmp_path)
    counted["kills while resuming"] += len(states)


def test_a_row_that_is_written_in_part(training, whole, compiled, some, counted, tmp_path):
    logs = {(s / "run" / "metrics.jsonl"): s for s in training}
    sizes = {x.stat().st_size: s for x, s in reversed(logs.items()) if x.exists()}
    cases = [
        (after, cut)
        for before, after in zip(sorted(sizes), sorted(sizes)[1:], strict=False)
        for cut in (before + 1, (before + after) // 2, after - 1)
    ]
    chosen = some(cases, HANDFUL)
    for i, (after, cut) in enumerate(chosen):
        torn = copy(sizes[after], tmp_path / f"torn-{i}")
        os.truncate(torn / "run" / "metrics.jsonl", cut)
        assert_same_run(go_on(torn, tmp_path / str(i)), whole, compiled)
    counted["rows written in part"] += len(chosen)


def test_readers_read_every_state(training, whole, some, counted):
    states = some(training, HANDFUL)
    for state in states:
        before = digest(state)
        try:
            path = state / "run"
            assert all(row in rows(whole) for row in rows(path))
            policy = load_policy(path, env=ENV)
            assert policy.step % CONFIG.steps_per_update == 0
        except UserError as refusal:
            text = str(refusal)
            assert "no evaluated checkpoint yet" in text or "is not a run folder" in text
        assert digest(state) == before
    counted["states of a run that trains, read"] += len(states)


def test_a_stopped_run_says_so(recorded):
    state = recorded("stop")[-1]
    assert RunFolder(state / "run").status()["status"] == "stopped"
