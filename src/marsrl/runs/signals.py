"""SIGTERM and Ctrl-C as a wish that the host loop grants after the update that it is at."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

_ASKED = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Catches the two signals inside the context; a second one ends the process at once.

    Nothing is caught outside the main thread, where Python allows no handlers.
    """

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Installs the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in _ASKED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Puts back the handlers that were there."""
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def received(self) -> int:
        """The signal that any of the processes was sent, the same on all; 0 if none was."""
        if jax.process_count() == 1:
            return self._received
        return int(np.max(multihost_utils.process_allgather(np.int32(self._received))))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for name in _ASKED:
            signal.signal(name, signal.SIG_DFL)
