"""Whether observations or the global state tell the time, found in random play."""

from __future__ import annotations

import numpy as np

_TICKS = 3
"""Entries tell the time if together they take as many different values: fewer may be an event."""


class Clock:
    """Looks for entries that are a function of the step alone: alike in all episodes, and moving.

    Attributes:
        entries: indices, after flattening, of those that were alike so far.
    """

    def __init__(self, size: int) -> None:
        self.entries = np.arange(size)
        self._values: list[np.ndarray] = []

    def see(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Takes note of one step.

        Args:
            values: (E, F), the entries in each of the episodes.
            counts: (E, F) bool, where one counts. With fewer than two to compare an entry stays as
                it was.
        """
        values, counts = values[:, self.entries], counts[:, self.entries]
        value = np.take_along_axis(values, counts.argmax(0)[None], axis=0)[0]
        comparable = counts.sum(0) >= 2
        if self._values:
            value = np.where(comparable, value, self._values[-1])
        alike = ~comparable | ((values == value) | ~counts).all(0)
        self.entries = self.entries[alike]
        self._values = [*(seen[alike] for seen in self._values), value[alike]]

    def ticking(self) -> np.ndarray:
        """The entries that tell the time, (F',) int; none if they are moved by a few events."""
        seen = np.stack(self._values)
        moving = (seen != seen[0]).any(0)
        different = np.unique(seen[:, moving], axis=0)
        return self.entries[moving] if len(different) >= _TICKS else np.zeros(0, int)
