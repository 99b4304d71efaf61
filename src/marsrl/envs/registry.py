"""Environments by name, imported when they are made.

A name is one of

- "family/task": one of the 47 of `marsrl.envs.tasks`, or a task of an installed package
- "jaxmarl:NAME": any environment of JaxMARL
- "module:factory": a class or function of yours, called without arguments
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from marsrl.envs.base import Environment
from marsrl.envs.check import NonconformingEnvironment, check_interface
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.errors import UserError, near_misses, reason

ENTRY_POINTS = "marsrl.envs"
"""Group in which a package offers tasks: name "family/task", value "module:factory"."""


def make(task: str, **settings: Any) -> Environment:
    """Makes an environment by name.

    Args:
        task: see the module's docstring.
        settings: keyword arguments of the environment's factory, over those of the task.

    Raises:
        UserError: an unknown name or setting (near misses named), a library that is not
            installed, a value that the environment cannot have, or an environment of somebody
            else's that cannot be made or breaks the interface.
    """
    env = make_unchecked(task, **settings)
    if task not in TASKS:
        try:
            check_interface(env)
        except NonconformingEnvironment as error:
            first, *more = error.failures
            rest = f" (and {len(more)} more: marsrl check-env {task})" if more else ""
            raise UserError(f"{task} breaks the environment interface: {first}{rest}") from error
    return env


def make_unchecked(task: str, **settings: Any) -> Environment:
    """Makes an environment as `make` does, without a look at what came out."""
    factory, own = _find(task)
    _check_names(task, factory, settings)
    if task in TASKS:
        return factory(**(own | settings))
    return _guarded(f"making {task!r}", factory, **(own | settings))


def installed_tasks() -> dict[str, EntryPoint]:
    """Tasks that other installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _find(task: str) -> tuple[Callable[..., Environment], dict[str, Any]]:
    """The factory of a task, and the settings that make it this task."""
    if task in TASKS:
        return _load(FAMILIES[task.partition("/")[0]].factory), TASKS[task].settings
    if task in (others := installed_tasks()):
        return _guarded(f"loading {task!r}", others[task].load), {}
    module, colon, name = task.partition(":")
    if module == "jaxmarl" and colon:
        return partial(_load("marsrl.envs.adapters.jaxmarl:any_jaxmarl"), name), {}
    if colon:
        return _load(task), {}
    family, names = module.partition("/")[0], [*TASKS, *others]
    siblings = [known for known in names if known.startswith(f"{family}/")]
    if siblings:
        raise UserError(f"unknown task {task!r}{near_misses(task, siblings)}")
    families = list(dict.fromkeys(known.partition("/")[0] for known in names))
    raise UserError(f"task {task!r} is of no known family{near_misses(family, families)}")


def _load(path: str) -> Callable[..., Environment]:
    """Imports "module:factory"."""
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise UserError(f"{path!r} is no factory; expected module:factory, such as my_envs:make")
    members = vars(_guarded(f"importing {module!r} of {path!r}", import_module, module))
    if not callable(members.get(name)):
        own = [n for n, x in members.items() if getattr(x, "__module__", None) == module]
        raise UserError(f"{module} has no factory {name!r}{near_misses(name, own)}")
    return members[name]


def _guarded(what: str, call: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Calls what others wrote; whatever it raises becomes one line."""
    try:
        return call(*args, **settings)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} raised {reason(error)}") from error


def _check_names(task: str, factory: Callable[..., Any], settings: dict[str, Any]) -> None:
    known = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        return
    names = [parameter.name for parameter in known]
    for name in settings:
        if name not in names:
            raise UserError(f"{task} has no setting {name!r}{near_misses(name, names)}")
