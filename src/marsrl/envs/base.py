"""The interface that every environment implements."""

from __future__ import annotations

from typing import Any, Protocol

from marsrl.types import Array, EnvSpec, Key, TimeStep


class Environment(Protocol):
    """One unbatched, pure environment.

    It never resets itself, never logs, and keeps no random key in its state: `reset` and `step`
    are functions of their arguments alone, so they can be jitted and vmapped.
    """

    @property
    def spec(self) -> EnvSpec:
        """Sizes, spaces and horizon."""
        ...

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        """Starts an episode; the first step's reward is zero and both end flags are False."""
        ...

    def step(self, key: Key, state: Any, action: Array) -> tuple[Any, TimeStep]:
        """Moves one step on.

        `action` is (N,) int32 for `Discrete`, (N, K) int32 for `MultiDiscrete`, (N, A) float32 for
        `Box`.
        """
        ...
