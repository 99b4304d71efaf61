"""From the words of a command line to a command, with one line for whatever is wrong with them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from marsrl.config import SHARED, Sharing
from marsrl.errors import UserError, closest, near_misses, printable, shown
from marsrl.reading import whole_number
from marsrl.runs.followers import NAMES
from marsrl.settings import seeds

Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Checkpoint = Annotated[str, tyro.conf.arg(metavar="best|latest|STEPS")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
ConfigFile = Annotated[Path | None, tyro.conf.arg(name="config", metavar="FILE")]
_followers = " ".join(f"[{name}]" for name in NAMES)
Log = Annotated[tuple[str, ...], tyro.conf.arg(metavar=_followers)]

_HELP = {"-h", "-H", "--help", "--help-verbose"}
_LONGEST_WORD = 4096  # of a command line: longer than any path
_LONGEST_LINE = 250
_NO_PARSE = "Could not find valid parse for arguments: "
_words = ConstructorRegistry()


@_words.primitive_rule
def _whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[int] | None:
    """Whole numbers also as 1e6 and 1_000_000."""
    if info.type is not int:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


@_words.primitive_rule
def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
    """Numbers, with a sentence for what is none."""
    if info.type is not float:
        return None

    def number(words: list[str]) -> float:
        with contextlib.suppress(ValueError):
            if math.isfinite(value := float(words[0])):
                return value
        raise ValueError(f"{shown(words[0])} is no number, such as 0.2 or 1e-3")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=number,
        is_instance=lambda value: isinstance(value, float | int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


@_words.primitive_rule
def _seeds(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[tuple[int, ...]] | None:
    """Lists of whole numbers, which are seeds, also as 0-4."""
    if (get_origin(info.type), get_args(info.type)) != (tuple, (int, ...)):  # or Tuple[int, ...]
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[INT|INT-INT [...]]",
        instance_from_str=seeds,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [*map(str, value)],
    )


@_words.primitive_rule
def _sharing(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool | str] | None:
    """Who shares parameters, by name."""
    if info.type != Sharing:
        return None

    def of_name(words: list[str]) -> str:  # which `Config` understands
        if words[0] not in SHARED:
            hint = closest(words[0], SHARED)
            raise ValueError(f"{shown(words[0])} is none of {', '.join(SHARED)}{hint}")
        return words[0]

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(SHARED)}}}",
        instance_from_str=of_name,
        is_instance=lambda value: isinstance(value, bool) or value == "groups",
        str_from_instance=lambda value: ["all" if value is True else value or "none"],
    )


def _with_values(args: list[str]) -> list[str]:
    """Spells out `--share-parameters` and `--no-share-parameters`, flags without a value."""
    spelled: list[str] = []
    for word, after in itertools.pairwise([*args, "--"]):
        bare = word == "--share-parameters" and after.startswith("--")
        spelled += ["--share-parameters", "none"] if word == "--no-share-parameters" else [word]
        spelled += ["all"] if bare else []
    return spelled


def parse(commands: Any, args: list[str], description: str) -> Any:
    """The command that the words mean.

    Args:
        commands: a union of dataclasses, as tyro takes it.
        args: the words after the program's name.
        description: of the program.

    Raises:
        UserError: an unknown command or option (near misses named), or a value that does not fit.
        SystemExit: with 0, help was asked for and printed.
    """
    for word in args:
        if len(word) > _LONGEST_WORD:
            raise UserError(f"{shown(word)} is too long for a word of a command line")
    command = _find_command(commands, args)
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error):
            return _parsed(commands, args, description)
    except SystemExit as end:
        if not end.code:
            raise
    error = io.StringIO()
    with _one_line_boxes(), contextlib.redirect_stderr(error), contextlib.suppress(SystemExit):
        _parsed(commands, args, description)  # again, for a text without line breaks
    raise UserError(_line_of(error.getvalue(), command, args))


def _parsed(commands: Any, args: list[str], description: str) -> Any:
    with _words:
        return tyro.cli(commands, args=_with_values(args), prog="marsrl", description=description)


def _find_command(commands: Any, args: list[str]) -> Any:
    """The dataclass of the command that the first words name."""
    names = {_name(kind): kind for kind in _members(commands)}
    first = args[0] if args else ""
    if first in _HELP or first.startswith("--tyro-"):
        return commands
    if first not in names:
        wrong = f"{shown(first)} is no command" if first else "expected a command"
        raise UserError(f"{wrong}{near_misses(first, names)}")
    kind = names[first]
    inner = [f for f in dataclasses.fields(kind) if f.name == "command"]
    if inner:
        return _find_command(get_type_hints(kind, include_extras=True)["command"], args[1:])
    return kind


def _members(kind: Any) -> list[Any]:
    """The dataclasses of a union, out of what they are annotated with."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return [kind]


def _name(kind: Any) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower().removesuffix("-command")


def _options(kind: Any) -> Iterator[str]:
    """The options of a command, those of the dataclasses in it among them."""
    for member in _members(kind):
        if dataclasses.is_dataclass(member):
            hints = get_type_hints(member, include_extras=True)
            for field in dataclasses.fields(member):
                hint = hints[field.name]
                notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
                if tyro.conf.Positional not in notes:
                    given = [name for note in notes if (name := getattr(note, "name", None))]
                    name = (given or [field.name])[0].replace("_", "-")
                    yield from list(_options(hint)) or [f"--{name}"]


def _line_of(box: str, command: Any, args: list[str]) -> str:
    """What tyro drew as a box, as a line."""
    lines = [re.sub(r"^[\s│]*|[\s│]*$", "", line) for line in box.splitlines()]
    said = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    if not box.lstrip().startswith("╭"):  # without Unicode the title is a line, and a rule follows
        said = said[2:]
    end = next((i for i, line in enumerate(said) if set(line) <= {"─", "-"}), len(said))
    message = printable(" ".join(said[:end])) or "the command line cannot be read"
    unknown = re.match(r"Unrecognized (?:or misplaced )?options: (.*)", message)
    word = re.split(r", | |=", unknown[1])[0] if unknown else ""
    if message.startswith("Missing"):  # perhaps because its name was misspelled
        word = next((w for w in args if w.startswith("--") and not _is_option(w, command)), "")
    if word:
        hint = closest(word, list(_options(command))) if word.startswith("-") else ""
        return f"{shown(word)} is not understood{hint or '; see --help'}"
    message = _shorter(message)
    if cannot := re.match(r"(\S+): cannot be .*", message):
        takes = next((line for line in lines if line.startswith(f"{cannot[1]} ")), "")
        message += f", expected {takes or f'what {cannot[1]} takes, see --help'}"
    return message if len(message) < _LONGEST_LINE else f"{message[:_LONGEST_LINE]}..."


def _is_option(word: str, command: Any) -> bool:
    name = word.partition("=")[0].replace("_", "-")
    return name in _HELP or name.replace("--no-", "--", 1) in _options(command)


def _shorter(message: str) -> str:
    """One of tyro's messages without what only a programmer needs."""
    message = re.sub(r"^Error parsing (\S+): ", r"\1: ", message).replace(_NO_PARSE, "cannot be ")
    message = re.sub(r": no type matching .*<class '(?:int|float)'>: ", ": ", message)
    message = re.sub(r": no type matching .* from (\[.*?\])\. Got .*", r": cannot be \1", message)
    message = message.replace("Failed to parse key-value pairs!", "expected pairs of NAME VALUE")
    positional = re.match(r"Missing value for argument '(?:command\.)?(\w+)'", message)
    return f"expected {positional[1].upper()}" if positional else message


@contextlib.contextmanager
def _one_line_boxes() -> Iterator[None]:
    """Lets tyro draw its boxes so wide that nothing in them is wrapped."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
