"""Labels: what a suite calls its methods, an objective with its settings.

`mars` is the objective alone, `mars@wide` the same objective under a name of its own. Parts with a
`=` are settings that the label itself makes: `mars@eps=0.4`, `mars@wide,eps=0.4,actor_lr=0.001`.
"""

from __future__ import annotations

import json
import re

from marsrl.errors import UserError, shown

_WORD = r"[\w.+-]+"
_PART = rf"{_WORD}(?:={_WORD})?"
_LABEL = re.compile(rf"(.+)@({_PART}(?:,{_PART})*)")

Scalar = bool | int | float | str


def objective_of(label: str) -> str:
    """The objective of a label: `mars` of `mars@wide`."""
    return _split(label)[0]


def base_of(label: str) -> str:
    """A label without the settings that it makes: `mars@wide` of `mars@wide,eps=0.4`."""
    objective, parts = _split(label)
    words = [part for part in parts if "=" not in part]
    return f"{objective}@{','.join(words)}" if words else objective


def settings_of(label: str) -> dict[str, Scalar]:
    """The settings that a label makes: `{"eps": 0.4}` of `mars@eps=0.4`."""
    _, parts = _split(label)
    pairs = (part.partition("=") for part in parts if "=" in part)
    return {name: _value(text) for name, _, text in pairs}


def with_settings(label: str, settings: dict[str, Scalar]) -> str:
    """A label that makes these settings besides its own.

    Raises:
        UserError: a value is a text that a label cannot hold.
    """
    parts = [*_split(label)[1], *(f"{name}={_text(value)}" for name, value in settings.items())]
    return f"{objective_of(label)}@{','.join(parts)}" if parts else label


def check_label(label: str) -> None:
    """Refuses an `@` that no name or settings follow, and a setting that is made twice.

    Raises:
        UserError: with the label and what was expected.
    """
    objective, parts = _split(label)
    names = [part.partition("=")[0] for part in parts if "=" in part]
    if len(set(names)) < len(names):
        raise UserError(f"{shown(label)} makes a setting twice")
    _, at, rest = objective.rpartition("@")
    if at and not re.search(r"[/:]", rest):  # a path may have one
        raise UserError(
            f"{shown(label)} is no name of a method; expected OBJECTIVE, OBJECTIVE@NAME or "
            "OBJECTIVE@SETTING=VALUE,..., with letters, digits and . + - _ behind the @"
        )


def _split(label: str) -> tuple[str, tuple[str, ...]]:
    """The objective and the parts behind the last `@`."""
    match = _LABEL.fullmatch(label)
    return (match[1], tuple(match[2].split(","))) if match else (label, ())


def _value(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if value is None else value


def _text(value: Scalar) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if not re.fullmatch(_WORD, text):
        raise UserError(
            f"{shown(value)} cannot be part of a name, expected letters, digits and . + - _; give "
            "such a setting in a table: [objective.NAME]"
        )
    return text
