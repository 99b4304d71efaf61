"""Errors that a user can act on: one clear line, no traceback on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, explained in one line that names the value and what was expected."""


def near_misses(name: str, known: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the closest known ones, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known)}"
