"""Every file of a run, damaged in every way: what reads it is right, or refuses it in one line."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from faults.record import CONFIG, ENV
from faults.tiny import LAST, copy, rows
from marsrl.errors import UserError
from marsrl.report.runs import read_run
from marsrl.runs import doctor
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.runs.followers import MEMORY
from marsrl.runs.policy import load_policy
from marsrl.runs.runner import resume

HANDFUL = 24


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": cut,
    "flipped at its start": lambda path: flip(path, 0),
    "flipped within": lambda path: flip(path, 0.4),
    "flipped at its end": lambda path: flip(path, 1),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(200)),
    "deleted": lambda path: path.unlink(),
    "a folder": fold,
    "a list": lambda path: path.write_text("[]\n"),
    "null": lambda path: path.write_text("null\n"),
    "nested": lambda path: path.write_text("[" * 100_000),
    "of many digits": lambda path: path.write_text("9" * 10_000),
}


def every_file(path: Path) -> list[Path]:
    return sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())


def in_one_line(call):
    """The result, or None if it is refused in one line; any other exception is a fault."""
    try:
        return call()
    except UserError as refusal:
        if "\n" in str(refusal):
            raise AssertionError("a refusal of several lines") from refusal
        return None


def assert_right_or_refused(path: Path, whole: Path) -> list[str]:
    """What reads a finished run gives what it gave before the damage, or says what is not there."""
    folder = RunFolder(path)
    assert all(row in rows(whole) for row in in_one_line(lambda: rows(path)) or [])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        policy = in_one_line(lambda: load_policy(path, env=ENV))
    if policy and not said:
        assert policy.step == load_policy(whole, env=ENV).step
    report = in_one_line(lambda: read_run(path))
    if report:
        np.testing.assert_array_equal(report.eval_return, read_run(whole).eval_return)
    config = in_one_line(folder.config)
    assert config in (None, CONFIG)
    return [str(w.message) for w in said]


def test_a_damaged_file_is_read_rightly_or_refused(whole, some, counted, tmp_path):
    cases = [(name, damage) for name in every_file(whole) for damage in DAMAGES]
    chosen = some(cases, HANDFUL)
    for i, (name, damage) in enumerate(chosen):
        path = copy(whole, tmp_path / str(i))
        DAMAGES[damage](path / name)
        try:
            assert_right_or_refused(path, whole)
            in_one_line(lambda path=path: doctor.examine(path))
            resumed = in_one_line(lambda path=path: resume(path, env=ENV))
            if resumed:
                assert rows(path) == rows(whole)
                assert Checkpoints(path / "checkpoints").steps()[-1] == LAST
        except Exception as error:
            raise AssertionError(f"{name} {damage}: {error!r}") from error
        shutil.rmtree(path)
    counted["damaged files, read and resumed"] += len(chosen)


def test_repair_makes_a_damaged_file_right(whole, some, counted, tmp_path):
    names = [name for name in every_file(whole) if len(name.parts) == 1]
    chosen = some([(name, damage) for name in names for damage in DAMAGES], HANDFUL)
    for i, (name, damage) in enumerate(chosen):
        path = copy(whole, tmp_path / str(i))
        DAMAGES[damage](path / name)
        if (path / name).is_dir():  # somebody's folder is not deleted
            continue
        try:
            doctor.repair(path)
            assert all("lacks the final scores" in text for text in told(path))
            resume(path, env=ENV)
            assert told(path) == []
        except Exception as error:
            raise AssertionError(f"{name} {damage}: {error!r}") from error
        assert rows(path) == rows(whole)
        assert RunFolder(path).config() == CONFIG
        assert RunFolder(path).status()["status"] == "finished"
    counted["damaged files, repaired"] += len(chosen)


def test_every_bit_of_the_log_counts(whole, some, counted, tmp_path):
    """A flipped bit never becomes another number: the row is left out, and told by its line."""
    content = (whole / "metrics.jsonl").read_bytes()
    path = copy(whole, tmp_path / "run")
    chosen = some(range(0, 8 * len(content) - 8), 400)  # without the last line's end
    for bit in chosen:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / "metrics.jsonl").write_bytes(flipped)
        log = RunFolder(path).log
        assert list(log.rows()) == [r for r in RunFolder(whole).rows() if r in list(log.rows())]
        line = content[: bit // 8].count(b"\n") + 1
        assert line in log.damaged()
    counted["flipped bits of a log"] += len(chosen)


def test_every_bit_of_the_configuration_counts(whole, some, counted, tmp_path):
    content = (whole / "config.json").read_bytes()
    path = copy(whole, tmp_path / "run")
    chosen = some(range(8 * len(content)), 400)
    for bit in chosen:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (path / "config.json").write_bytes(flipped)
        assert in_one_line(RunFolder(path).config) in (None, CONFIG)
    counted["flipped bits of a configuration"] += len(chosen)


def edit(path: Path, **changes) -> None:
    content = json.loads((path / "config.json").read_text())
    content["config"] |= changes
    (path / "config.json").write_text(json.dumps(content))


def test_an_edited_configuration_is_refused_until_it_is_accepted(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    edit(path, gamma=0.5)
    for use in (lambda: resume(path, env=ENV), lambda: load_policy(path, env=ENV)):
        with pytest.raises(UserError, match=f"edited or damaged.*marsrl doctor {path}"):
            use()
    (finding,) = doctor.examine(path)
    assert "gamma is 0.5, was 0.99" in finding.text
    doctor.accept(path)
    assert RunFolder(path).config().gamma == 0.5
    assert doctor.examine(path) == []
    resume(path, env=ENV)


def test_repair_puts_an_edited_configuration_back(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    edit(path, gamma=0.5, width=16)
    doctor.repair(path)
    assert RunFolder(path).config() == CONFIG


def test_an_impossible_edit_is_not_accepted(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    edit(path, gamma=2)
    with pytest.raises(UserError, match="gamma"):
        doctor.accept(path)
    before = (path / "config.json").write_text(json.dumps({"hash": CONFIG.hash}))
    with pytest.raises(UserError, match="is not a run's config: it has no table 'config'"):
        doctor.accept(path)
    assert (path / "config.json").stat().st_size == before


def test_what_cannot_be_accepted_is_not_offered(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    config, sound = path / "config.json", (path / "config.json").read_text()

    def remedy():
        return next(f.remedy for f in doctor.examine(path) if f"{config}" in f.text)

    edit(path, gamma=0.5)
    assert f"marsrl doctor {path} --accept" in remedy()
    back = "puts the settings back from the newest checkpoint's copy"
    for text in (sound[: len(sound) // 2], "[]", json.dumps({"hash": CONFIG.hash})):
        config.write_text(text)
        assert remedy() == back
    config.write_text(sound)
    edit(path, gamma=2)
    assert remedy() == back
    for checkpoint in (path / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    assert remedy() == "no checkpoint has a copy of it"
    edit(path, gamma=0.5)
    assert remedy() == f"if you edited it: marsrl doctor {path} --accept"


def told(path):
    return [finding.text.replace(f"{path}", "RUN") for finding in doctor.examine(path)]


def test_what_an_ended_run_must_have_is_missed(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    assert told(path) == []
    reached = CONFIG.num_updates * CONFIG.steps_per_update
    sound = path / "metrics.jsonl"
    lines = sound.read_bytes().splitlines(keepends=True)
    sound.write_bytes(b"".join(lines[:-1]))
    last = json.loads(lines[-1])["seed"]
    assert told(path) == [f"RUN/metrics.jsonl lacks the final scores of seeds {last}"]
    sound.write_bytes(b"".join(lines))
    (path / "checkpoints" / str(LAST)).rename(path / "checkpoints" / "2")
    (text,) = told(path)
    assert text.startswith(
        f"it has ended at step {reached:,}, and its newest sound checkpoint is of"
    )
    shutil.rmtree(path / "checkpoints")
    assert told(path) == [f"it has reached step {reached:,}, and no sound checkpoint is there"]


def test_a_damaged_memory_of_followers_is_moved_aside(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    memory = path / MEMORY
    memory.parent.mkdir(exist_ok=True)
    memory.write_text('{"id": "x", "followers": [], "check": "0"}')
    assert len(told(path)) == 1
    mended, left = doctor.repair(path)
    assert (len(mended), left) == (1, [])
    assert not memory.exists()


def test_an_emptied_log_comes_back_from_the_newest_checkpoint(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    (path / "metrics.jsonl").write_bytes(b"")
    (finding,) = doctor.examine(path)
    assert "lacks" in finding.text
    resume(path, env=ENV)
    assert rows(path) == rows(whole)


def test_best_is_the_same_without_the_log_and_said_without_its_checkpoint(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    (path / "metrics.jsonl").unlink()
    assert load_policy(path, env=ENV).step == load_policy(whole, env=ENV).step


def test_a_better_evaluation_whose_checkpoint_is_gone_is_told(whole, tmp_path):
    path = copy(whole, tmp_path / "run")
    checkpoints = path / "checkpoints"
    seed, older, best = 5, 2, max(Checkpoints(checkpoints).scores())
    (checkpoints / str(best)).rename(checkpoints / str(older))
    better = {"kind": "eval", "seed": seed, "step": best * CONFIG.steps_per_update, "return": 99.0}
    RunFolder(path).append([better])
    with pytest.warns(UserWarning, match=f"best evaluation of seed {seed}, 99 at step"):
        policy = load_policy(path, seed, env=ENV)
    assert policy.step == older * CONFIG.steps_per_update
