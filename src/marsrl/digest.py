"""Digests of source code: whether what trained something is still the same.

Nothing is imported: files are found by name, and read. Comments, docstrings and layout do not
count.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import threading
import tokenize
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

_SHAPE = {tokenize.INDENT: ">", tokenize.DEDENT: "<", tokenize.NEWLINE: "\n"}
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)
_OPENS, _CLOSES = (  # an f-string: several tokens from Python 3.12 on, one before
    {getattr(tokenize, f"{kind}STRING_{end}", None) for kind in "FT"} for end in ("START", "END")
)
_PARSING = threading.Lock()
"""One thread parses at a time: Python 3.11 loses count of its recursion (python/cpython#106905)."""
_TRAINS_NOTHING = {
    "bench", "report", "tune", "takeaway",
    "commands", "cli", "commandline", "console", "__main__", "seeing",
    "settings", "toml", "extras",
    "followers", "listing", "export", "monitor", "doctor", "check",
    "render", "draw", "film", "palette",
    "errors", "files", "lock", "sources",
}  # fmt: skip
"""Modules and packages of marsrl that change no number of a run; its configuration is recorded."""


def code_digest(module: str, folder: Path) -> str | None:
    """Twelve hex digits of a module, and of the files beside it that it imports.

    Args:
        module: its name, or the path of a file of Python.
        folder: where the user's modules are.

    Returns:
        None where there is no file.
    """
    start = file_of(module, folder)
    if start is None:
        return None
    found, todo = {}, [start]
    while todo:
        path = todo.pop()
        if path not in found:
            found[path] = text = path.read_text(errors="replace")
            todo += _beside(path, text)
    return _digest((path.name, text) for path, text in found.items())


@cache
def library_digest() -> str:
    """As `read_digest`, of the first call in this process."""
    return read_digest()


def read_digest() -> str:
    """Twelve hex digits of marsrl itself, as far as it decides the numbers of a run."""
    root = Path(__file__).parent
    paths = [
        path
        for path in root.rglob("*.py")
        if _TRAINS_NOTHING.isdisjoint(path.relative_to(root).with_suffix("").parts)
    ]
    return _digest_of(root, tuple((path, path.stat().st_mtime_ns) for path in sorted(paths)))


@lru_cache(maxsize=1)
def _digest_of(root: Path, files: tuple[tuple[Path, int], ...]) -> str:
    """Of files, which are read again only if one was written since."""
    return _digest(
        (str(path.relative_to(root)), path.read_text(errors="replace")) for path, _ in files
    )


def file_of(module: str, folder: Path) -> Path | None:
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
        nodes = _nodes(text)
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


def _nodes(text: str) -> list[ast.AST]:
    with _PARSING:
        return list(ast.walk(ast.parse(text)))


def _digest(files: Iterable[tuple[str, str]]) -> str:
    parts = sorted((name, _code(text)) for name, text in files)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _code(text: str) -> str:
    """What a source does, in a form that all versions of Python agree on."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        nodes = _nodes(text)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return text
    strings = [x for x in nodes if isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)]
    does_nothing = {(x.lineno, x.col_offset) for x in strings}  # docstrings, of values too
    parts, depth, start, lines = [], 0, (1, 0), list(io.StringIO(text))
    idle = False  # within a statement that is but a string
    for t in tokens:
        if t.type in _OPENS:
            start = start if depth else t.start
            depth += 1
        if t.type in _CLOSES:
            depth -= 1
            parts += [] if depth else [_between(lines, start, t.end)]
        elif not depth and t.type not in _NO_CODE:
            idle = idle or (t.type == tokenize.STRING and t.start in does_nothing)
            if not idle:
                parts.append(_SHAPE.get(t.type, t.string))
            idle = idle and t.type != tokenize.NEWLINE and t.string != ";"
    return "".join(parts)


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one place to another: lines from 1, columns from 0."""
    cut = lines[start[0] - 1 : end[0]]
    cut[-1] = cut[-1][: end[1]]
    cut[0] = cut[0][start[1] :]
    return "".join(cut)
