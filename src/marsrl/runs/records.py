"""JSON that tells when it was damaged: one object in a file, or one in a line of a log.

Each carries, as its last key, the CRC-32 of all before it.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

from marsrl.errors import UserError

Row = dict[str, Any]

_CHECK = "check"
_LINE = re.compile(rb'(\{.*), "check": "([0-9a-f]{8})"\}', re.DOTALL)


class DamagedError(UserError):
    """A file that does not hold what was written to it."""


def to_line(row: Row) -> bytes:
    """A row of a log with its check; what is not finite becomes null."""
    text = json.dumps(finite(row), allow_nan=False).encode()
    return text[:-1] + f', "{_CHECK}": "{_crc(text)}"}}\n'.encode()


def has_check(line: bytes) -> bool:
    """Whether a line of a log ends with a check, right or wrong."""
    return _LINE.fullmatch(line) is not None


def from_line(line: bytes, checked: bool) -> Row | None:
    """The row of a line without its end; None if it is damaged.

    Args:
        line: as in the file.
        checked: whether it must carry a check; logs of old versions have none.
    """
    if checked:
        found = _LINE.fullmatch(line)
        if not found or _crc(text := found[1] + b"}") != found[2].decode():
            return None
        line = text
    row = _parse(line)
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    return row if type(row.get("seed")) is int and type(row.get("step")) is int else None


def to_file(content: Row) -> bytes:
    """An object as the text of a file of its own."""
    return (json.dumps(content | {_CHECK: _digest(content)}, indent=2) + "\n").encode()


def from_file(path: Path) -> Row:
    """The object of a file; one without a check, of an old version, is taken as it is.

    Raises:
        DamagedError: it cannot be read, is no JSON object, or its check differs.
    """
    content, is_sound = _read(path)
    if not is_sound:
        raise DamagedError(f"{path} was edited or damaged: its check differs")
    return content


def read_or_empty(path: Path) -> Row:
    """The object of a file; empty if it is not there, or damaged."""
    try:
        return from_file(path)
    except DamagedError:
        return {}


def unchecked(path: Path) -> Row:
    """The object of a file, whether or not its check is right.

    Raises:
        DamagedError: it cannot be read, or is no JSON object.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Row, bool]:
    """The object of a file, and whether its check is right; one without counts as sound."""
    try:
        content = _parse(path.read_bytes())
    except OSError as error:
        raise DamagedError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path} is damaged: expected a JSON object")
    checked, check = _CHECK in content, content.pop(_CHECK, None)
    return content, not checked or check == _digest(content)


def finite(value: Any) -> Any:
    """The same with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse(text: bytes) -> Any:
    """JSON, or None; which no object of ours is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _digest(content: Row) -> str:
    return _crc(json.dumps(content, sort_keys=True).encode())


def _crc(text: bytes) -> str:
    return f"{zlib.crc32(text):08x}"
