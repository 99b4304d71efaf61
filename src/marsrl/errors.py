"""Errors that a user can act on: one clear line, no traceback on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Bad input, explained in one line that names the value and what was expected.

    Not a ValueError: the command line's parser would wrap those in a text of its own.
    """


class Interrupted(KeyboardInterrupt):
    """A signal has ended a run in order; the message says how to go on.

    Attributes:
        code: of the process, as shells have it: 128 + the signal.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.code = 128 + signum


def near_misses(name: object, known: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the closest known ones, else all of them."""
    known = list(known)
    return _closest(name, known) or f"; known: {', '.join(known)}"


def check_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raises UserError unless `value` is a whole number from `low` to `high`, and no bool."""
    _check_range(name, value, int, "a whole number", low, high)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raises UserError unless `value` is a number from `low` to `high`, and no bool."""
    _check_range(name, value, int | float, "a number", low, high)


def check_bool(name: str, value: object) -> None:
    """Raises UserError unless `value` is True or False."""
    if not isinstance(value, bool):
        closest = _closest(value, ("True", "False"))
        raise UserError(f"{name} is {value!r}, expected True or False{closest}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raises UserError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        expected = f"one of {', '.join(choices)}{_closest(value, choices)}"
        raise UserError(f"{name} is {value!r}, expected {expected}")


def _check_range(
    name: str, value: Any, kind: Any, noun: str, low: float, high: float | None
) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right_kind = number and isinstance(value, kind)
    top = math.inf if high is None else high
    if right_kind and low <= value <= top:
        return
    limits = f"at least {low}" if high is None else f"{low} to {high}"
    expected = limits if right_kind else f"{noun}, {limits}"
    if number and abs(value) < math.inf:
        nearest = min(max(low, value), top)
        expected += f"; nearest: {nearest if right_kind else round(nearest)}"
    raise UserError(f"{name} is {value!r}, expected {expected}")


def _closest(name: object, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def reason(error: Exception) -> str:
    """The type and the first line of an exception that somebody else's code raised."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
