"""Followers of a log: each is read back with the tool's own reader, also after a resume."""

import csv
import json
import shutil
import time
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest

from environments import Scripted, small_config
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.runs.folder import RunFolder
from marsrl.runs.followers import MEMORY, NAMES, choose, following, scalars
from marsrl.runs.records import to_line
from marsrl.runs.runner import resume, train
from run_folders import Listener

CONFIG = Config(seeds=(0, 3), total_steps=100_000)
NOW = [(kind, 10 * i) for i in range(7) for kind in ("train", "eval")]
"""The rows of a run that went on: a row of each kind every ten steps."""


def row(kind, step, seed, **values):
    name = "episode/return" if kind == "train" else "return"
    row = {"kind": kind, "seed": seed, "step": step, name: step + seed / 10, "greedy": False}
    return row | {"returns": [1.0], "entropy": float("nan")} | values


def rows(first, last):
    """Of all seeds, from one step to another."""
    return [row(kind, step, seed) for kind, step in NOW for seed in (0, 3) if first <= step < last]


def follow(run, names, pause=0.0):
    """Two sessions: the second goes on from step 30, to which the first had come and beyond."""
    run.mkdir(exist_ok=True)
    messages = []
    with following(choose(names), run, CONFIG, messages.append) as told:
        told.start([])
        told.append(rows(0, 30))
        told.append(rows(30, 50))
    time.sleep(pause)
    with following(None, run, CONFIG, messages.append) as told:
        told.start(rows(0, 30))
        told.append(rows(30, 50))
        told.append(rows(50, 70))
        told.append([row("final", 20, seed) for seed in (0, 3)])
    return messages


STEPS = list(range(0, 70, 10))


def values(seed, steps=STEPS):
    return [pytest.approx(step + seed / 10) for step in steps]


def test_csv(tmp_path):
    follow(tmp_path / "run", ["csv"])
    for kind, name in (("train", "episode/return"), ("eval", "return")):
        with (tmp_path / f"run/logs/csv/{kind}.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert list(lines[0]) == ["seed", "step", name]
        for seed in (0, 3):
            own = [line for line in lines if line["seed"] == str(seed)]
            assert [int(line["step"]) for line in own] == STEPS
            assert [float(line[name]) for line in own] == values(seed)
    assert (tmp_path / "run/logs/csv/final.csv").read_text().count("\n") == 3


def test_csv_takes_what_is_measured_later(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with following(choose(["csv"]), run, CONFIG, print) as told:
        told.start([])
        told.append([row("eval", 0, 0)])
        told.append([row("eval", 10, 0, won=0.5)])
        told.append([row("eval", 20, 0)])
    lines = (run / "logs/csv/eval.csv").read_text().splitlines()
    assert lines == ["seed,step,return,won", "0,0,0.0,", "0,10,10.0,0.5", "0,20,20.0,"]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    said = follow(tmp_path / "run", ["tensorboard"])
    assert said == [f"tensorboard: tensorboard --logdir {tmp_path / 'run/logs/tensorboard'}"] * 2
    for seed in (0, 3):
        events = reader.EventAccumulator(str(tmp_path / f"run/logs/tensorboard/seed-{seed}"))
        events.Reload()
        assert set(events.Tags()["scalars"]) == {
            "train/episode/return", "eval/return", "final/return",
        }  # fmt: skip
        for name in ("train/episode/return", "eval/return"):
            assert [event.step for event in events.Scalars(name)] == STEPS
            assert [event.value for event in events.Scalars(name)] == values(seed)
        (final,) = events.Scalars("final/return")
        assert (final.step, final.value) == (20, pytest.approx(20 + seed / 10))


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    follow(tmp_path / "run", ["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("marsrl").experiment_id
    found = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(found) == {"run", "run seed 0", "run seed 3"}
    for seed in (0, 3):
        run = found[f"run seed {seed}"]
        assert run.info.status == "FINISHED"
        assert run.data.params["task"] == CONFIG.task
        assert run.data.params["seed"] == str(seed)
        assert run.data.tags["mlflow.parentRunId"] == found["run"].info.run_id
        for name in ("train/episode/return", "eval/return"):
            history = client.get_metric_history(run.info.run_id, name)
            assert sorted(metric.step for metric in history) == STEPS
            assert sorted(metric.value for metric in history) == values(seed)


def test_mlflow_tells_a_setting_that_has_changed(tmp_path, monkeypatch):
    """Its parameters cannot be changed, so that a run that goes on beyond its end has a tag."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run, messages = tmp_path / "run", []
    run.mkdir()

    def told(config):
        with following(choose(["mlflow"]), run, config, messages.append) as followers:
            followers.start([])
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("marsrl").experiment_id
        return client.search_runs([experiment], "tags.`mlflow.runName` = 'run seed 3'")[0].data

    now = told(CONFIG)
    assert "marsrl.total_steps" not in now.tags
    for steps in (200_000, 300_000, 100_000):
        now = told(replace(CONFIG, total_steps=steps))
        assert now.params["total_steps"] == str(CONFIG.total_steps)
        assert now.tags["marsrl.total_steps"] == str(steps)
    assert set(now.tags) & {f"marsrl.{name}" for name in now.params} == {"marsrl.total_steps"}
    assert all(message.startswith("mlflow: experiment marsrl") for message in messages)


class Busy:
    """A client of MLflow whose calls fail before they work."""

    def __init__(self, *failures):
        self.failures, self.calls = list(failures), 0

    def log_batch(self, run, metrics=()):
        self.calls += 1
        if self.failures:
            raise RuntimeError(self.failures.pop(0))
        return run, metrics


LOCKED = "(sqlite3.OperationalError) database is locked"


def test_mlflow_waits_while_another_run_writes(monkeypatch):
    module = import_module("marsrl.runs.followers.mlflow")
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    client = Busy(LOCKED, LOCKED)
    assert module.Patient(client).log_batch("run", metrics=[1]) == ("run", [1])
    assert client.calls == 3
    assert pauses == sorted(pauses)
    assert 0 < sum(pauses) < 60


@pytest.mark.parametrize(("failures", "calls"), [((LOCKED,) * 99, 5), (("no such run",), 1)])
def test_mlflow_does_not_wait_for_ever(monkeypatch, failures, calls):
    module = import_module("marsrl.runs.followers.mlflow")
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    client = Busy(*failures)
    with pytest.raises(RuntimeError, match=failures[0].split()[-1]):
        module.Patient(client).log_batch("run")
    assert client.calls == calls


@pytest.mark.parametrize(
    ("place", "failures", "tries"),
    [("sqlite:///new.db", 2, 3), ("sqlite:///old.db", 99, 4), ("http://nowhere", 99, 1)],
)
def test_mlflow_waits_while_another_run_makes_the_tables(monkeypatch, place, failures, tries):
    module = import_module("marsrl.runs.followers.mlflow")
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    made = []

    def client():
        made.append(place)
        if len(made) <= failures:
            raise RuntimeError("duplicate column name: step")
        return "client"

    library = SimpleNamespace(get_tracking_uri=lambda: place, MlflowClient=client)
    if failures < tries:
        assert module.connect(library) == "client"
    else:
        with pytest.raises(RuntimeError, match="duplicate column"):
            module.connect(library)
    assert len(made) == tries


def test_an_experiment_that_another_run_makes_at_the_same_time_is_taken(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    create = mlflow.MlflowClient.create_experiment

    def slower(self, name):
        create(self, name)  # by the other run
        return create(self, name)

    monkeypatch.setattr(mlflow.MlflowClient, "create_experiment", slower)
    messages = follow(tmp_path / "run", ["mlflow"])
    assert [message.startswith("mlflow: experiment marsrl") for message in messages] == [True] * 2


def wandb_records(content):
    """The records of a .wandb file: LevelDB's log, in blocks of 32 KiB, after a head of 7 bytes."""
    at, record = 7, b""
    while at + 7 <= len(content):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        size = int.from_bytes(content[at + 4 : at + 6], "little")
        kind = content[at + 6]  # 1 whole, 2 first, 3 middle, 4 last
        record = (b"" if kind in (1, 2) else record) + content[at + 7 : at + 7 + size]
        if kind in (1, 4):
            yield record
        at += 7 + size


def ended(path, kind):
    """The records of a .wandb file once it has its last one: its process writes behind ours."""
    for _ in range(300):
        records = [kind.FromString(data) for data in wandb_records(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    # its folders of sessions are named by the second
    said = follow(tmp_path / "run", ["wandb"], pause=1.1)
    assert [line.partition("sync")[0] for line in said] == ["wandb: offline; later: wandb "] * 2
    history, names = {}, {}
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in ended(path, proto.Record):
            if record.WhichOneof("record_type") == "run":
                names[record.run.display_name] = (record.run.run_id, record.run.run_group)
                seed = record.run.display_name.rpartition(" ")[2]
            elif record.WhichOneof("record_type") == "history":
                items = record.history.item
                one = {".".join(x.nested_key) or x.key: json.loads(x.value_json) for x in items}
                history.setdefault(seed, []).append(one)
    assert set(names) == {"run seed 0", "run seed 3"}  # the same ids in both sessions
    assert len({group for _, group in names.values()}) == 1
    for seed in (0, 3):
        for name in ("train/episode/return", "eval/return"):
            told = [one for one in history[str(seed)] if name in one]
            assert [one["step"] for one in told] == STEPS
            assert [one[name] for one in told] == values(seed)
        assert sum("final/return" in one for one in history[str(seed)]) == 1


def test_what_a_row_measures():
    assert scalars(row("eval", 5, 0, won=1)) == {"eval/return": 5.0, "eval/won": 1.0}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tensorbord"], "log: 'tensorbord' is no follower; did you mean tensorboard"),
        ("csv", r"expected a list, such as \['csv'\]"),
    ],
)
def test_unknown_followers(names, said):
    with pytest.raises(UserError, match=said):
        choose(names)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "csv"])
def test_what_is_not_installed(monkeypatch, name):
    library = {"tensorboard": "tensorboardX"}.get(name, name)
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UserError, match=rf"{library} is not installed.*marsrl\[{name}\]"):
        choose([name])


class Mine:
    """A follower of somebody's, which fails where it is told to."""

    def __init__(self, fails=()):
        self.fails = fails
        self.told = []

    def start(self, run, rows):
        self._may_fail("start")
        self.told.append((run.name, [row["step"] for row in rows]))

    def append(self, rows):
        self._may_fail("append")
        self.told += [(row["kind"], row["seed"], row["step"]) for row in rows]

    def close(self):
        self._may_fail("close")
        self.told.append("closed")

    def _may_fail(self, name):
        if name in self.fails:
            raise SystemExit(f"no {name}\nat all")


@pytest.mark.parametrize("fails", [("start",), ("append",), ("close",), ("append", "close")])
def test_a_follower_that_fails_is_a_line(tmp_path, fails):
    said, other = [], Mine()
    both = {"mine": Mine(fails), "other": other}
    with following(both, tmp_path, CONFIG, said.append) as told:
        told.start([])
        told.append(rows(0, 10))
        told.append(rows(10, 20))
    name = fails[0]
    assert said == [f"mine does not follow any more (SystemExit: no {name}); the run goes on"]
    assert len(other.told) == 10
    assert other.told[-1] == "closed"


def test_a_damaged_memory_does_no_harm(tmp_path):
    follow(tmp_path / "run", ["csv"])
    path = tmp_path / "run/logs/followers.json"
    path.write_text(path.read_text().replace("csv", "mlflow"))
    said = []
    with following(None, tmp_path / "run", CONFIG, said.append) as told:
        told.append(rows(0, 10))
    assert len(said) == 1
    assert "nobody follows the run" in said[0]


def test_a_copy_of_a_run_is_another_run_to_its_followers(tmp_path):
    def id_of(folder):
        with following(None, folder, CONFIG, print):
            return json.loads((folder / MEMORY).read_bytes())["id"]

    run, copy, moved, link = (tmp_path / name for name in ("run", "copy", "moved", "link"))
    follow(run, ["csv"])
    first = id_of(run)
    shutil.copytree(run, copy)
    link.symlink_to(run)
    assert id_of(link) == id_of(run) == first
    mine = id_of(copy)
    assert mine == id_of(copy) != first
    run.rename(moved)
    assert (id_of(moved), id_of(copy)) == (first, mine)


def test_no_followers_leave_no_trace(tmp_path):
    with following({}, tmp_path, CONFIG, print) as told:
        told.append(rows(0, 10))
    with following(None, tmp_path, CONFIG, print) as told:
        told.append(rows(0, 10))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that a follower of its own ended after its second evaluation, and went on."""
    run = tmp_path_factory.mktemp("followed") / "run"
    config = small_config(
        core="ff", total_steps=3 * 48, num_evaluations=3, eval_episodes=4, seeds=(0, 1)
    )
    mine, seen = Mine(), []

    def interrupt(rows):
        seen.extend(rows)
        if sum(row["kind"] == "eval" for row in seen) > 4:
            raise KeyboardInterrupt

    mine.append = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(config, run, env=Scripted(), followers=["csv", mine])
    RunFolder(run).append([row("train", 10**6, 0)])  # what a resume takes back
    console = Listener()
    resume(run, console, env=Scripted())
    return run, console.said


def test_a_run_that_goes_on_goes_on_in_its_followers(interrupted):
    run, said = interrupted
    assert f"csv: {run / 'logs/csv'}" in said
    logged = list(RunFolder(run).rows())
    for kind in ("train", "eval", "final"):
        with (run / f"logs/csv/{kind}.csv").open() as file:
            told = [(int(x["seed"]), int(x["step"])) for x in csv.DictReader(file)]
        assert told == [(x["seed"], x["step"]) for x in logged if x["kind"] == kind]
        assert told


def test_a_run_that_begins_anew_is_another_run_to_its_followers(interrupted, tmp_path):
    run, _ = interrupted
    before = (run / "logs/followers.json").read_bytes()
    aside = RunFolder.open(run).set_aside()
    assert (aside / "logs/followers.json").read_bytes() == before
    after = json.loads((run / "logs/followers.json").read_bytes())
    assert after["followers"] == ["csv"]
    assert after["id"] != json.loads(before)["id"]
    assert not (run / "logs/csv").exists()


def test_the_log_of_a_folder_is_what_followers_start_from(tmp_path):
    folder, mine = RunFolder(tmp_path), Mine()
    with following({"mine": mine}, tmp_path, CONFIG, print) as folder.followers:
        folder.replace_log(b"".join(map(to_line, rows(0, 20))))
        folder.append(rows(20, 30))
    name, steps = mine.told[0]
    assert (name, steps) == (tmp_path.name, [0, 0, 0, 0, 10, 10, 10, 10])
    assert mine.told[1:3] == [("train", 0, 20), ("train", 3, 20)]
