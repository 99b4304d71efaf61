"""Locks of a store: of a job while it is trained, of the store itself while its suite changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marsrl.runs.lock import HeldError, Lock

_PATIENCE = 30.0  # seconds; a suite changes in one


class FileLock(Lock):
    """The lock of a run folder, as a file of any name: it tells its holder, and outlives none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.parent, path.name)

    @property
    def descriptor(self) -> int:
        """The open file, which a child process may keep locked; once it is taken."""
        if self._descriptor is None:
            raise ValueError(f"{self._path} is not taken")
        return self._descriptor


@contextmanager
def store_lock(store: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Lets one process at a time change what a store plans; the others wait.

    Args:
        store: an existing folder.
        patience: seconds to wait at most.

    Raises:
        UserError: somebody else has it for longer than that, or nobody can have it.
    """
    deadline = time.monotonic() + patience
    lock = Lock(store)
    while True:
        try:
            lock.take()
            break
        except HeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()
