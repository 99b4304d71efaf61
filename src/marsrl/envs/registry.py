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
from marsrl.envs.check import check_interface
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.errors import UserError, near_misses

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
            else's that breaks the interface.
    """
    factory, own = _find(task)
    _check_names(task, factory, settings)
    env = factory(**(own | settings))
    if task not in TASKS:
        check_interface(env)
    return env


def installed_tasks() -> dict[str, EntryPoint]:
    """Tasks that other installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _find(task: str) -> tuple[Callable[..., Environment], dict[str, Any]]:
    """The factory of a task, and the settings that make it this task."""
    if task in TASKS:
        return _load(FAMILIES[task.partition("/")[0]].factory), TASKS[task].settings
    if task in (others := installed_tasks()):
        return _load(others[task].value), {}
    module, colon, name = task.partition(":")
    if module == "jaxmarl" and colon:
        return partial(_load("marsrl.envs.adapters.jaxmarl:any_jaxmarl"), name), {}
    if colon:
        return _load(task), {}
    family, names = task.partition("/")[0], [*TASKS, *others]
    siblings = [name for name in names if name.startswith(f"{family}/")]
    if siblings:
        raise UserError(f"unknown task {task!r}{near_misses(task, siblings)}")
    families = list(dict.fromkeys(name.partition("/")[0] for name in names))
    raise UserError(f"task {task!r} is of no known family{near_misses(family, families)}")


def _load(path: str) -> Callable[..., Environment]:
    """Imports "module:factory"."""
    module, _, name = path.partition(":")
    try:
        members = vars(import_module(module))
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import {module!r} of {path!r}: {error}") from error
    if not callable(members.get(name)):
        own = [n for n, x in members.items() if getattr(x, "__module__", None) == module]
        raise UserError(f"{module} has no factory {name!r}{near_misses(name, own)}")
    return members[name]


def _check_names(task: str, factory: Callable[..., Any], settings: dict[str, Any]) -> None:
    known = inspect.signature(factory).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        return
    names = [parameter.name for parameter in known]
    for name in settings:
        if name not in names:
            raise UserError(f"{task} has no setting {name!r}{near_misses(name, names)}")
