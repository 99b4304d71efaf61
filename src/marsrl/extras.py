"""Optional libraries, imported on use."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
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
    try:
        with quiet():
            return import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(str(error.name), extra) from error


def check_installed(module: str, extra: str) -> None:
    """Refuses, like `require`, a library that is not installed; it is not imported."""
    if find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> UserError:
    return UserError(f"{module} is not installed; type: pip install 'marsrl[{extra}]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Swallows warnings and prints; leaves the standard streams as they were."""
    # Importing jaxmarl puts the dunder streams in the others' place, and prints to those.
    names = ("stdout", "stderr", "__stdout__", "__stderr__")
    streams = [getattr(sys, name) for name in names]
    muted = [_Muted(name) for name in names]
    try:
        for name, stream in zip(names, muted, strict=True):
            setattr(sys, name, stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, stream in zip(names, streams, strict=True):
            setattr(sys, name, stream)
        for stream in muted:
            stream.muted = False


class _Muted(io.TextIOBase):
    """Swallows what is written; once unmuted, stands for the standard stream of its name.

    A log handler that is made during an import keeps the stream that it finds, for ever.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.muted = True

    def write(self, text: str, /) -> int:
        stream = None if self.muted else getattr(sys, self.name)
        return len(text) if stream is None else stream.write(text)
