"""Code that a person names: `module:factory` or `path/file.py:factory`, and calling it."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from marsrl.errors import UserError, near_misses, raised, shown

_PYTHONS_OWN = sys.stdlib_module_names | {"test"}  # Python leaves its own tests out
LONGEST = 200
"""Characters of a name."""
HOST_LIBRARIES = ("pettingzoo", "gymnasium")
"""Libraries whose environments are named `library:name`, where the name can be any code."""


def is_code(name: str) -> bool:
    """Whether a name has the shape `module:factory` or `path/file.py:factory`."""
    return _parts(name) is not None


def load(name: str) -> Callable[..., Any]:
    """Imports a factory; a file or module of the current folder comes first.

    Args:
        name: "module:factory" or "path/file.py:factory".

    Raises:
        UserError: it has another shape, cannot be imported, or is no function or class, or one of
            Python's own, which nobody made to be called here.
    """
    parts = _parts(name)
    if parts is None:
        raise UserError(
            f"{shown(name)} is no factory; expected module:factory, such as my_envs:make, or "
            "path/file.py:factory"
        )
    where, factory = parts
    if where.endswith(".py"):
        module = _load_file(Path(where).absolute(), name)
    else:
        module = _load_module(where, name)
    members = vars(module)
    found: Any = members.get(factory)
    if _is_factory(found):
        if _is_pythons_own(found):
            raise UserError(f"{name} is Python's own {shown(found)}, expected a factory of yours")
        return found
    own = [n for n, x in members.items() if getattr(x, "__module__", None) == module.__name__]
    raise UserError(f"{where} has no factory {shown(factory)}{near_misses(factory, own)}")


def guarded(what: str, call: Callable[..., Any], /, *args: Any, **settings: Any) -> Any:
    """Calls what others wrote; whatever it raises, `sys.exit` too, becomes a UserError."""
    try:
        return call(*args, **settings)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} {raised(error)}") from error


def _parts(name: str) -> tuple[str, str] | None:
    """Module or file, and factory; None if the name is none."""
    if len(name) > LONGEST or not name.isprintable():
        return None
    where, colon, factory = name.rpartition(":")
    right = where.endswith(".py") or all(part.isidentifier() for part in where.split("."))
    return (where, factory) if colon and right and factory.isidentifier() else None


def _load_module(module: str, name: str) -> ModuleType:
    here = Path.cwd().joinpath(*module.split("."))
    mine = [p for p in (here / "__init__.py", here.with_suffix(".py")) if p.is_file()]
    is_pythons = module.partition(".")[0] in _PYTHONS_OWN
    if mine and (is_pythons or not _is_importable_as(module, mine[0])):
        return _load_file(mine[0], name)
    if is_pythons:
        raise UserError(
            f"{name} is of Python's own module {module!r}, expected a factory of yours; there is "
            f"no {here.name}.py in {shown(str(here.parent))}"
        )
    return guarded(f"importing {module!r} of {name!r}", import_module, module)


def _is_importable_as(module: str, path: Path) -> bool:
    """Whether an import of the module gives this file, and not one of the same name elsewhere."""
    try:
        spec = find_spec(module)
    except Exception:  # a parent that fails, or is of another kind
        return False
    origin = spec and spec.origin
    return origin is not None and Path(origin).resolve() == path.resolve()


def _load_file(path: Path, name: str) -> ModuleType:
    """A file as a module, under a name of its own; the same one each time."""
    if not path.is_file():
        raise UserError(f"{shown(name)} names no file: {shown(str(path))} does not exist")
    key = f"{path.stem}_{hashlib.sha256(bytes(path.resolve())).hexdigest()[:12]}"
    if key in sys.modules:
        return sys.modules[key]
    spec = spec_from_file_location(key, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{shown(name)} cannot be imported, expected a file of Python")
    module = module_from_spec(spec)
    sys.modules[key] = module  # dataclasses look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for the files beside it
    try:
        guarded(f"importing {shown(name)}", spec.loader.exec_module, module)
    except BaseException:
        del sys.modules[key]
        raise
    return module


def _is_factory(value: Any) -> bool:
    if isinstance(value, partial):
        return True
    return callable(value) and (inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value)))


def _is_pythons_own(factory: Any) -> bool:
    """Whether it is of the standard library; a `partial` is what it calls."""
    while isinstance(factory, partial):
        factory = factory.func
    home = getattr(inspect.unwrap(factory), "__module__", None) or "builtins"
    return home.partition(".")[0] in _PYTHONS_OWN
