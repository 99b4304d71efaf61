"""Writing files that a crash, of the process or the machine, leaves whole."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from pathlib import Path
from uuid import uuid4

from marsrl.errors import UserError, shown

TEMPORARY = ".tmp"
"""How the name of a file or folder ends that is not complete yet."""


_LONGEST = 100  # bytes of a name in that of a temporary file


def temporary(path: Path) -> Path:
    """A name beside a path that no other process, of any host, takes for its own."""
    name = os.fsencode(path.name)[:_LONGEST].decode(errors="ignore")
    return path.with_name(f".{name}.{uuid4().hex}{TEMPORARY}")


def is_temporary(other: Path, path: Path) -> bool:
    """Whether a name is one that `temporary` has made for this path, and not for another."""
    if len(os.fsencode(path.name)) > _LONGEST:
        return False  # it may be another's that begins alike
    pattern = re.escape(f".{path.name}.") + "[0-9a-f]{32}" + re.escape(TEMPORARY)
    return re.fullmatch(pattern, other.name) is not None


def leftovers(folder: Path) -> list[Path]:
    """What an interruption left in a folder under a temporary name; none if it is not there."""
    return sorted(folder.glob(f"*{TEMPORARY}"))


def remove_leftovers(folder: Path) -> None:
    """Deletes those."""
    for path in leftovers(folder):
        remove(path)


def path_of(value: object, name: str) -> Path:
    """What a caller gave as a path.

    Args:
        value: what was given.
        name: of the argument, for the message.

    Raises:
        UserError: it is neither text nor a path.
    """
    if isinstance(value, str | os.PathLike) and isinstance(path := os.fspath(value), str):
        return Path(path)
    raise UserError(f"{name} is {shown(value)}, expected a path")


def numbered(path: Path) -> Path:
    """The first of `PATH-1`, `PATH-2` and so on that is not there."""
    names = (path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def unused(path: Path) -> Path:
    """The path itself, or the first numbered one if something is there."""
    return numbered(path) if path.exists() else path


def check_new(path: Path, where: str = "--out") -> None:
    """Refuses to write over something.

    Args:
        path: to be written.
        where: what names it.

    Raises:
        UserError: something is there.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists; choose another {where}")


def check_named(path: Path) -> None:
    """Refuses a place that cannot be written beside and renamed, such as the current folder.

    Raises:
        UserError: it has no name of its own.
    """
    if path.name in ("", ".."):
        raise UserError(f"{path} has no name of its own; expected one, such as {path / 'mine'}")


def write_beside(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing, and the last of many writers wins.

    Raises:
        UserError: a folder is in its place.
        OSError: it cannot be written.
    """
    if path.is_dir():
        raise UserError(f"cannot write {path}: a folder of that name is in its place")
    partial = temporary(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or the new name may outlive a power cut, and the content not
        partial.replace(path)
    except OSError as error:  # a full disk, say: what is there of it is of no use
        with contextlib.suppress(OSError):
            partial.unlink()
        # not every error names a file, and nobody knows the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync(path.parent)


def sync(path: Path) -> None:
    """Asks for a file, or the names in a folder, to be on the disk; where it can be asked for."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Deletes a file, a link or a whole folder; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
