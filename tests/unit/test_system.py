"""What operating systems do differently, each of them faked in a folder or by what Python lacks."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import pytest

from marsrl import system
from marsrl.devices import startup

V1 = "11:memory:/a/b\n4:cpu,cpuacct:/a/b\n1:name=systemd:/\n"
QUOTAS = {
    "none": ({}, math.inf),
    "v2": ({"proc/self/cgroup": "0::/\n", "cpu.max": "150000 100000\n"}, 1.5),
    "v2, no limit": ({"proc/self/cgroup": "0::/\n", "cpu.max": "max 100000\n"}, math.inf),
    "v2, the parent's": (
        {
            "proc/self/cgroup": "0::/slice/job\n",
            "slice/cpu.max": "200000 100000\n",
            "slice/job/cpu.max": "400000 100000\n",
        },
        2.0,
    ),
    "v2, the host's path": (
        {"proc/self/cgroup": "0::/kube/pod\n", "cpu.max": "300000 100000"},
        3.0,
    ),
    "v2, beyond its name space": (
        {"proc/self/cgroup": "0::/../..\n", "cpu.max": "300000 100000"},
        3.0,
    ),
    "v1": (
        {
            "proc/self/cgroup": V1,
            "cpu/a/b/cpu.cfs_quota_us": "50000\n",
            "cpu/a/b/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": V1,
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
        },
        math.inf,
    ),
    "nonsense": ({"proc/self/cgroup": "0\n::\n0::/\n", "cpu.max": "\n"}, math.inf),
    "no period": ({"proc/self/cgroup": "0::/\n", "cpu.max": "100000 0\n"}, math.inf),
}


def in_groups(root, files):
    for name, text in files.items():
        path = root / (name if name.startswith("proc/") else f"sys/fs/cgroup/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quota_of_control_groups(tmp_path, name):
    files, quota = QUOTAS[name]
    assert system.cpu_quota(in_groups(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("cores", "quota", "count"),
    [(8, math.inf, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 6.0, 2)],
)
def test_a_container_keeps_as_many_cores_busy_as_its_quota_allows(monkeypatch, cores, quota, count):
    monkeypatch.setattr(system, "core_ids", lambda: list(range(cores)))
    monkeypatch.setattr(system, "cpu_quota", lambda: quota)
    assert system.num_cores() == count


def test_cores_that_can_be_kept_busy_are_devices(monkeypatch):
    asked = []
    monkeypatch.setattr(startup, "num_cores", lambda: 4)
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.append(value))
    for most in (None, 1, 9):
        startup.use_cpu_cores(most)
    assert asked == [4, 1, 4]


def test_cores_where_there_is_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert system.core_ids() == [0, 1, 2, 3, 4, 5]
    system.stay_on(3)  # which nobody can ask for there
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.core_ids() == [0]


MEMINFO = {"proc/meminfo": "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n"}
GIB = 2**30


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 8_000_000 * 1024),
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/\n",
                "memory.max": f"{4 * GIB}\n",
                "memory.current": f"{3 * GIB}\n",
                "memory.stat": f"file 1\ninactive_file {GIB}\n",  # which can be had again
            },
            2 * GIB,
        ),
        (
            MEMINFO
            | {"proc/self/cgroup": "0::/\n", "memory.max": "max\n", "memory.current": "1\n"},
            8_000_000 * 1024,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "memory/a/b/memory.limit_in_bytes": f"{2 * GIB}\n",
                "memory/a/b/memory.usage_in_bytes": f"{3 * GIB}\n",
                "memory/a/b/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB // 2}\n",
            },
            0,
        ),
    ],
    ids=["unknown", "whole machine", "v2", "v2, no limit", "v1"],
)
def test_free_memory_within_a_container(tmp_path, files, free):
    assert system.available_memory(in_groups(tmp_path, files)) == free


def test_this_machine():
    assert 1 <= system.num_cores() <= len(system.core_ids())
    assert system.peak_memory_mb() > 10
    free = system.available_memory()
    assert free is None or free > 0


def test_peak_memory_of_macos_and_elsewhere(monkeypatch):
    usage = SimpleNamespace(ru_maxrss=300 * 2**20)  # macOS counts bytes
    fake = SimpleNamespace(getrusage=lambda who: usage, RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", fake)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert system.peak_memory_mb() == 300
    monkeypatch.setitem(sys.modules, "resource", None)
    assert system.peak_memory_mb() == 0


def test_two_openings_of_a_file_exclude_each_other(tmp_path):
    with (tmp_path / "lock").open("a") as one, (tmp_path / "lock").open("a") as two:
        assert system.flock(one.fileno())
        assert not system.flock(two.fileno())


def test_where_files_cannot_be_locked_nobody_else_has_them(monkeypatch, tmp_path):
    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    fake = SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4)
    with (tmp_path / "lock").open("a") as file:
        for module in (fake, None):
            monkeypatch.setitem(sys.modules, "fcntl", module)
            assert system.flock(file.fileno())


CHILD = """
import os, sys, time
sys.platform = sys.argv[1]
from marsrl import system
system._LOOK_EVERY = 0.02
system.die_with(int(sys.argv[2]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid())])
sys.stdin.readline()
"""


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_child_dies_with_its_parent(platform):
    if platform == "linux" and sys.platform != "linux":
        pytest.skip("no Linux")
    command = [sys.executable, "-c", PARENT, CHILD, platform]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        assert parent.stdout.read() == ""  # ends once the child has, which holds the pipe too
    for _ in range(1000):  # until init has taken note of its end
        if not exists(child):
            break
        time.sleep(0.01)
    assert not exists(child)


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_whose_parent_is_gone_ends():
    code = f"from marsrl import system; system.die_with({2**30})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == f"marsrl: process {2**30}, which started this one, is gone\n"
