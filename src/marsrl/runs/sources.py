"""Whether the code of somebody's own that a run names is still the one that it was trained with.

That is told by a digest of its source; nothing is imported.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from itertools import groupby
from pathlib import Path

from marsrl.config import Config
from marsrl.digest import code_digest
from marsrl.envs.tasks import ENTRY_POINTS, TASKS
from marsrl.loading import HOST_LIBRARIES
from marsrl.runs.machine import describe_machine
from marsrl.runs.records import Row

NAMED = ("objective", "task", "network")
"""The settings that can name code."""


def made_with(config: Config) -> Row:
    """What a run's config.json says of the code: as `describe_machine`, and `own_sources`."""
    sources = own_sources(config, Path.cwd())
    return describe_machine() | ({"sources": sources} if sources else {})


def trained_with(content: Row) -> dict[str, tuple[str, ...]]:
    """The digests of own code that a run was begun and then went on with in turn, by `NAMED`.

    Args:
        content: of its config.json, whatever stands there.
    """
    later = content.get("resumed")
    sessions = [content, *(later if isinstance(later, list) else ())]
    notes = [note.get("sources") for note in sessions if isinstance(note, dict)]
    known = [note for note in notes if isinstance(note, dict)]
    found = {kind: [str(note[kind]) for note in known if kind in note] for kind in NAMED}
    return {
        kind: tuple(x for x, _ in groupby(digests)) for kind, digests in found.items() if digests
    }


def own_sources(config: Config, folder: Path) -> dict[str, str]:
    """The digests of a configuration's own code, by `NAMED`; of what has one."""
    names = names_of(config)
    found = {kind: source_digest(name, folder) for kind, name in names.items()}
    return {kind: digest for kind, digest in found.items() if digest}


def names_of(config: Config) -> dict[str, str]:
    """The names that may mean a user's own code, by `NAMED`."""
    return {kind: name for kind in NAMED if (name := getattr(config, kind))}


def source_digest(name: str, folder: Path) -> str | None:
    """Twelve hex digits of the file that a name means, and of those that it imports beside.

    Args:
        name: of an objective, a task or a network.
        folder: where the user's modules are.

    Returns:
        None for what comes with marsrl, whose own digest tells it, or with JaxMARL, whose version
        does; and where there is no file.
    """
    module = _module_of(name)
    return code_digest(module, folder) if module else None


def _module_of(name: str) -> str:
    """The module, or file, of a name of one's own; empty if it comes with a library."""
    library, _, rest = name.partition(":")
    if library in HOST_LIBRARIES:  # a module with an environment, or what a factory's name is
        return rest.rpartition(":")[0] or (rest if library == "pettingzoo" else "")
    module, colon, _ = name.rpartition(":")
    if colon:
        return "" if module == "jaxmarl" else module
    if "/" not in name or name in TASKS:
        return ""
    points = entry_points(group=ENTRY_POINTS, name=name)
    return next((point.value.partition(":")[0] for point in points), "")
