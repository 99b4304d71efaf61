"""SIGTERM and Ctrl-C as a wish that the host loop grants after the update that it is at."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


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
