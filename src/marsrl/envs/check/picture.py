"""What `draw` must do, where an environment has one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from marsrl.envs.base import Environment
from marsrl.errors import UserError, raised


def in_picture(env: Environment, states: Sequence[Any]) -> Iterator[str]:
    """The failure, if any, in drawing these states."""
    if not hasattr(env, "draw"):
        return
    try:
        check_alike([picture(env, state, "a word") for state in states])
    except UserError as error:
        yield str(error)


def picture(env: Any, state: Any, caption: str) -> np.ndarray:
    """Draws one unbatched state: (height, width, 3) uint8.

    Raises:
        UserError: `draw` raises, cannot be called with a caption, or returns something else.
    """
    if not callable(env.draw):
        raise UserError("draw is no method; expected draw(state, caption)")
    try:
        inspect.signature(env.draw).bind(state, caption)
    except TypeError as error:
        raise UserError(f"draw has other arguments than draw(state, caption): {error}") from error
    try:
        drawn = env.draw(state, caption)
    except Exception as error:
        raise UserError(f"draw {raised(error)}") from error
    if not isinstance(drawn, np.ndarray):
        raise _expected(type(drawn).__name__)
    if drawn.dtype != np.uint8 or drawn.ndim != 3 or drawn.shape[2] != 3 or not drawn.size:
        raise _expected(f"{drawn.shape} {drawn.dtype}")
    return drawn


def check_alike(pictures: Sequence[np.ndarray]) -> None:
    """Raises UserError unless all pictures of an environment have the same size."""
    for other in pictures[1:]:
        if other.shape != pictures[0].shape:
            raise UserError(f"draw returns {pictures[0].shape} and then {other.shape}")


def _expected(found: str) -> UserError:
    return UserError(f"draw returns {found}, expected (height, width, 3) uint8 of NumPy")
