"""The benchmark on a real cluster of two nodes on this machine, one of which is killed."""

import fcntl
import json
import logging
import sys
import threading
import time
from pathlib import Path

import pytest

from marsrl.bench.cluster import run_ray
from marsrl.bench.plan import adopt, plan
from marsrl.bench.progress import has_ended
from marsrl.bench.suite import Suite
from marsrl.errors import UserError

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")  # Ray has its own

SUITE = Suite(
    "tiny",
    ("paxmen/4ag",),
    ("mars",),
    (0, 1, 2),
    {
        "total_steps": 32 * 300, "num_envs": 4, "rollout_length": 8, "width": 8, "core": "ff",
        "num_minibatches": 1, "update_epochs": 1, "num_evaluations": 20, "eval_episodes": 2,
        "stagger": False,
    },
    seeds_per_job=1,
)  # fmt: skip
WAIT = 400.0


@pytest.fixture
def alone(tmp_path_factory):
    """No other test of this session has a cluster; Ray finds every one on the machine."""
    # the folder above is that of all workers of pytest-xdist
    with (tmp_path_factory.getbasetemp().parent / "ray.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def cluster(alone, tmp_path, monkeypatch):
    """Two nodes with a CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    settings = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=settings | {"include_dashboard": False})
    cluster.add_node(**settings)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    logging.getLogger("ray").handlers.clear()


def begun(job):
    """Whether a job has a checkpoint from after its first update."""
    return any(p.parent.name != "0" for p in job.folder.glob("checkpoints/*/checksums.json"))


def ancestors(pid):
    """The processes above one; none if it is gone."""
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
        yield pid


def trains(node, job):
    """Whether a job that has begun is trained on a node."""
    (raylet,) = node.all_processes["raylet"]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"marsrl.bench.worker" in words and raylet.process.pid in ancestors(int(folder.name)):
            config = json.loads(words[words.index(b"marsrl.bench.worker") + 1])
            return begun(job) and tuple(config["seeds"]) == job.config.seeds
    return False


def finals(job):
    rows = map(json.loads, (job.folder / "metrics.jsonl").read_text().splitlines())
    return [row["seed"] for row in rows if row["kind"] == "final"]


def test_every_run_finishes_once_although_a_node_dies(cluster, tmp_path):
    store = tmp_path / "store"
    jobs = plan(adopt(SUITE, store), store)
    _, node = cluster.list_all_nodes()

    def kill():
        deadline = time.monotonic() + WAIT
        while not any(trains(node, job) for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = run_ray(jobs, cluster.address, 0.0, lambda outcome: None)
    killer.join()
    assert {outcome.job for outcome in outcomes} == set(jobs)
    assert len(outcomes) == len(jobs)
    assert {outcome.status for outcome in outcomes} == {"done"}, outcomes
    assert all(map(has_ended, jobs))
    assert [finals(job) for job in jobs] == [[0], [1], [2]]
    starts = [job.log.read_text().count("--- ") for job in jobs]
    assert sorted(starts) == [1, 1, 2]  # the lost one went on elsewhere
    assert list(store.glob("runs/*/*/*.broken-*")) == []


def test_no_cluster_is_refused(alone):
    with pytest.raises(UserError, match="cannot reach Ray at auto: ConnectionError"):
        run_ray([], "auto", 0.0, lambda outcome: None)


def test_ray_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'marsrl\[ray\]'"):
        run_ray([], None, 0.0, lambda outcome: None)
