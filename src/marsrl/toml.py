"""TOML as marsrl writes it: values as text, and in which line of a file a key stands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from typing import Any

Keys = tuple[str, ...]


def to_toml(values: dict[str, Any], head: Keys = ()) -> str:
    """A file with these values; tables in tables get a head of their own, `[family.lbf]`."""
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"{_key(key)} = {_plain(x)}\n" for key, x in values.items() if key not in tables]
    if head and (lines or not tables):
        lines.insert(0, f"[{'.'.join(map(_key, head))}]\n")
    parts = ["".join(lines)] if lines else []
    return "\n".join([*parts, *(to_toml(table, (*head, key)) for key, table in tables.items())])


def line_of(places: Iterable[Keys], text: str) -> int | None:
    """The line of a TOML text that opens a table or sets a key; None if none does.

    Args:
        places: where to look, the best first, as the keys on the way there. If none of them is in
            the text, the tables around the first one are.
        text: of the file.
    """
    places = list(places)
    around = [place[:length] for place in places[:1] for length in range(len(place) - 1, 0, -1)]
    found = list(_paths(text))
    for place in (*places, *around):
        for number, path in found:
            if place and path[: len(place)] == place:
                return number
    return None


def _paths(text: str) -> Iterable[tuple[int, Keys]]:
    """The lines that open a table or set a key, with the keys on the way there."""
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*\[([^\[\]]+)\]", line)
        entry = re.match(r"([^=#\[\]{}]+)=", line)
        if head:
            table = _path(head[1])
            yield number, table
        elif entry:
            yield number, (*table, *_path(entry[1]))


def _path(dotted: str) -> Keys:
    """The parts of a TOML key, some of which may be quoted; () if it is none."""
    try:
        value = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path = []
    while isinstance(value, dict):
        ((key, value),) = value.items()
        path.append(key)
    return tuple(path)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _plain(name)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON's plain values and lists are TOML's too
