"""Processes that train, each on a core or a GPU of its own."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from marsrl.config import Config


def start_worker(
    config: Config,
    arguments: Sequence[str],
    path: str,
    environment: dict[str, str],
    output: IO[str] | int,
    held: tuple[int, ...] = (),
) -> subprocess.Popen[str]:
    """Starts a process of `marsrl.bench.worker`, on a core of its own if it has no GPU.

    Args:
        config: what it trains.
        arguments: more words of its command line.
        path: where a user's modules are.
        environment: variables besides this process's.
        output: where its output and errors go.
        held: locks that it holds until its end.
    """
    # -P: a user's folder must not come before the installed packages
    command = [sys.executable, "-P", "-u", "-m", "marsrl.bench.worker"]
    command += [json.dumps(config.to_dict()), *arguments]
    command += ["--parent", str(os.getpid()), "--path", path]
    with ExitStack() as stack:
        if not environment.get("CUDA_VISIBLE_DEVICES"):
            core, claim = _claim_core()
            stack.enter_context(claim)
            command += ["--core", str(core)]
            held = (*held, claim.fileno())
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            pass_fds=held,
            text=True,
            start_new_session=True,  # Ctrl-C is for the launcher alone
        )


def gpus() -> list[str]:
    """The ids of the GPUs that JAX would use; none if it would use the CPU."""
    plugins = [find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)]
    if not any(plugins) or os.environ.get("JAX_PLATFORMS") == "cpu":
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [device for device in listed.split(",") if device.strip() not in ("", "-1")]
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def on_gpu(device: str, shares: int) -> dict[str, str]:
    """Shows a process one GPU, and lets it take its share of the memory."""
    fraction = f"{0.9 / shares:.2f}"
    return {"CUDA_VISIBLE_DEVICES": device, "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction}


def _claim_core() -> tuple[int, IO[str]]:
    """A core that no other worker has, while there is one, and the file that is locked for it.

    The claim is a lock, so that other launchers of this machine, and Ray's workers, see it.
    """
    cores = sorted(os.sched_getaffinity(0))
    for core in cores:
        file = _core_file(core).open("a")
        if lock(file):
            return core, file
        file.close()
    core = cores[threading.get_native_id() % len(cores)]
    return core, _core_file(core).open("a")


def _core_file(core: int) -> Path:
    return Path(tempfile.gettempdir()) / f"marsrl-{os.getuid()}-core-{core}.lock"


def lock(file: IO[str]) -> bool:
    """Locks a file until it, and its copies in child processes, are closed; False if it is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
