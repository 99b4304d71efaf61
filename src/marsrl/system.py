"""What is the operating system's: cores, memory, locks, signals and child processes.

Linux tells all of it. Elsewhere each function has a fallback, or says that it cannot tell.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_ROOT = Path("/")
_WISHES = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
_LOOK_EVERY = 1.0  # seconds between two looks at the parent, where the kernel does not tell


def core_ids() -> list[int]:
    """The cores that this process may run on, ascending."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def num_cores() -> int:
    """How many cores this process can keep busy: those it may run on, within a container's quota.

    A quota of one core and a half counts as two, which then wait for a quarter of the time.
    """
    return max(1, math.ceil(min(len(core_ids()), cpu_quota())))


def cpu_quota(root: Path = _ROOT) -> float:
    """The cores' worth of time that this process's control groups allow; infinite without one."""
    shares = [math.inf]
    for version, folder in _control_groups("cpu", root):
        if version == 2:
            quota, period, *_ = [*_words(folder / "cpu.max"), "max", "max"]
        else:
            (quota, *_) = _words(folder / "cpu.cfs_quota_us") or ["-1"]
            (period, *_) = _words(folder / "cpu.cfs_period_us") or ["-1"]
        if quota.isdigit() and period.isdigit() and int(period) > 0:  # neither "max" nor -1
            shares.append(int(quota) / int(period))
    return min(shares)


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process can still get before the system swaps or kills; None if unknown."""
    info = root / "proc" / "meminfo"
    found = re.search(r"MemAvailable: +(\d+) kB", info.read_text() if info.exists() else "")
    free = [int(found[1]) * 1024] if found else []
    for version, folder in _control_groups("memory", root):
        names = ("memory.max", "memory.current", "inactive_file")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, used = (_words(folder / name)[:1] for name in names[:2])
        cache = re.search(rf"^{names[2]} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
        if limit and limit[0].isdigit() and used:
            free.append(max(0, int(limit[0]) - int(used[0]) + (int(cache[1]) if cache else 0)))
    return min(free, default=None)


def peak_memory_mb() -> int:
    """The most memory that this process has had; 0 where that cannot be told."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # no Unix
        return 0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def stay_on(core: int) -> None:
    """Keeps this process on one core, where the system lets it choose."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {core})


def die_with(parent: int) -> None:
    """Has this process killed when the one that started it ends, however it ends.

    Linux does it the moment that the thread which started it ends; elsewhere it takes a second.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(f"marsrl: process {parent}, which started this one, is gone")


def flock(descriptor: int, shared: bool = False) -> bool:
    """Locks an open file until it, and its copies in child processes, are closed.

    Args:
        descriptor: of the file.
        shared: whether others may have it too, if they share it.

    Returns:
        False if another process has it. True also where there are no such locks.
    """
    try:
        fcntl = importlib.import_module("fcntl")
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


@contextmanager
def signals_noted(note: Callable[[int], None]) -> Iterator[None]:
    """Has SIGTERM and Ctrl-C call `note` inside the context; a second one ends the process at once.

    Nothing is caught outside the main thread, where Python allows no handlers.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        note(number)
        for name in _WISHES:
            signal.signal(name, signal.SIG_DFL)

    main = threading.current_thread() is threading.main_thread()
    before = {name: signal.signal(name, handle) for name in _WISHES if main}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Has SIGTERM raise a KeyboardInterrupt that names it inside the context, as Ctrl-C does.

    Nothing is caught outside the main thread, where Python allows no handlers.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)


def _control_groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """The control groups that bound this process, as far as they can be seen: version, folder.

    Those above it bound it too. In a container the path may be the host's, of which only the last
    part is there, so every part of it is looked for.
    """
    mount = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, controllers, path, *_ = [*line.split(":", 2), "", ""]
        if number == "0" and not controllers:
            version, top = 2, mount
        elif controller in controllers.split(","):
            version, top = 1, mount / controller
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts) + 1):
            if (folder := top.joinpath(*parts[:length])).is_dir():
                yield version, folder


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
