"""Errors that a user can act on: one clear line, no traceback on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, explained in one line that names the value and what was expected.

    Not a ValueError: the command line's parser would wrap those in a text of its own.
    """


def near_misses(name: str, known: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the closest known ones, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known)}"
