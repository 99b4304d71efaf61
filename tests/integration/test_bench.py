"""The benchmark's launcher: with pretended workers, and with real trainings that are killed."""

import dataclasses
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from marsrl.bench import cluster, launch, measure, process, show, worker
from marsrl.bench.locks import FileLock
from marsrl.bench.plan import adopt, plan, store_suite
from marsrl.bench.progress import has_ended, seed_states
from marsrl.bench.results import collect, part, read, write
from marsrl.bench.suite import Suite, read_suite
from marsrl.cli import main
from marsrl.config import Config
from marsrl.digest import library_digest
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError
from marsrl.runs import runner
from marsrl.runs.folder import RunFolder
from marsrl.runs.monitor import Silent

SETTINGS = {
    "total_steps": 32 * 60, "num_envs": 4, "rollout_length": 8, "width": 8, "core": "ff",
    "num_minibatches": 1, "update_epochs": 1, "num_evaluations": 12, "eval_episodes": 2,
    "stagger": False, "log_interval": 1, "eps": 0.2,
}  # fmt: skip
SUITE = Suite("tiny", ("paxmen/4ag",), ("mars",), (0, 1), SETTINGS)
WAIT = 400.0  # seconds, for what takes a few where nothing else runs


def batched(words):
    """The words of a worker's command line, a configuration and a folder at a time."""
    return zip(words[::2], words[1::2], strict=True)


def label_of(folder):
    return Path(folder).parent.name.rpartition("-")[0]


def wait_for(condition):
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


# --- with pretended workers -----------------------------------------------------------------------

# Writes what the real worker leaves, and notes that it ran; `what` may make it crash or hang first.
PRETEND = """
import json, pathlib, sys, time
for folder, what, seeds in json.loads(sys.argv[1]):
    folder = pathlib.Path(folder)
    notes = folder.with_suffix(".notes")
    before = len(notes.read_text().splitlines()) if notes.exists() else 0
    with notes.open("a") as file: file.write("started\\n")
    if what == "hang": time.sleep(600)
    if what == "crash" or what == "crash once" and before == 0:
        sys.exit("some words\\n\\nno luck\\n")
    time.sleep(0.3)
    folder.mkdir(exist_ok=True)
    seeds = {str(seed): {"status": "finished", "step": 9} for seed in seeds}
    status = {"status": "finished", "step": 9, "seeds": seeds}
    (folder / "status.json").write_text(json.dumps(status))
"""


@pytest.fixture
def pretend(monkeypatch):
    """Replaces workers by ones of which `pretend[label]` says what they do."""
    what = {}

    def start(words, path, environment, output, held):
        runs = [(json.loads(config), folder) for config, folder in batched(words)]
        plain = [(f, what.get(label_of(f), "finish"), config["seeds"]) for config, f in runs]
        command = [sys.executable, "-c", PRETEND, json.dumps(plain)]
        return subprocess.Popen(command, stdout=output, stderr=output, pass_fds=held, text=True)

    monkeypatch.setattr(launch, "start_worker", start)
    return what


@pytest.fixture
def jobs(tmp_path):
    suite = Suite("small", ("paxmen/4ag",), ("mars", "maspo", "mappo"), (0, 1), SETTINGS)
    return plan(adopt(suite, tmp_path), tmp_path)


def starts(job):
    return job.folder.with_suffix(".notes").read_text().splitlines().count("started")


def free(job):
    with job.lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_code_that_changes_meanwhile_ends_it(pretend, jobs, monkeypatch):
    digests = iter(["one", "one", "one", "other"])  # of the launcher, and before each job
    monkeypatch.setattr(launch, "read_digest", lambda: next(digests))
    told = []
    outcomes = launch.run_local(jobs, 1, told.append)
    assert told == outcomes
    ended = {outcome.job: outcome for outcome in outcomes}  # two may have ended at once
    assert [ended[job].status for job in jobs] == ["done", "done", "failed"]
    reason = ended[jobs[2]].reason
    assert "marsrl's code was changed while its benchmark ran (one, now other)" in reason
    assert not jobs[2].folder.exists()


def test_a_crash_is_tried_once_more_and_the_others_go_on(jobs, pretend):
    pretend |= {"mars": "crash", "maspo": "crash once"}
    told = []
    outcomes = {o.job.config.objective: o for o in launch.run_local(jobs, 2, told.append)}
    assert {name: o.status for name, o in outcomes.items()} == {
        "mars": "failed", "maspo": "done", "mappo": "done",
    }  # fmt: skip
    assert len(told) == 3
    mars = jobs[0]
    assert [starts(job) for job in jobs] == [2, 2, 1]
    assert outcomes["mars"].reason == f"no luck ({mars.log})"
    assert mars.failure.read_text().startswith("no luck")
    assert [seed_states(job)[1].status for job in jobs] == ["failed", "done", "done"]
    pretend.clear()
    (again,) = launch.run_local([mars], 1, told.append)
    assert again.status == "done"
    assert not mars.failure.exists()


def test_what_fails_takes_no_other_with_it(tmp_path, pretend):
    """Of jobs that share a process, each that it leaves is tried by itself."""
    labels = ("mars", "mars@gamma=0.9", "mars@gamma=0.8", "mappo")
    suite = Suite("small", ("paxmen/4ag",), labels, (0,), SETTINGS)
    pretend |= {"mars": "crash once"}
    jobs = plan(adopt(suite, tmp_path), tmp_path)
    told = []
    outcomes = launch.run_local(jobs, 1, told.append, 3)
    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    assert [starts(job) for job in jobs] == [2, 1, 1, 1]
    assert told == outcomes
    assert f"trains beside {jobs[0].name}: see {jobs[0].log}" in jobs[1].log.read_text()
    assert all(map(free, jobs))


def test_a_job_that_somebody_has_is_left_out_of_its_batch(tmp_path, pretend):
    suite = Suite("small", ("paxmen/4ag",), ("mars", "mars@gamma=0.9"), (0,), SETTINGS)
    jobs = plan(adopt(suite, tmp_path), tmp_path)
    jobs[0].folder.parent.mkdir(parents=True)
    with jobs[0].lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcomes = launch.run_local(jobs, 1, print, 2)
    assert [(o.job, o.status) for o in outcomes] == [(jobs[0], "locked"), (jobs[1], "done")]


def test_new_runs_train_together_and_others_go_on(tmp_path, monkeypatch):
    calls = []
    for name in ("train_together", "resume"):
        monkeypatch.setattr(
            runner, name, lambda *args, name=name, **_: calls.append((name, *args[:-1]))
        )
    a, b, c = folders = [tmp_path / name for name in "abc"]
    (b / "checkpoints" / "1").mkdir(parents=True)
    first, second, third = configs = [Config(seeds=(0,), gamma=gamma) for gamma in (0.9, 0.8, 0.7)]
    worker.train_runs(configs, folders, Silent())
    assert calls == [("resume", b), ("train_together", [first, third], [a, c])]
    calls.clear()
    worker.train_runs([second], [b], Silent())
    assert calls == [("resume", b)]


def test_a_failure_says_the_reason_and_not_advice(tmp_path, monkeypatch, capsys):
    def fail(configs, folders, monitor):
        error = ValueError("loss is a string\nof two lines")
        error.add_note("--------------------\nFor simplicity, JAX has removed its internal frames")
        raise error

    monkeypatch.setattr(worker, "train_runs", fail)
    monkeypatch.setattr("marsrl.devices.startup.configure_jax", lambda cores: None)
    monkeypatch.setattr(sys, "argv", ["worker", "{}", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as end:
        worker.main()
    assert end.value.code == "ValueError: loss is a string"
    assert "For simplicity" in capsys.readouterr().err  # what the log has above it


def test_two_launchers_train_each_job_once(tmp_path, pretend):
    suite = Suite("small", ("paxmen/*",), ("mars", "maspo", "mappo"), (0, 1), SETTINGS, {}, {}, 1)
    suite = Suite.from_dict(suite.to_dict())
    jobs = plan(adopt(suite, tmp_path), tmp_path)
    outcomes = []
    launchers = [
        threading.Thread(target=launch.run_local, args=(jobs, 2, outcomes.append)) for _ in range(2)
    ]
    for launcher in launchers:
        launcher.start()
    for launcher in launchers:
        launcher.join()
    assert [starts(job) for job in jobs] == [1] * 18
    assert all(map(has_ended, jobs))
    assert Counter(outcome.job for outcome in outcomes) == dict.fromkeys(jobs, 2)
    assert {outcome.status for outcome in outcomes} <= {"done", "locked"}


def test_a_job_that_another_launcher_leaves_is_gone_on_with(tmp_path, pretend, monkeypatch, capsys):
    """It is tried again when the others are done; with --wait until it is free."""
    suite = Suite("small", ("paxmen/4ag",), ("mars", "mappo"), (0,), SETTINGS)
    mars, _ = plan(adopt(suite, tmp_path / "store"), tmp_path / "store")
    mars.folder.parent.mkdir(parents=True)
    lock = FileLock(mars.lock)
    lock.take()
    tries = []
    monkeypatch.setattr("marsrl.bench.commands._PAUSE", 0.0)
    (tmp_path / "small.toml").write_text(suite.to_toml())

    def tell(outcome):
        tries.append((outcome.job.config.objective, outcome.status))
        if len(tries) == 4:  # the first round, and two more of the one that is left
            lock.release()

    monkeypatch.setattr("marsrl.bench.commands._tell", tell)
    words = ["bench", "run", f"{tmp_path}/small.toml", "--store", f"{tmp_path}/store"]
    main([*words, "--wait"])
    assert Counter(tries) == {("mars", "locked"): 3, ("mappo", "done"): 1, ("mars", "done"): 1}
    assert "2 done" in capsys.readouterr().out


def test_the_lock_of_a_launcher_that_is_gone_is_taken_over(jobs, pretend, monkeypatch):
    """Where the file system's own locks do nothing, too."""
    monkeypatch.setattr("marsrl.runs.lock.flock", lambda descriptor: True)
    mars, *_ = jobs
    mars.folder.parent.mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from marsrl.bench.locks import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); lock.take(); print('taken', flush=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(mars.lock)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "taken\n"
    (outcome,) = launch.run_local([mars], 1, print)
    assert outcome.status == "locked"
    assert f"process {holder.pid} on " in show.outcome_line(outcome)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert mars.lock.exists()
    (outcome,) = launch.run_local([mars], 1, print)
    assert outcome.status == "done"
    assert not mars.lock.exists()


def test_seeds_that_another_job_trains_are_left_alone(tmp_path, pretend):
    suite = Suite("small", ("paxmen/4ag",), ("mars",), (0, 1), SETTINGS)
    (old,) = plan(adopt(suite, tmp_path), tmp_path)
    (new,) = plan(adopt(dataclasses.replace(suite, seeds=(0, 1, 2)), tmp_path), tmp_path)
    assert new.folder != old.folder
    old.folder.parent.mkdir(parents=True)
    with old.lock.open("a") as file:  # a launcher that started with the smaller suite
        fcntl.flock(file, fcntl.LOCK_EX)
        (outcome,) = launch.run_local([new], 1, print)
    assert outcome.status == "locked"
    assert not new.folder.exists()
    (outcome,) = launch.run_local([old], 1, print)
    assert outcome.status == "done"
    (outcome,) = launch.run_local([new], 1, print)  # planned before the other began
    assert outcome.status == "locked"
    _, rest = plan(store_suite(tmp_path), tmp_path)
    (outcome,) = launch.run_local([rest], 1, print)
    assert (outcome.status, rest.config.seeds) == ("done", (2,))


def test_an_interruption_ends_the_processes(jobs, pretend):
    pretend |= {"maspo": "hang"}

    def interrupt(outcome):
        wait_for(lambda: jobs[1].log.exists() and not free(jobs[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.run_local(jobs, 2, interrupt)
    assert all(map(free, jobs))
    assert not has_ended(jobs[1])
    assert not jobs[1].failure.exists()


def test_a_killed_worker_names_the_signal(jobs, pretend, monkeypatch):
    killed = "import os; os.kill(os.getpid(), 9)"

    def start(words, path, environment, output, held):
        return subprocess.Popen([sys.executable, "-c", killed], pass_fds=held, text=True)

    monkeypatch.setattr(launch, "start_worker", start)
    (outcome,) = launch.run_local(jobs[:1], 1, print)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("killed by SIGKILL; last line: ---")


# --- GPUs that are pretended ----------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "gpus", lambda: ["0", "1"])
    monkeypatch.setattr(process, "_uuids", lambda: {"0": "GPU-a", "1": "GPU-b"})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_launchers_of_a_machine_take_different_gpus(two_gpus):
    with process.claim_gpus(1) as first:
        with process.claim_gpus(None) as second:
            assert (first, second) == (["0"], ["1"])
            with (
                pytest.raises(UserError, match="other launchers on this machine have its 2 GPUs"),
                process.claim_gpus(1),
            ):
                pass
        with process.claim_gpus(None) as second:
            assert second == ["1"]
    with process.claim_gpus(None) as every:
        assert every == ["0", "1"]


@pytest.mark.parametrize(
    ("workers", "places"),
    [(None, [("0", "0.90"), ("1", "0.90")]), (3, [("0", "0.45"), ("0", "0.45"), ("1", "0.45")])],
)
def test_workers_share_the_gpus_and_their_memory(workers, places, jobs, two_gpus, monkeypatch):
    found = []
    together = threading.Barrier(len(places))

    def start(batch, path, environment, stop):
        if len(found) < len(places):  # all places are in use once
            found.append((environment["CUDA_VISIBLE_DEVICES"], *list(environment.values())[1:]))
            together.wait(WAIT)
        return [launch.Outcome(job, "done") for job in batch]

    monkeypatch.setattr(launch, "train_batch", start)
    launch.run_local(jobs, workers, lambda outcome: None)
    assert sorted(found) == places


def test_a_trial_sees_one_gpu_as_a_job_does(two_gpus, jobs, monkeypatch):
    seen = []

    def start(words, path, environment, output):
        seen.append(environment)
        told = 'print(\'{"seconds": 1.0, "peak_memory_mb": 2.0}\')'
        return subprocess.Popen([sys.executable, "-c", told], stdout=output, text=True)

    monkeypatch.setattr(measure, "start_worker", start)
    with process.claim_gpus(1):
        known = measure.costs(jobs, Path(tempfile.gettempdir()), True, print)
    assert set(known.values()) == {measure.Cost(1.0, 2.0)}
    assert seen == [{"CUDA_VISIBLE_DEVICES": "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.90"}]


# --- locks of a machine ---------------------------------------------------------------------------


def test_locks_of_a_machine_are_in_a_folder_of_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = process._claim_file("core", 0).parent
    assert folder == tmp_path / f"marsrl-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert process._claim_file("gpu", "MIG-GPU/1").name == "gpu-MIG-GPU-1.lock"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("squat", ["file", "link"])
def test_what_somebody_else_put_there_is_not_used(squat, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place, elsewhere = tmp_path / f"marsrl-{os.getuid()}", tmp_path / "elsewhere"
    elsewhere.mkdir()
    place.touch() if squat == "file" else place.symlink_to(elsewhere)
    core, claim = process._claim_core()
    claim.close()
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in (tmp_path / "home" / ".cache").glob("*/*")] == [
        f"core-{core}.lock"
    ]
    (tmp_path / "home").chmod(0o700)
    monkeypatch.setenv("HOME", str(place / "none") if squat == "file" else os.devnull)
    with pytest.raises(UserError, match="can be a folder of yours for locks; set TMPDIR"):
        process._claim_core()


def test_a_job_of_ray_keeps_the_gpu_that_ray_gave_it(jobs, monkeypatch):
    found = []

    def train(batch, path, environment):
        found.append(environment)
        return [launch.Outcome(job, "done") for job in batch]

    monkeypatch.setattr(cluster, "train_batch", train)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for gpus in (0.5, 0):
        plain = [(jobs[0].config.to_dict(), "x", jobs[0].label)]
        assert cluster._train(plain, ".", gpus) == [("x", "done", 0.0, "")]
    half = {"CUDA_VISIBLE_DEVICES": "3", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}
    assert found == [half, {}]


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("plan nanno", "'nanno'; did you mean nano"),
        ("run nano --store {store} --shard 3/2", "shard is '3/2', expected I/N"),
        ("run nano --store {store} --shard 0/2", "shard is '0/2', expected I/N"),
        ("run nano --store {store} --tasks lbg/*", r"no task is like 'lbg/\*'"),
        ("run nano --store {store} --workers 0", "workers is 0, expected at least 1"),
        ("run nano --store {store} --ray a b", "ray is 'a b', expected one address"),
        ("run nano --store {store} --ray --gpus -1", "gpus is -1.0, expected 0 to 64"),
        ("status {store}", "is no store"),
        ("report {store}", "holds no results"),
        ("add mars --store {store}", "is no store"),
        ("import {store}/none.json --out {store}", "No such file"),
    ],
)
def test_refusals_are_one_line(args, message, tmp_path, capsys):
    store = tmp_path / "store"
    with pytest.raises(SystemExit) as end:
        main(["bench", *args.format(store=store).split()])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^marsrl: .*{message}", line)


def test_the_store_is_run_by_its_commands(tmp_path, pretend, monkeypatch, capsys):
    suite = tmp_path / "small.toml"
    suite.write_text(Suite("small", ("paxmen/4ag",), ("mars", "mappo"), (0,), SETTINGS).to_toml())
    (tmp_path / "mine.py").write_text("from marsrl.objectives import maspo as gentle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    pretend |= {"mappo": "crash"}

    def bench(*words):
        code = 0
        try:
            main(["bench", *words])
        except SystemExit as end:
            code = end.code
        return code, capsys.readouterr().out

    code, out = bench("run", "small.toml", "--store", "store", "--shard", "2/2")
    assert (code, "0 of 0 jobs are done, 0 to go" in out) == (0, True)
    code, out = bench("run", "small.toml", "--store", "store", "--shard", "1/2")
    assert (code, "0 of 2 jobs are done, 2 to go" in out) == (1, True)
    first, second = plan(store_suite(tmp_path / "store"), tmp_path / "store")
    with second.lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, out = bench("run", "small.toml", "--store", "store")
    assert (code, "1 being trained by others" in out) == (3, True)
    assert starts(first) == 1
    code, out = bench("run", "small.toml", "--store", "store")
    assert (code, "1 of 2 jobs are done" in out, "1 failed" in out) == (1, True, True)
    code, out = bench("status", "store")
    assert "1 done, 1 failed" in out
    assert "failed: paxmen/4ag mappo, seeds 0: no luck" in out
    code, out = bench("add", "mine:gentle", "--store", "store")
    assert (code, "mine:gentle works" in out) == (0, True)
    assert store_suite(tmp_path / "store").objectives == ("mars", "mappo", "mine:gentle")
    pretend.clear()
    assert bench("run", "small.toml", "--store", "store") == (2, "")  # the store names code
    code, out = bench("run", "small.toml", "--store", "store", "--trust")
    assert (code, "2 done" in out) == (0, True)
    (tmp_path / "mine.py").write_text("from marsrl.objectives import mars as gentle")
    words = ("run", "small.toml", "--store", "store", "--trust")
    assert bench(*words)[0] == 2  # it is another objective now
    code, out = bench(*words, "--retrain", "mine:gentle")
    assert (code, "mine:gentle, seeds 0: set aside" in out, "1 done" in out) == (0, True, True)
    code, out = bench(*words, "--retrain", "mine:gentle")
    assert (code, "3 of 3 jobs are done" in out) == (0, True)
    code, out = bench("remove", "mine:gentle", "--store", "store")
    assert code == 0
    assert store_suite(tmp_path / "store").objectives == ("mars", "mappo")
    code, out = bench("plan", "small.toml", "--no-measure")
    assert "small: 2 jobs, 2 runs, 3,840 environment steps; 2 jobs left, of unknown length" in out


SWEEP = """
name = "sweep"
tasks = ["paxmen/4ag", "mine.py:make"]
objectives = ["mars", "mappo"]
seeds = [0]
points_per_job = 2
[objective.mars]
gamma = 0.9
[sweep]
eps = [0.1, 0.2]
[bounds."mine.py:make"]
low = 0
high = 1
"""


def test_a_sweep_is_run_by_the_commands(tmp_path, pretend, monkeypatch, capsys):
    (tmp_path / "sweep.toml").write_text(SWEEP)
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)

    def bench(*words):
        code = 0
        try:
            main(["bench", *words])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    code, out = bench("plan", "sweep.toml", "--no-measure")
    assert (code, "sweep: 8 jobs, 8 runs" in out) == (0, True)
    code, out = bench("run", "sweep.toml", "--store", "store")
    assert (code, "8 done" in out) == (0, True)
    labels = ("mars@eps=0.1", "mars@eps=0.2", "mappo@eps=0.1", "mappo@eps=0.2")
    assert store_suite(tmp_path / "store").objectives == labels
    code, out = bench("status", "store")
    assert all(label in out for label in labels)
    code, out = bench("add", "mars@eps=0.4", "--store", "store")
    assert (code, "mars@eps=0.4 works" in out) == (0, True)
    code, out = bench("add", "mars@eps=0.40", "--store", "store")
    assert (code, "have the same settings on every task" in out) == (2, True)
    pax = [j for j in plan(store_suite(tmp_path / "store"), tmp_path / "store")
           if j.config.task == "paxmen/4ag"]  # fmt: skip
    assert (pax[-1].label, pax[-1].config.eps, pax[-1].config.gamma) == ("mars@eps=0.4", 0.4, 0.9)
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran, changed')")
    code, out = bench("run", "sweep.toml", "--store", "store")
    assert (code, "mine.py:make has changed since" in out) == (2, True)
    code, out = bench("run", "sweep.toml", "--store", "store", "--retrain", "mine.py:makes")
    assert (code, "did you mean mine.py:make" in out) == (2, True)
    code, out = bench("run", "sweep.toml", "--store", "store", "--retrain", "mine.py:make")
    assert (code, out.count("set aside"), "6 done" in out) == (0, 4, True)
    code, out = bench("run", "sweep.toml", "--store", "store", "--retrain", "mars@eps=0.2")
    assert (code, out.count("set aside"), "2 done" in out) == (0, 2, True)
    code, out = bench("remove", "mars@eps=0.4", "--store", "store")
    assert (code, store_suite(tmp_path / "store").objectives) == (0, labels)
    (tmp_path / "other.toml").write_text(SWEEP.replace('"mine.py:make"]', '"smax/2s3z"]', 1))
    code, out = bench("run", "other.toml", "--store", "store")
    assert (code, "suite.toml names the task 'mine.py:make'" in out) == (2, True)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--shard", "5/4"], "shard is '5/4'"),
        (["--tasks", "nothing"], "tasks: unknown task 'nothing'"),
        (["--retrain", "marz"], "retrain is 'marz'"),
        (["--ray", "a", "b"], "ray is 'a b', expected one address"),
        (["--ray", "--gpus", "-1"], "gpus is -1"),
    ],
)
def test_a_refused_run_has_changed_no_store(jobs, pretend, tmp_path, capsys, words, reason):
    more = dataclasses.replace(store_suite(tmp_path), objectives=("mars", "mars-log"))
    (tmp_path / "more.toml").write_text(more.to_toml())
    before = (tmp_path / "suite.toml").read_text()
    for store in (tmp_path, tmp_path / "new"):
        with pytest.raises(SystemExit) as end:
            main(["bench", "run", str(tmp_path / "more.toml"), "--store", str(store), *words])
        assert end.value.code == 2
        assert reason in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "suite.toml").read_text() == before
    assert not (tmp_path / "new").exists()


def test_runs_are_not_mixed_with_those_of_other_code_unasked(jobs, pretend, tmp_path, capsys):
    suite = tmp_path / "small.toml"
    suite.write_text(store_suite(tmp_path).to_toml())
    jobs[0].folder.mkdir(parents=True)
    content = {"config": jobs[0].config.to_dict(), "versions": {"marsrl code": "0123"}}
    (jobs[0].folder / "config.json").write_text(json.dumps(content))
    words = ["bench", "run", str(suite), "--store", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "were begun with other code: marsrl code 0123, here" in capsys.readouterr().err
    assert not jobs[1].folder.exists()
    main([*words, "--mixed"])
    assert "3 done" in capsys.readouterr().out


def test_a_store_of_other_settings_is_not_trained_anew(tmp_path, pretend, capsys):
    suite = Suite("small", ("paxmen/4ag",), ("mars",), (0,), SETTINGS)
    (job,) = plan(suite, tmp_path / "store")
    job.folder.mkdir(parents=True)
    content = {"config": job.config.to_dict() | {"width": 9}}  # as of a version with other defaults
    (job.folder / "config.json").write_text(json.dumps(content))
    job.folder.parent.rename(job.folder.parent.with_name("mars-0123456789ab"))
    (tmp_path / "small.toml").write_text(suite.to_toml())
    with pytest.raises(SystemExit) as end:
        main(["bench", "run", f"{tmp_path}/small.toml", "--store", f"{tmp_path}/store"])
    assert end.value.code == 2
    assert "the suite has other settings: width = 9 and 8" in capsys.readouterr().err
    assert not job.folder.exists()


def test_others_results_are_imported_and_reported(tmp_path, capsys):
    runs = {
        f"run_{seed}": {
            "step_0": {"step_count": 0, "mean_episode_return": [1.0 + seed, 2.0]},
            "absolute_metrics": {"mean_episode_return": [3.0 + seed]},
        }
        for seed in range(2)
    }
    (tmp_path / "theirs.json").write_text(json.dumps({"paxmen": {"4ag": {"MAPPO": runs}}}))
    main(["bench", "import", f"{tmp_path}/theirs.json", "--out", f"{tmp_path}/theirs"])
    capsys.readouterr()
    main(["bench", "report", f"{tmp_path}/theirs", "--endpoint", "best"])
    score = (3.5 - TASKS["paxmen/4ag"].low) / (TASKS["paxmen/4ag"].high - TASKS["paxmen/4ag"].low)
    row = rf"\| overall \(1\) +\| MAPPO +\| {score:.3f} \["
    assert re.search(row, capsys.readouterr().out)
    assert "MAPPO" in (tmp_path / "theirs" / "index.html").read_text()


def test_published_results_of_another_learner_are_not_gone_on_with(tmp_path, capsys):
    theirs = part(read(Path(__file__).parents[2] / "docs" / "fair"), ("mpe/simple_spread_v3-3ag",))
    runs = tuple(run._replace(config=run.config | {"reward_scale": 0.5}) for run in theirs.runs)
    write(theirs._replace(runs=runs), tmp_path / "page")
    with pytest.raises(SystemExit) as end:
        main(["bench", "restore", str(tmp_path / "page"), "--store", str(tmp_path / "store")])
    assert end.value.code == 2
    assert "was trained with other settings than this version of marsrl" in capsys.readouterr().err


def test_the_status_of_many_objectives_fits_a_narrow_terminal(tmp_path):
    suite = read_suite("nano")
    table, _ = show.progress(suite, plan(suite, tmp_path))
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert text.count("missing") == len(suite.tasks) * len(suite.objectives)
    assert all(task in text for task in suite.tasks)


# --- real trainings -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Starts `marsrl bench run` on a store of its own."""
    root = tmp_path_factory.mktemp("real")
    (root / "tiny.toml").write_text(SUITE.to_toml())

    def start(store, suite="tiny.toml", **options):
        # a shell lets what it starts in the background ignore Ctrl-C, and children inherit that
        heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [sys.executable, "-c", f"{heed}; from marsrl.cli import main; main()"]
        command += ["bench", "run", suite, "--store", store]
        return subprocess.Popen(command, cwd=root, **options)

    start.root = root
    return start


@pytest.fixture(scope="module")
def uninterrupted(run):
    assert run("whole").wait(WAIT) == 0
    return run.root / "whole"


def job_of(store):
    (job,) = plan(store_suite(store), store)
    return job


def begun(store):
    """The job of a store, once it has a checkpoint from the middle and one is being trained."""

    def has_checkpoint():
        if not (store / "suite.toml").exists():
            return None
        job = job_of(store)
        names = [p.parent.name for p in job.folder.glob("checkpoints/*/checksums.json")]
        saved = [int(name) for name in names if name.isdigit()]  # one may be in the making
        return job if saved and max(saved) >= 10 else None

    return wait_for(has_checkpoint)


def workers_of(launcher):
    """The processes that a launcher's threads have started to train, not those of Git."""
    tasks = Path(f"/proc/{launcher.pid}/task").glob("*/children")
    children = [int(pid) for listed in tasks for pid in listed.read_text().split()]
    return [pid for pid in children if "marsrl.bench.worker" in words_of(pid)]


def words_of(pid):
    """A process's command line; none if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def measured(store):
    """What a job logged, apart from times."""
    rows = RunFolder(job_of(store).folder).rows()
    times = ("seconds", "steps_per_second")
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


def restarts(store):
    return job_of(store).log.read_text().count("--- ")


def test_a_killed_worker_goes_on_and_ends_like_an_uninterrupted_one(run, uninterrupted):
    launcher, store = run("worker"), run.root / "worker"
    begun(store)
    (worker,) = workers_of(launcher)
    os.kill(worker, signal.SIGKILL)
    assert launcher.wait(WAIT) == 0
    assert restarts(store) == 2
    assert measured(store) == measured(uninterrupted)


def test_a_killed_launcher_leaves_nothing_behind(run, uninterrupted):
    launcher, store = run("launcher"), run.root / "launcher"
    job = begun(store)
    assert not free(job)
    launcher.kill()
    launcher.wait()
    wait_for(lambda: free(job))  # the lock ends with the worker
    assert not has_ended(job)
    (job.folder / "status.json").write_text('{"status": "run')  # what a power cut may leave
    assert run("launcher").wait(WAIT) == 0
    assert restarts(store) == 2
    assert list(job.folder.parent.glob("*.broken-*")) == []
    assert measured(store) == measured(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_says_how_to_go_on(run, number):
    store = run.root / f"interrupted-{number}"
    launcher = run(store.name, stdout=subprocess.PIPE, text=True)
    job = begun(store)
    (worker,) = workers_of(launcher)
    launcher.send_signal(number)
    said, _ = launcher.communicate(timeout=WAIT)
    assert launcher.returncode == 128 + number
    assert "interrupted; the same command goes on" in said
    assert not Path(f"/proc/{worker}").exists()
    assert free(job)
    assert "marsrl: stopped" in job.log.read_text()  # when it had saved what it had come to


def test_a_folder_that_nothing_can_go_on_from_is_set_aside(run, uninterrupted):
    store = run.root / "broken"
    adopt(SUITE, store)
    job = job_of(store)
    job.folder.mkdir(parents=True)
    (job.folder / "config.json").touch()
    assert run("broken").wait(WAIT) == 0
    assert [path.name for path in job.folder.parent.glob("*.broken-*")] == ["seeds-0-1.broken-1"]
    assert "starts anew" in job.log.read_text()
    assert measured(store) == measured(uninterrupted)


def test_an_objective_of_your_own_is_trained(run, uninterrupted, monkeypatch):
    monkeypatch.syspath_prepend(run.root)
    (run.root / "elsewhere.py").write_text("from marsrl.objectives import mars as factory")
    suite = SUITE.to_toml().replace('"mars"', '"elsewhere:factory"')
    (run.root / "mine.toml").write_text(suite)
    assert run("mine", "mine.toml").wait(WAIT) == 0
    assert job_of(run.root / "mine").folder.parent.name.startswith("elsewhere-factory-")
    assert measured(run.root / "mine") == measured(uninterrupted)


def test_a_real_store_is_collected(uninterrupted):
    results = collect(uninterrupted)
    assert [(r.seed, r.status, r.step) for r in results.runs] == [
        (0, "done", 1920),
        (1, "done", 1920),
    ]
    assert results.runs[0].machine["num_devices"] == 1  # pinned
    steps = set(results.episodes.column("step").to_pylist())
    assert len(steps) == 13
    finals = [row for row in results.episodes.to_pylist() if row["phase"] == "final"]
    assert Counter(row["seed"] for row in finals) == {0: 20, 1: 20}
    assert results.curves.num_rows == 2 * (60 + 13)


def test_a_sweep_on_a_task_of_your_own_is_trained_and_reported(run, tmp_path, capsys):
    """Its points share a process; the results go there and back without the task's code."""
    (run.root / "arena.py").write_text(
        "from marsrl.envs.paxmen import PaxMen\n\n\ndef make():\n    return PaxMen()\n"
    )
    suite = dataclasses.replace(
        SUITE,
        tasks=("arena:make",),
        objectives=("mars@eps=0.1", "mars@eps=0.4"),
        bounds={"arena:make": {"low": -10.0, "high": 50.0}},
        points_per_job=2,
    )
    (run.root / "sweep.toml").write_text(suite.to_toml())
    assert run("sweep", "sweep.toml").wait(WAIT) == 0
    results = collect(run.root / "sweep")
    assert {(r.objective, r.status) for r in results.runs} == {
        (x, "done") for x in suite.objectives
    }
    assert {run.versions["marsrl code"] for run in results.runs} == {library_digest()}
    main(["bench", "report", str(run.root / "sweep"), "--out", str(tmp_path / "page")])
    out = capsys.readouterr().out
    assert "overall (1)" in out
    assert "mars@eps=0.4" in out
    main(["bench", "restore", str(tmp_path / "page"), "--store", str(tmp_path / "again")])
    assert re.fullmatch(r"restored \d+ jobs\n", capsys.readouterr().out)  # and none is left
    assert collect(tmp_path / "again").runs == results.runs
    main(["bench", "export", str(tmp_path / "again"), str(tmp_path / "theirs.json")])
    theirs = json.loads((tmp_path / "theirs.json").read_text())
    assert set(theirs["arena"]["make"]) == set(suite.objectives)
