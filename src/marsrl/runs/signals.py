"""SIGTERM and Ctrl-C as a wish that the host loop grants after the update that it is at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

_ASKED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def noted(note: Callable[[int], None]) -> Iterator[None]:
    """Has the two signals call `note` inside the context; a second one ends the process at once.

    Nothing is caught outside the main thread, where Python allows no handlers.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        note(number)
        for name in _ASKED:
            signal.signal(name, signal.SIG_DFL)

    main = threading.current_thread() is threading.main_thread()
    before = {name: signal.signal(name, handle) for name in _ASKED if main}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class Signals:
    """Which of the two signals came, on any of the processes that train together."""

    def __init__(self) -> None:
        self._received = 0

    def note(self, number: int) -> None:
        """One came to this process."""
        self._received = number

    def received(self) -> int:
        """The signal that any of the processes was sent, the same on all; 0 if none was."""
        if jax.process_count() == 1:
            return self._received
        return int(np.max(multihost_utils.process_allgather(np.int32(self._received))))
