"""Other libraries' environments behind our interface; one file per library, imported on use."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType

from marsrl.errors import UserError


def require(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional library, without its warnings and prints.

    Args:
        module: what to import, such as `jumanji.environments`.
        extra: the extra of this package that installs it.

    Raises:
        UserError: it is not installed; the line says what to type.
    """
    streams = sys.stdout, sys.stderr  # importing jaxmarl puts the interpreter's own in their place
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.stdout = sys.stderr = _Silent()
            return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; type: pip install 'marsrl[{extra}]'"
        ) from error
    finally:
        sys.stdout, sys.stderr = streams


class _Silent:
    """A stream that swallows what is written to it."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False
