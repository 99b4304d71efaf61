"""Processes that train, each on a core or a GPU of its own."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from marsrl.errors import UserError, check_int
from marsrl.system import core_ids, flock, num_cores

OTHERS_TRAIN = 3
"""Exit code of what has left some of its work to others who are at it."""


def start_worker(
    words: Sequence[str],
    path: str,
    environment: dict[str, str],
    output: IO[str] | int,
    held: tuple[int, ...] = (),
) -> subprocess.Popen[str]:
    """Starts a process of `marsrl.bench.worker`, on a core of its own if it has no GPU.

    Args:
        words: of its command line: what it trains.
        path: where a user's modules are.
        environment: variables besides this process's.
        output: where its output and errors go.
        held: locks that it holds until its end.
    """
    # -P: a user's folder must not come before the installed packages
    command = [sys.executable, "-P", "-u", "-m", "marsrl.bench.worker"]
    command += [*words, "--parent", str(os.getpid()), "--path", path]
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
    if listed is None:
        return list(_uuids().values())
    return [device for x in listed.split(",") if (device := x.strip()) not in ("", "-1")]


def default_workers(devices: Sequence[str]) -> int:
    """One process for each of these GPUs; without any, one for each core."""
    return len(devices) or num_cores()


def check_workers(asked: int | None) -> None:
    """Raises UserError for a number of processes that nobody can mean; None is the default."""
    if asked is not None:
        check_int("workers", asked, 1, most=10_000)


def places(devices: Sequence[str], workers: int | None) -> list[dict[str, str]]:
    """The variables of each of so many processes, which share these GPUs evenly, if there are any.

    Default: `default_workers`.
    """
    workers = workers or default_workers(devices)
    share = 1 / -(-workers // max(1, len(devices)))
    return [on_gpu(devices[i % len(devices)], share) if devices else {} for i in range(workers)]


@contextmanager
def claim_gpus(most: int | None) -> Iterator[list[str]]:
    """Up to so many GPUs that no other launcher of this machine has; default: all of them.

    They are this one's until the context ends, or its process.

    Raises:
        UserError: there are GPUs, and others have them all.
    """
    devices, mine = gpus(), []
    uuids = _uuids() if devices else {}
    with ExitStack() as stack:
        for device in devices:
            if most is None or len(mine) < most:
                # by UUID: two jobs of a cluster may both call theirs 0
                file = stack.enter_context(_claim_file("gpu", uuids.get(device, device)).open("a"))
                if flock(file.fileno()):
                    mine.append(device)
        if devices and not mine:
            raise UserError(
                f"other launchers on this machine have its {len(devices)} GPUs; wait for them, or "
                "let one launcher share them out: --workers"
            )
        yield mine


def on_gpu(device: str, share: float) -> dict[str, str]:
    """Shows a process one GPU, and lets it take its share of the memory."""
    fraction = f"{0.9 * share:.2f}"
    return {"CUDA_VISIBLE_DEVICES": device, "XLA_PYTHON_CLIENT_MEM_FRACTION": fraction}


def _uuids() -> dict[str, str]:
    """The GPUs that the driver shows, index -> UUID; none if there is no driver."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split(", ") for line in output.splitlines())


def _claim_core() -> tuple[int, IO[str]]:
    """A core that no other worker has, while there is one, and the file that is locked for it.

    The claim is a lock, so that other launchers of this machine, and Ray's workers, see it.
    """
    cores = core_ids()
    for core in cores:
        file = _claim_file("core", core).open("a")
        if flock(file.fileno()):
            return core, file
        file.close()
    core = cores[threading.get_native_id() % len(cores)]
    return core, _claim_file("core", core).open("a")


def _claim_file(kind: str, name: object) -> Path:
    safe = str(name).replace("/", "-")  # old names of parts of a GPU have slashes
    return _private_folder() / f"{kind}-{safe}.lock"


def _private_folder() -> Path:
    """A folder of this machine in which nobody but this user can make files, or links.

    Raises:
        UserError: there is none.
    """
    places = [
        Path(tempfile.gettempdir()) / f"marsrl-{os.getuid()}",
        Path.home() / ".cache" / f"marsrl-locks-{socket.gethostname()}",
    ]
    for folder in places:
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                if found.st_mode & 0o077:
                    folder.chmod(0o700)
                return folder
    raise UserError(
        f"neither {places[0]} nor {places[1]} can be a folder of yours for locks; set TMPDIR to "
        "one that is"
    )
