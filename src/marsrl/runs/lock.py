"""One writer of a run folder at a time, on whatever file system, and who that is.

The lock is the file `writer.lock`. It is held by `flock`, where the file system has it, and by what
is written in it, where `flock` does nothing or does not reach other hosts: a holder on this host is
gone once its process is, a holder elsewhere once it has not touched the file for some time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from marsrl.errors import UserError
from marsrl.system import flock

NAME = "writer.lock"
TOUCH_EVERY = 20.0
"""Seconds between two signs of life of a holder."""
GONE_AFTER = 180.0
"""Seconds without one after which a holder on another host counts as gone."""

_MOMENT = 0.01  # seconds


class Holder(NamedTuple):
    """A process that writes a run.

    Attributes:
        host: where it runs.
        pid: its id there.
        started: when it did, in a form that only compares; None where that cannot be told.
        inode: of the lock file, so that a copy of the folder is not locked.
    """

    host: str
    pid: int
    started: str | None
    inode: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class HeldError(UserError):
    """Another process has a lock, and may give it back."""


class Lock:
    """The lock of one run folder, for one time; as a context, from its beginning to its end."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self._path = folder / name
        self._descriptor: int | None = None
        self._me: Holder | None = None
        self._released = threading.Event()

    def __enter__(self) -> Self:
        """Takes the lock."""
        self.take()
        return self

    def __exit__(self, *error: object) -> None:
        """Gives it back."""
        self.release()

    def take(self) -> None:
        """Takes the lock.

        Raises:
            HeldError: another process has it, which is named.
            UserError: the file cannot be written.
        """
        try:
            self._descriptor = self._take()
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}") from error
        threading.Thread(target=self._stay_alive, daemon=True).start()

    def release(self) -> None:
        """Gives the lock back, unless somebody else has it by now."""
        self._released.set()
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if _holder(self._path) == self._me:
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def check(self) -> None:
        """Raises UserError if another process has taken the lock over in the meantime."""
        holder = _holder(self._path)
        if holder != self._me:
            raise UserError(
                f"{self._path.parent} is not this process's any more: "
                f"{holder or 'nobody'} holds {NAME}; what was saved is sound"
            )

    def _take(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                inode = os.fstat(descriptor).st_ino
                held, holder = not _flock_soon(descriptor), _holder(self._path)
                if held or (holder and _is_alive(holder, self._path, self._now)):
                    raise self._refusal(holder)
                if not _is_at(self._path, inode):  # its holder has just removed it
                    os.close(descriptor)
                    continue
                self._me = Holder(socket.gethostname(), os.getpid(), _started(os.getpid()), inode)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(self._me._asdict()).encode(), 0)
                return descriptor
            except BaseException:  # a full disk, too
                os.close(descriptor)
                raise

    def _now(self) -> float:
        """The time by the clock of whoever keeps the files."""
        with tempfile.TemporaryFile(dir=self._path.parent) as file:
            return os.fstat(file.fileno()).st_mtime

    def _refusal(self, holder: Holder | None) -> HeldError:
        elsewhere = holder is not None and holder.host != socket.gethostname()
        way = (
            f"; should that process be gone, wait {GONE_AFTER:.0f} seconds or delete {self._path}"
            if elsewhere
            else "; wait for it, or end it"
        )
        return HeldError(
            f"{self._path.parent} is being written by {holder or 'another process'}{way}"
        )

    def _stay_alive(self) -> None:
        while not self._released.wait(TOUCH_EVERY):
            with contextlib.suppress(OSError):
                if _holder(self._path) == self._me:
                    os.utime(self._path)


def writer_of(folder: Path) -> Holder | None:
    """Who writes a run folder now; None if nobody does. Only looks."""
    holder = _holder(folder / NAME)
    return holder if holder and _is_alive(holder, folder / NAME, time.time) else None


def is_held(path: Path) -> bool:
    """Whether somebody has the lock that is this file; it is left as it is.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        if not flock(descriptor, shared=True):  # by a child process whose parent is gone, too
            return True
        holder = _holder(path)
        return holder is not None and _is_alive(holder, path, time.time)
    finally:
        os.close(descriptor)


def _flock_soon(descriptor: int) -> bool:
    """As `flock`, but waits for a moment, for which `is_held` may have the file."""
    return any(flock(descriptor) or time.sleep(_MOMENT) for _ in range(3))


def _is_alive(holder: Holder, path: Path, now: Callable[[], float]) -> bool:
    """Whether the holder that a lock names still has it."""
    try:
        there = path.stat()
    except OSError:
        return False
    if there.st_ino != holder.inode:  # a copy of the folder
        return False
    if holder.host != socket.gethostname():
        return now() - there.st_mtime < GONE_AFTER
    started = _started(holder.pid)
    known = started is not None and holder.started is not None
    return _exists(holder.pid) and (started == holder.started or not known)


def _holder(path: Path) -> Holder | None:
    try:
        values: Any = json.loads(path.read_bytes())
        holder = Holder(**values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    sound = isinstance(holder.host, str) and type(holder.pid) is int and holder.pid > 0
    return holder if sound else None


def _is_at(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _started(pid: int) -> str | None:
    """When a process started, as boot and clock ticks since it; None where Linux does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot}/{fields[19]}"
    except (OSError, IndexError):
        return None
