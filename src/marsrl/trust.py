"""Loading is not running: code that a file names runs only for those who say that they trust it."""

from __future__ import annotations

import os
from pathlib import Path

from marsrl.errors import UserError, shown
from marsrl.loading import HOST_LIBRARIES, is_code

VARIABLE = "MARSRL_TRUST"
"""Environment variable; 1 trusts every file."""
KINDS = ("task", "objective", "network")
"""The settings of a configuration that can name code."""


def check_trusted(kind: str, name: str, source: Path, trust: bool) -> None:
    """Refuses a name out of a file that means code of somebody's, unless it is trusted.

    Args:
        kind: one of `KINDS`.
        name: as the file has it.
        source: the file.
        trust: whether a person has said so in this call.

    Raises:
        UserError: with the name, the file and the way out.
    """
    if trust or os.environ.get(VARIABLE) == "1" or not is_foreign(kind, name):
        return
    raise UserError(
        f"{source} names the {kind} {shown(name)}, which is code that would run here; if you trust "
        f"it, add --trust (in Python trust=True) or set {VARIABLE}=1"
    )


def is_foreign(kind: str, name: str) -> bool:
    """Whether the name of a task, objective or network means somebody's code.

    A task `jaxmarl:NAME` is an environment of JaxMARL; nothing else of that name is.
    """
    library, colon, _ = name.partition(":")
    if kind == "task" and colon and library in ("jaxmarl", *HOST_LIBRARIES):
        return library != "jaxmarl"
    return is_code(name)
