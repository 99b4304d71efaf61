"""What runs there are: states told apart, scores, and their series in one figure."""

import json
import os
import socket

import pytest

from marsrl.cli import main
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.report.series import plot
from marsrl.runs.folder import RunFolder, seed_states
from marsrl.runs.listing import age, find_runs, overview
from marsrl.runs.lock import NAME

ORIGIN = {"versions": {}, "git": None, "machine": {}}
CONFIG = Config(seeds=(0, 1), total_steps=12_800, gamma=0.9)


def made(path, status="stopped", final=False):
    RunFolder.create(path, CONFIG, ORIGIN)
    folder = RunFolder(path)
    folder.write_status(status, 6400, {})
    for step in (0, 6400):
        folder.append(
            [{"kind": "eval", "seed": s, "step": step, "return": step / 100 + s} for s in (0, 1)]
        )
    folder.append([{"kind": "train", "seed": 0, "step": 6400, "entropy": 1.5}])
    if final:
        folder.append([{"kind": "final", "seed": 0, "step": 0, "return": 99.0}])
    return path


def test_a_diverged_run_stands_at_the_step_where_it_did(tmp_path, capsys):
    path = made(tmp_path / "run", "diverged")
    seeds = seed_states((0, 1), "diverged", 6400, {0: 400, 1: 800}, {0: "actor/loss"})
    RunFolder(path).write_status("diverged", 6400, seeds)
    assert overview(path).step == 800
    main(["show", str(path)])
    out = capsys.readouterr().out
    assert "seed 0: diverged at step 400; not finite: actor/loss\n" in out
    assert "seed 1: diverged at step 800; not finite: its loss or parameters\n" in out
    RunFolder(path).write_status("diverged", 6400, seeds | {"1": seeds["1"] | {"step": "x"}})
    main(["show", str(path)])
    assert "seed 1: diverged at an unknown step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("written", "shown"),
    [("running", "dead"), ("stopped", "stopped"), ("finished", "finished"), ("diverged",) * 2],
)
def test_what_has_become_of_a_run(tmp_path, written, shown):
    one = overview(made(tmp_path / "run", written))
    assert (one.status, one.step, one.final) == (shown, 6400, False)
    assert one.returns == {0: 64.0, 1: 65.0}
    assert one.mean_return == 64.5


def test_a_run_that_somebody_writes_is_running(tmp_path):
    path = made(tmp_path / "run", "stopped")
    (path / NAME).touch()
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": None}
    (path / NAME).write_text(json.dumps(holder | {"inode": (path / NAME).stat().st_ino}))
    assert overview(path).status == "running"


def test_what_is_damaged_is_listed_too(tmp_path):
    path = made(tmp_path / "run", final=True)
    assert overview(path).returns == {0: 99.0}
    (path / "status.json").write_text("{")
    assert overview(path).status == "damaged"
    (path / "config.json").write_text("{")
    assert overview(path).config is None


def test_a_log_that_is_not_whole_is_told(tmp_path, capsys):
    path = made(tmp_path / "run", final=True)
    folder, log = RunFolder(path), path / "metrics.jsonl"
    kinds = [(kind, seed) for kind in ("last", "final") for seed in (0, 1)]
    folder.append([{"kind": k, "seed": s, "step": 6400, "return": None} for k, s in kinds])
    folder.write_status("finished", 6400, seed_states((0, 1), "finished", 6400, {}, {}))
    whole = log.read_bytes()

    def told():
        main(["show", str(path)])
        return [x for x in capsys.readouterr().out.splitlines() if "marsrl doctor" in x]

    assert told() == []
    see = f"; see: marsrl doctor {path}"
    for content in (whole[: len(whole) // 2], b""):
        log.write_bytes(content)
        assert told() == [f"{log} lacks the final scores of seeds 0, 1{see}"]
    log.write_bytes(whole.replace(b'"step": 0', b'"step": 1', 1))
    assert told() == [f"{log}: 1 damaged row(s) left out, line(s) 1{see}"]
    log.unlink()
    log.mkdir()
    assert told() == [f"cannot read {log}: Is a directory{see}"]


def test_runs_are_found_in_folders_and_not_in_runs(tmp_path):
    paths = [made(tmp_path / "a"), made(tmp_path / "b" / "c"), tmp_path / "d"]
    made(paths[0] / "inside")
    (tmp_path / "d").mkdir()
    assert sorted(find_runs(tmp_path)) == paths[:2]
    assert list(find_runs(paths[0])) == [paths[0]]
    with pytest.raises(UserError, match="is no folder"):
        list(find_runs(tmp_path / "e"))


def test_a_link_to_runs_is_followed_once(tmp_path):
    path = made(tmp_path / "elsewhere" / "run")
    here = tmp_path / "runs"
    here.mkdir()
    (here / "a").symlink_to(path)
    (here / "b").symlink_to(path)
    (here / "back").symlink_to(here)
    assert list(find_runs(here)) == [here / "a"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (3 * 86_400, "3 d")],
)
def test_ages(seconds, text):
    assert age(seconds) == text


def test_the_commands(tmp_path, capsys):
    path = made(tmp_path / "run", "finished", final=True)
    (path / "episode.gif").touch()
    main(["runs", str(tmp_path)])
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "task", "objective", "status", "steps", "return", "age"]
    *known, number, unit = line.split()
    assert known == ["run", "paxmen/4ag", "mars", "finished", "6,400/12,800", "99.00"]
    assert number.isdigit()
    assert unit in ("s", "min")  # as old as the machine is slow
    main(["show", str(path)])
    out = capsys.readouterr().out
    assert "finished at 6,400/12,800 steps" in out
    assert "seed 0: return 99.00 (best checkpoint)" in out
    assert f"picture: {path / 'episode.gif'}" in out
    own, others = out.split("\nall others:\n")
    assert "  gamma = 0.9\n" in own
    assert "  gae_lambda = 0.95\n" in others


def test_series_are_drawn(tmp_path):
    runs = [made(tmp_path / "a"), made(tmp_path / "b$")]
    out = plot(runs, ["return", "entropy"], tmp_path / "plot.svg")
    text = out.read_text()
    assert "eval/return" in text
    assert "train/entropy" in text
    assert ">a<" in text  # what tells the runs apart, and no more of their paths
    for wrong, said in (("entropi", "did you mean train/entropy"), ("zzz", "known: eval/return")):
        with pytest.raises(UserError, match=said):
            plot(runs, [wrong], tmp_path / "plot.png")
    with pytest.raises(UserError, match=r"ending of out.*png"):
        plot(runs, ["return"], tmp_path / "plot.gif")


def test_a_plot_is_written_over_nothing(tmp_path, monkeypatch, capsys):
    run = made(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for name in ("plot.png", "plot-2.png"):
        main(["plot", str(run)])
        assert capsys.readouterr().out == f"wrote {name}\n"
    with pytest.raises(SystemExit):
        main(["plot", str(run), "--out", "plot-2.png"])
    assert "plot-2.png exists; choose another --out" in capsys.readouterr().err
