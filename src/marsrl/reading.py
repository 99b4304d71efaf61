"""JSON, TOML and numbers of others, read within limits: of size, of depth, and of digits."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from marsrl.errors import UserError, reason, shown

MAX_BYTES = 64 * 2**20
"""Largest JSON file; a full benchmark's list of runs has a tenth."""
MAX_TOML_BYTES = 2**18
"""Largest TOML file; suites have a few thousand."""
MAX_DEPTH = 32
"""Tables in tables; ours have five."""
MAX_DIGITS = 20
"""Of a whole number: none that means anything has more than 64 bits."""
_BARE = r"[^\s.=,\[\]{}\"']"
_PART = rf"""(?:(?<!{_BARE}){_BARE}++|"[^"\n]*+"|'[^'\n]*+')"""
_ENDLESS_KEY = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
"""A dotted key, for which the standard library takes the square of its parts in time."""


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: it cannot be read, is no JSON, or beyond the limits; the message names the file.
    """
    text = _text(path, MAX_BYTES)
    try:
        return parse_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def parse_json(text: str) -> Any:
    """Reads JSON within the limits.

    Raises:
        UserError: it is no JSON, or beyond the limits.
    """
    try:
        value = json.loads(text, parse_int=_short_number)
    except ValueError as error:
        raise UserError(f"it is not JSON: {reason(error)}") from error
    except RecursionError as error:
        raise UserError(_TOO_DEEP) from error
    _check_depth(value)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        UserError: it cannot be read, is no TOML, or beyond the limits; the message names the file.
    """
    text = _text(path, MAX_TOML_BYTES)
    try:
        return parse_toml(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Reads TOML within the limits.

    Raises:
        UserError: it is no TOML, or beyond the limits.
    """
    if endless := _ENDLESS_KEY.search(text):
        number = text.count("\n", 0, endless.start()) + 1
        raise UserError(f"line {number} has a key of more than {MAX_DEPTH} parts")
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(reason(error).removeprefix("TOMLDecodeError: ")) from error
    except ValueError as error:  # Python's limit of 4,300 digits
        raise UserError(f"it has a whole number of more than {MAX_DIGITS} digits") from error
    except RecursionError as error:
        raise UserError(_TOO_DEEP) from error
    _check_depth(value)
    return value


_TOO_DEEP = f"it is nested too deeply, expected at most {MAX_DEPTH} levels"


def _text(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise UserError(f"{path} has more than {most:,} bytes, expected at most that")
        return content.decode()
    except UnicodeError as error:
        raise UserError(f"{path} is no text: {reason(error)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error


def whole_number(word: str) -> int:
    """Reads `12`, `1_000_000` or `1e6`.

    Raises:
        ValueError: it is no whole number, or one of more than 100 digits.
    """
    if not re.fullmatch(r"[+-]?\d[\d_]*(\.\d*)?([eE][+]?\d{1,2})?", word) or len(word) > 100:
        raise ValueError(f"{shown(word)} is no whole number, such as 1000000 or 1e6")
    mantissa, _, exponent = word.replace("_", "").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0")
    zeros = int(exponent or 0) - len(fraction)
    if zeros < 0:
        raise ValueError(f"{shown(word)} is no whole number, such as 1000000 or 1e6")
    return int(whole + fraction) * 10**zeros


def _short_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{shown(digits)} has more than {MAX_DIGITS} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    """Refuses depth, and whole numbers as long as TOML allows them, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, int) and abs(item) >= 10**MAX_DIGITS:
                raise UserError(f"{shown(item)} has more than {MAX_DIGITS} digits")
        if not inner:
            return
        level = inner
    raise UserError(_TOO_DEEP)
