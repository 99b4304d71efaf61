"""Whether an objective of a user's own is still the one that was trained: a digest of its source.

Nothing is imported: the files are found by name, and read.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import tokenize
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from marsrl.bench.locks import FileLock
from marsrl.bench.plan import Job
from marsrl.errors import UserError
from marsrl.files import write_beside

_SHAPE = {tokenize.INDENT: ">", tokenize.DEDENT: "<", tokenize.NEWLINE: "\n"}
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)


def source_digest(objective: str, folder: Path) -> str | None:
    """Twelve hex digits of an objective's file, and of those beside it that it imports.

    Comments and empty lines do not count.

    Args:
        objective: its name.
        folder: where the user's modules are.

    Returns:
        None for an objective of marsrl, whose source its commit tells, and where there is no file.
    """
    where, colon, _ = objective.rpartition(":")
    start = _file_of(where, folder) if colon else None
    if start is None:
        return None
    found, todo = {}, [start]
    while todo:
        path = todo.pop()
        if path not in found:
            found[path] = text = path.read_text(errors="replace")
            todo += _beside(path, text)
    parts = sorted((path.name, _code(text)) for path, text in found.items())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def check_sources(jobs: Iterable[Job], folder: Path) -> None:
    """Refuses to go on with jobs whose objective has changed since they were begun.

    Raises:
        UserError: there is such a job.
    """
    for job in jobs:
        if has_changed(job, folder):
            name = job.config.objective
            raise UserError(
                f"{name} has changed since {job.name} was begun: what the store has of it is of "
                f"another objective; train it anew with --retrain {name}, or give it another name"
            )


def has_changed(job: Job, folder: Path) -> bool:
    """Whether the objective of a job that has begun was another one then."""
    before, now = recorded(job), source_digest(job.config.objective, folder)
    return job.folder.exists() and None not in (before, now) and before != now


def recorded(job: Job) -> str | None:
    """The digest that was noted when a job was begun."""
    try:
        text = job.source.read_text().strip()
    except (OSError, UnicodeError):
        return None
    return text if text.isalnum() else None


def note_source(job: Job, folder: Path) -> None:
    """Notes the digest of the objective of a job that is about to begin."""
    digest = source_digest(job.config.objective, folder)
    if not job.folder.exists() and digest is not None:
        write_beside(job.source, f"{digest}\n".encode())


def set_aside(job: Job, folder: Path) -> bool:
    """Renames the folder of a job, so that it is trained anew; False if there is nothing to do.

    Done for objectives of marsrl always, for a user's own only if they have changed: the same call
    again, after an interruption, leaves alone what was trained since.

    Raises:
        UserError: somebody trains it.
    """
    unchanged = source_digest(job.config.objective, folder) == recorded(job) is not None
    if unchanged or not job.folder.exists():
        return False
    lock = FileLock(job.lock)
    lock.take()
    try:
        number = 1
        while (aside := job.folder.with_name(f"{job.folder.name}.retired-{number}")).exists():
            number += 1
        job.folder.rename(aside)
        for path in (job.source, job.failure):
            path.unlink(missing_ok=True)
    finally:
        lock.release()
    return True


def _file_of(module: str, folder: Path) -> Path | None:
    """The file of `module` or `path/file.py`; the user's folder comes first."""
    if module.endswith(".py"):
        return path if (path := folder / module).is_file() else None
    here = folder.joinpath(*module.split("."))
    for path in (here.with_suffix(".py"), here / "__init__.py"):
        if path.is_file():
            return path
    if "." in module or module in sys.builtin_module_names:  # finding a part imports the whole
        return None
    spec = find_spec(module)
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def _beside(path: Path, text: str) -> list[Path]:
    """The files in the same folder that a file imports."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names |= {module, *(f"{module}.{a.name}".lstrip(".") for a in node.names)}
    found = [path.parent.joinpath(*name.split(".")) for name in names if name]
    return [p for stem in found for p in (stem.with_suffix(".py"), stem / "__init__.py")
            if p.is_file()]  # fmt: skip


def _code(text: str) -> str:
    """A source without comments and layout, in a form that all versions of Python agree on."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return text
    return "".join(_SHAPE.get(t.type, t.string) for t in tokens if t.type not in _NO_CODE)
