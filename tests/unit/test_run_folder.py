"""Run folders: made at once, refused in one line, and without a way out of them."""

import json
import os
from pathlib import Path

import pytest

from marsrl.bench.tables import record_fault
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.files import temporary
from marsrl.runs.checkpoint import clear
from marsrl.runs.folder import RunFolder, resume_command
from marsrl.runs.records import from_file
from marsrl.runs.runner import resume
from marsrl.runs.sources import own_sources, trained_with
from run_folders import Listener

CONFIG = Config(seeds=(0,))
ORIGIN = {"versions": {}, "git": None, "machine": {}}


@pytest.fixture
def run(tmp_path):
    RunFolder.create(tmp_path / "run", CONFIG, ORIGIN)
    return tmp_path / "run"


def test_it_comes_into_being_complete(run, tmp_path):
    assert RunFolder.open(run).config() == CONFIG
    assert RunFolder.open(run).status()["status"] == "running"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_it_notes_own_code_and_the_other_that_it_goes_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, path, config = tmp_path / "mine.py", tmp_path / "run", Config(task="mine:Env")
    code.write_text("raise RuntimeError('boom')  # a game\n")
    RunFolder.create(path, config)
    folder, listener = RunFolder.open(path), Listener()
    begun = folder.sources()
    assert begun == own_sources(config, tmp_path)
    code.write_text("raise RuntimeError('bang')\n")
    with pytest.raises(UserError, match="bang"):
        resume(path, listener, trust=True)
    told = "mine:Env has changed since the run was trained: it goes on with another task"
    assert listener.said == [told]
    folder.note_session(config, 500)
    assert folder.sources() == own_sources(config, tmp_path) != begun
    content = from_file(path / "config.json")
    assert record_fault("resumed", content["resumed"]) is None
    assert trained_with(content) == {"task": (begun["task"], folder.sources()["task"])}
    back = {"resumed": [{"sources": {"task": x}} for x in ("other", "other", "task")]}
    assert trained_with({"sources": {"task": "task"}} | back) == {"task": ("task", "other", "task")}
    with pytest.raises(UserError, match="bang"):
        resume(path, listener, trust=True)
    assert listener.said == [told]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "run").mkdir()
    RunFolder.create(tmp_path / "run", CONFIG, ORIGIN)
    assert RunFolder.open(tmp_path / "run").config() == CONFIG


def test_what_somebody_left_who_was_killed_while_making_it_goes(tmp_path):
    temporary(tmp_path / "run").mkdir()
    others = temporary(tmp_path / "run.5")  # who are making it just now
    others.mkdir()
    RunFolder.create(tmp_path / "run", CONFIG, ORIGIN)
    assert {path.name for path in tmp_path.iterdir()} == {"run", others.name}


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_a_place_without_a_name_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="has no name of its own; expected one, such as"):
        RunFolder.check_free(Path(path))


def test_a_link_to_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(UserError, match="link is a link; choose a folder in it"):
        RunFolder.check_free(tmp_path / "link")


def test_a_folder_with_something_in_it_or_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    for path, way in (
        (run, f", or continue it with: marsrl resume {run}"),
        (tmp_path / "file", ""),
        (tmp_path, ""),
    ):
        with pytest.raises(UserError, match=f"{path} exists; choose another --out{way}$"):
            RunFolder.create(path, CONFIG, ORIGIN)
    with pytest.raises(UserError, match="file is no folder"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG, ORIGIN)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot create the run folder .*: No space left"):
        RunFolder.create(tmp_path / "run", CONFIG, ORIGIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["checkpoints", "learning_curve.png", "metrics.jsonl"])
def test_a_link_out_of_it_is_refused_and_named(name, run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name} is a link out of the run folder"):
        RunFolder.open(run)


def test_a_link_inside_it_and_a_link_to_it_are_fine(run, tmp_path):
    (run / "inside").symlink_to("config.json")
    (tmp_path / "link").symlink_to(run)
    assert RunFolder.open(tmp_path / "link").config() == CONFIG


@pytest.mark.parametrize("text", ["[]", "null", "1", "{", "[" * 99_999, "9" * 9_999, "\x00", "{}"])
def test_a_config_of_another_shape_is_refused_in_one_line(text, run):
    (run / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"^[^\n]*config\.json[^\n]*$"):
        RunFolder.open(run).config()


@pytest.mark.parametrize("text", ["[]", "null", '{"seconds": 1, "step": "x"}', '{"seconds": [1]}'])
def test_a_status_of_another_shape_is_as_none(text, run):
    (run / "status.json").write_text(text)
    folder = RunFolder.open(run)
    folder.check_resumable()
    assert folder.times().own == {}
    assert folder.reached() == 0


def test_a_config_without_a_check_is_of_an_old_version(run):
    content = json.loads((run / "config.json").read_text())
    del content["check"]
    (run / "config.json").write_text(json.dumps(content))
    assert RunFolder.open(run).config() == CONFIG


@pytest.mark.parametrize("there", [True, False], ids=["beside the new one", "alone"])
def test_what_was_about_to_be_replaced_is_put_back(tmp_path, there):
    for name in ("2.replaced.tmp", "4.tmp", *(["2"] if there else [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    clear(tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.name == "2"
    assert (left / ("2" if there else "2.replaced.tmp")).exists()


def test_commands_in_messages_can_be_pasted(tmp_path):
    run = tmp_path / "my run"
    RunFolder.create(run, Config())
    with pytest.raises(UserError, match=f"continue it with: marsrl resume '{run}'$"):
        RunFolder.create(run, Config())
    for name, text in (("gone", "exists; choose another"), ("x" * 300, "File name too long")):
        path = tmp_path / name
        if name == "gone":
            path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(UserError, match=text):
            RunFolder.check_free(path)


def test_what_was_passed_is_passed_again_to_go_on():
    mine = "passed:mine"
    for config, again in (
        (Config(objective=mine), "objective=..."),
        (Config(task=mine), "env=..."),
        (Config(task=mine, objective=mine), "env=..., objective=..."),
    ):
        command = resume_command(Path("run"), config)
        assert command == f"marsrl.resume('run', {again}) in Python, with what was passed"
        command = resume_command(Path("run"), config, restart=True)
        assert command.startswith(f"marsrl.resume('run', {again}, restart=True) in")


def test_what_goes_on_with_a_run_trusts_the_code_that_it_names():
    run = Path("my run")
    assert resume_command(run, Config()) == "marsrl resume 'my run'"
    for config in (Config(task="pettingzoo:mine"), Config(network="mine:make", core="ff")):
        assert (
            resume_command(run, config, "--restart") == "marsrl resume 'my run' --restart --trust"
        )
