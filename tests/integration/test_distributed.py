"""Two processes that train one run, over loopback: same result, losses, refusals."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import marsrl
from marsrl.devices.distributed import Processes
from marsrl.devices.sharding import fit_devices
from marsrl.envs.registry import make
from marsrl.errors import UserError
from marsrl.learner.program import Program
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import RunFolder

TESTS = Path(__file__).parents[1]
CLUSTERS = ("SLURM_", "OMPI_", "KUBERNETES_")
UPDATES = 4
TINY = {
    "--task": "environments:Scripted", "--seeds": 3, "--total-steps": UPDATES * 32,
    "--num-envs": 4, "--rollout-length": 8, "--core": "ff", "--width": 8, "--devices": 2,
    "--num-minibatches": 2, "--update-epochs": 1, "--num-evaluations": UPDATES,
    "--eval-episodes": 4, "--log-interval": 2,
}  # fmt: skip

MAIN = """
import os, signal, sys
import jax
from marsrl import cli
from marsrl.devices import distributed, startup
from marsrl.learner.program import Program

num_devices, dies_at = map(int, sys.argv[1:3])
startup.use_cpu_cores = lambda most: jax.config.update("jax_num_cpu_devices", num_devices)
startup.num_cores = lambda: num_devices
distributed.LOST_AFTER = 10
step, calls = Program.step, []

def count(self, state, number):
    calls.append(None)
    if len(calls) == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, state, number)

Program.step = count
cli.main(sys.argv[3:])
"""


def start(args, devices=1, dies_at=0, cwd=None) -> subprocess.Popen:
    """Starts `marsrl ARGS` on virtual devices; it kills itself before an update if told which."""
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, str(devices), str(dies_at), *map(str, args)],
        env={name: x for name, x in os.environ.items() if not name.startswith(CLUSTERS)}
        | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(*processes, timeout=400) -> list[tuple[int, list[str]]]:
    """Waits for processes: the exit code of each, and what marsrl said on stderr."""
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    sys.stderr.writelines(errors)
    lines = [[x for x in error.splitlines() if x.startswith("marsrl: ")] for error in errors]
    return [(process.returncode, said) for process, said in zip(processes, lines, strict=True)]


def joining(process_id, port, **more) -> list[str]:
    options = {
        "--coordinator": f"127.0.0.1:{port}", "--num-processes": 2, "--process-id": process_id,
    } | more  # fmt: skip
    return ["--distributed", *words(options)]


def together(args, dies_at=(0, 0)) -> list[tuple[int, list[str]]]:
    """Runs `marsrl ARGS` as two processes of one device each."""
    port = free_port()
    return end(*(start([*args, *joining(i, port)], 1, dies_at[i]) for i in (0, 1)))


def training(out, **changes) -> list[str]:
    return ["train", "--no-stagger", *words(TINY | {"--out": out} | changes)]


def words(options) -> list[str]:
    return [word for pair in options.items() for x in pair for word in str(x).split()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Makes an uninterrupted run of some seeds and processes, once."""

    @functools.cache
    def make_run(processes=2, seeds="3"):
        path = tmp_path_factory.mktemp("runs") / "run"
        args = training(path, **{"--seeds": seeds})
        ended = together(args) if processes == 2 else end(start(args, devices=2))
        assert ended == [(0, [])] * processes
        return path

    return make_run


def state(path: Path):
    """The state after the last update, read by this one process on its one device."""
    config = RunFolder(path).config()
    template = Program(fit_devices(config), make(config.task)).template
    return Checkpoints(path / "checkpoints").restore(UPDATES, template)


def assert_same_run(a: Path, b: Path, exact: bool = True):
    """The logs and the last states, bit for bit.

    Or up to the order of additions, without what is logged of training: on another number of
    devices the diagnostics are means over other parts of a minibatch.
    """

    def compare(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if exact or not jnp.issubdtype(x.dtype, jnp.floating):
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)

    jax.tree.map(compare, state(a), state(b))
    logs = [
        [row for row in RunFolder(path).rows() if exact or row["kind"] != "train"]
        for path in (a, b)
    ]
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"kind", "seconds", "steps_per_second"}:
            compare(np.array(one[name], float), np.array(other[name], float))
        assert one["kind"] == other["kind"]


@pytest.mark.parametrize("seeds", ["3", "3 5"])  # spreads the environments; the seeds
def test_two_processes_do_the_same_as_one_with_the_same_mesh(run, seeds):
    assert_same_run(run(2, seeds), run(1, seeds))


def test_one_process_reads_what_two_have_written(run):
    machine = json.loads((run() / "config.json").read_text())["machine"]
    assert (machine["num_processes"], machine["num_devices"]) == (2, 2)
    policy = marsrl.load_policy(run(), checkpoint="latest", trust=True)
    assert policy.step == UPDATES * 32
    parts = Checkpoints(run() / "checkpoints").part(UPDATES, ("learner", "weights"))
    for path, leaf in jax.tree_util.tree_leaves_with_path(policy.actor):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        np.testing.assert_array_equal(parts[f"actor/{name}"][0], leaf)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_other_and_the_run_goes_on(run, tmp_path, victim):
    path = tmp_path / "run"
    ended = together(training(path), dies_at=(3, 0) if victim == 0 else (0, 3))
    assert ended[victim][0] == -signal.SIGKILL
    code, said = ended[1 - victim]
    assert code != 0
    assert len(said) == 1
    assert "another process of this run is lost" in said[0]
    assert "marsrl resume" in said[0]
    if victim == 0:
        assert together(["resume", path, "--trust"]) == [(0, []), (0, [])]
    else:
        assert end(start(["resume", path, "--trust"])) == [(0, [])]
    assert_same_run(path, run(), exact=victim == 0)


def test_processes_that_differ_are_refused_by_name(tmp_path):
    port = free_port()
    commands = [
        [*training(tmp_path / "run", **{"--width": 8 * (i + 1)}), *joining(i, port)] for i in (0, 1)
    ]
    expected = "marsrl: process 1 has width = 16, process 0 has 8; all processes must run the same"
    assert end(*map(start, commands)) == [(2, [expected])] * 2
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_shared_is_refused(tmp_path):
    port = free_port()
    folders = [tmp_path / str(i) for i in (0, 1)]
    for folder in folders:
        folder.mkdir()
    args = training("run")
    ended = end(*(start([*args, *joining(i, port)], cwd=folders[i]) for i in (0, 1)))
    assert f"{folders[1] / 'run'} is not to be seen by every process" in ended[1][1][0]
    assert ended[1][0] == 2
    assert ended[0][0] != 0
    assert "another process of this run is lost" in ended[0][1][0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"coordinator": "a:1"}, "need --distributed with all of"),
        ({"distributed": True, "num_processes": 2}, "need --distributed with all of"),
        ({"coordinator": "a", "process_id": 0}, "coordinator = 'a', expected HOST:PORT"),
        ({"coordinator": "a:65536", "process_id": 0}, "the port from 1 to 65535"),
        ({"coordinator": "a:1", "process_id": 2}, "process_id is 2, expected 0 to 1"),
        ({"coordinator": "a:1", "process_id": 0, "join_timeout": 0}, "join_timeout is 0"),
    ],
)
def test_impossible_options_are_refused(options, expected):
    if "process_id" in options:
        options = options | {"distributed": True, "num_processes": 2}
    with pytest.raises(UserError, match=re.escape(expected)):
        Processes(**options)


def test_no_cluster_around_is_said(tmp_path):
    ((code, said),) = end(start([*training(tmp_path / "run"), "--distributed"]))
    assert code == 2
    assert len(said) == 1
    assert "neither SLURM, Open MPI nor Kubernetes" in said[0]


def test_a_wrong_address_is_an_error_in_time(tmp_path):
    port = free_port()
    args = [*training(tmp_path / "run"), *joining(1, port, **{"--join-timeout": 3})]
    ((code, said),) = end(start(args))
    assert code == 2
    assert len(said) == 1
    assert f"not found at 127.0.0.1:{port} within 3 seconds" in said[0]


def test_missing_processes_are_an_error_in_time(tmp_path):
    args = [*training(tmp_path / "run"), *joining(0, free_port(), **{"--join-timeout": 3})]
    ((code, said),) = end(start(args))
    assert code != 0
    assert len(said) == 1
    assert "did not find each other within 3 seconds" in said[0]
