"""The rooms of the code, as docs/architecture.md has them, and the imports as the code has them."""

import ast
import pkgutil
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import marsrl

SOURCE = Path(marsrl.__file__).parent
MODULES = ("marsrl", *sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "marsrl.")))
PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()


class Room(NamedTuple):
    """A row of the table."""

    name: str
    patterns: tuple[str, ...]
    imports: frozenset[str]
    may_import_jax: bool
    but_not: tuple[str, ...]


def read_rooms():
    """The rows of the table by name, from the top to the bottom."""
    rooms = {}
    for line in PAGE.partition("| room | modules |")[2].partition("\n\n")[0].splitlines()[2:]:
        name, modules, _, imports, jax = (cell.strip() for cell in line.split("|")[1:-1])
        names = frozenset(filter(None, imports.split(", ")))
        rooms[name] = Room(name, quoted(modules), names, jax != "no", quoted(jax))
    return rooms


def named_after(words):
    """What the page has in backticks in the sentence that begins so, behind its colon."""
    sentence = re.search(rf"{words}(.*?)\.\s", PAGE, re.DOTALL)[1]
    return quoted(sentence.rpartition(":")[2])


def quoted(text):
    return tuple(re.findall(r"`([^`]+)`", text))


def short(module):
    """The name in the table."""
    return module.removeprefix("marsrl.") if module != "marsrl" else "__init__"


def matches(module, pattern):
    name = short(module)
    return fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")


def room_of(module, rooms):
    """The name of the first room that has a module; None if none has."""
    for room in rooms.values():
        if any(matches(module, pattern) for pattern in room.patterns):
            return room.name
    return None


@cache
def _imported(module):
    """The pairs of what a module imports by name, in functions too: (a, b) of `from a import b`.

    The project has no relative imports; one would fail here.
    """
    pairs = set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.Import):
            pairs |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            pairs |= {(node.module, alias.name) for alias in node.names}
    return pairs


def imports(module):
    """All that a module imports: `a.b` and, for `from a import b`, both `a` and `a.b`."""
    names = {name for a, b in _imported(module) for name in (a, f"{a}.{b}".rstrip("."))}
    return {name for name in names if name in MODULES or not name.startswith("marsrl")}


def direct_imports(module):
    """The modules of the project that a module means: of `from a import b` a.b, if it is one."""
    found = {f"{a}.{b}" if f"{a}.{b}" in MODULES else a for a, b in _imported(module)}
    return found & set(MODULES)


def file_of(module):
    file = SOURCE.joinpath(*module.split(".")[1:])
    return file / "__init__.py" if file.is_dir() else file.with_suffix(".py")


def used_rooms(room, rooms):
    """The other rooms from which the modules of a room import."""
    used = set()
    for module in MODULES:
        if room_of(module, rooms) == room.name:
            # `from package import module` means the module
            named = {name for name in imports(module) if name.startswith("marsrl.")}
            used |= {room_of(name, rooms) for name in named}
    return used - {room.name}


def picture(rooms):
    """A line for each level, the highest first: what imports of others only from lines below."""
    level = {}
    for room in reversed(rooms.values()):
        level[room.name] = 1 + max((level[name] for name in room.imports), default=0)
    lines = [
        "    ".join(name for name in rooms if level[name] == height)
        for height in range(max(level.values()), 0, -1)
    ]
    return "\n".join(lines)
