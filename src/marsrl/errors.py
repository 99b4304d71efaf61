"""Errors that a user can act on: one clear line, no traceback on the command line."""

from __future__ import annotations

import difflib
import math
import os
import reprlib
import shlex
import tempfile
import traceback
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any


class UserError(Exception):
    """Bad input, explained in one line that names the value and what was expected.

    Not a ValueError: the command line's parser would wrap those in a text of its own.

    Attributes:
        field: the setting whose value is wrong, if it is one of `marsrl.Config`.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__("\n".join(map(_clipped, message.split("\n"))))
        self.field = field


class Notice(UserWarning):
    """A warning of marsrl's own: one clear line, which the command line shows as such."""


def shown(value: object) -> str:
    """A value as messages show it: its `repr` on one line, shortened if it is long."""
    text = " ".join(_SHORT.repr(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 20]}..."


def command(*words: object) -> str:
    """A command of marsrl as a message tells it: what a shell splits is quoted."""
    return shlex.join(["marsrl", *map(str, words)])


def printable(text: str) -> str:
    """A text without what a terminal would obey: all control characters but newlines are `?`."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


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
    listed = f"; known: {', '.join(known)}" if known else "; there are none"
    return closest(name, known) or listed


def check_int(
    name: str, value: object, low: int, high: int | None = None, most: int | None = None
) -> None:
    """Raises UserError unless `value` is a whole number from `low` to `high`, and no bool.

    Args:
        name: what the message calls it.
        value: to check.
        low: the least.
        high: what makes sense at most, if that is known.
        most: what is allowed at most, so that nothing absurd is allocated or counted up to.
    """
    _check_range(name, value, int, "a whole number", low, high)
    if most is not None and isinstance(value, int) and value > most:
        raise UserError(f"{name} is {shown(value)}, expected at most {most}; nearest: {most}")


def int_of(name: str, value: object, low: int, high: int | None = None) -> int:
    """A whole number that a caller gave, NumPy's too; else as `check_int`."""
    value = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
    check_int(name, value, low, high)
    assert isinstance(value, int)
    return value


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raises UserError unless `value` is a number from `low` to `high`, and no bool."""
    _check_range(name, value, int | float, "a number", low, high)


def check_bool(name: str, value: object) -> None:
    """Raises UserError unless `value` is True or False."""
    if not isinstance(value, bool):
        expected = f"True or False{closest(value, ('True', 'False'))}"
        raise UserError(f"{name} is {shown(value)}, expected {expected}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raises UserError unless `value` is one of `choices`."""
    choices = list(choices)
    if value not in choices:
        expected = f"one of {', '.join(choices)}{closest(value, choices)}"
        raise UserError(f"{name} is {shown(value)}, expected {expected}")


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
        expected += f"; nearest: {shown(nearest if right_kind else round(nearest))}"
    raise UserError(f"{name} is {shown(value)}, expected {expected}")


def closest(name: object, known: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the closest known ones, if any are close."""
    text = str(name) if isinstance(name, str) else shown(name)
    close = difflib.get_close_matches(text, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def reason(error: BaseException) -> str:
    """The type and the first line of an exception that somebody else's code raised."""
    try:
        first = (str(error).splitlines() or [""])[0]
    except Exception:  # its own text is code too
        first = ""
    first = first if len(first) <= _LONGEST_LINE else f"{first[:_LONGEST_LINE]}..."
    return printable(f"{type(error).__name__}{first and f': {first}'}")


def keep_traceback(text: str, label: str = "traceback") -> str:
    """Writes a traceback to a file of its own, and says where after a label, or why not."""
    try:
        number, path = tempfile.mkstemp(prefix="marsrl-", suffix=".traceback")
        with os.fdopen(number, "w", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return f"its traceback could not be kept: {error}"
    return f"{label}: {path}"


def raised(error: BaseException) -> str:
    """What code of others raised, for a message: the reason, its line and the file of a traceback.

    The line is the innermost of the user's own code, or else of a library. Where there is none,
    such as when a call has an argument too many, the reason says it all.
    """
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first has caught it
    ranks = [_rank(Path(frame.filename)) for frame in frames]
    if not any(ranks):
        return f"raised {reason(error)}"
    frame = next(f for f, rank in zip(frames[::-1], ranks[::-1], strict=True) if rank == max(ranks))
    where = f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
    kept = keep_traceback("".join(traceback.format_exception(error)))
    return f"raised {reason(error)} ({where}); {kept}"


def _rank(path: Path) -> int:
    """Whose code a file is: 2 the user's, 1 a library's or ours, 0 Python's."""
    if path.is_relative_to(_OURS) or not _LIBRARIES.isdisjoint(path.parts):
        return 1
    return 0 if path.is_relative_to(_PYTHONS) or path.name.startswith("<frozen ") else 2


def _clipped(line: str) -> str:
    """A line without its middle, should something in it be endless."""
    if len(line) <= _LONGEST_MESSAGE:
        return line
    return f"{line[: _LONGEST_MESSAGE // 2]} ... {line[-_LONGEST_MESSAGE // 4 :]}"


class _Short(reprlib.Repr):
    """Python's shortened `repr`, which fails on whole numbers of more than 4,300 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxset = 3, 4, 6
        self.maxlist = self.maxtuple = 10
        self.maxstring = self.maxlong = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        digits = int(x.bit_length() * math.log10(2)) + 1
        return repr(x) if digits <= self.maxlong else f"a whole number of about {digits:,} digits"

    def repr_str(self, x: str, level: int) -> str:
        if len(x) <= self.maxstring:
            return repr(x)
        return f"{x[:40]!r}... ({len(x):,} characters)"


_SHORT = _Short()
_LONGEST_VALUE = 160
_LONGEST_LINE = 200  # characters of a foreign exception
_LONGEST_MESSAGE = 4_000  # of a line; two paths fit
_OURS, _PYTHONS = Path(__file__).parent, Path(os.__file__).parent
_LIBRARIES = {"site-packages", "dist-packages"}
