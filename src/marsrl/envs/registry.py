"""Environments by name, imported when they are made.

A name is one of

- "family/task": one of the 47 of `marsrl.envs.tasks`, or a task of an installed package
- "jaxmarl:NAME": any environment of JaxMARL
- "pettingzoo:MODULE", or "pettingzoo:" before a factory: a `ParallelEnv` of PettingZoo's kind
- "gymnasium:ID": an environment of Gymnasium, as a team of one
- "module:factory" or "path/file.py:factory": a class or function of yours, called with the task's
  settings, if there are any; the current folder is looked at first
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from marsrl.envs.base import Environment
from marsrl.envs.check import NonconformingEnvironment, check_interface
from marsrl.envs.flat import flat
from marsrl.envs.tasks import FAMILIES, TASKS, installed_tasks, unknown
from marsrl.errors import UserError, near_misses, shown
from marsrl.loading import HOST_LIBRARIES, guarded, load


def make(task: str, /, **settings: Any) -> Environment:
    """Makes an environment by name.

    Args:
        task: see the module's docstring.
        settings: keyword arguments of the environment's factory, over those of the task; numbers
            of NumPy's kinds are made Python's own, as in `Config.task_settings`.

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
    return flat(env)


def make_unchecked(task: str, /, **settings: Any) -> Environment:
    """Makes an environment as `make` does, without a look at what came out."""
    if not isinstance(task, str):
        raise UserError(f"task is {shown(task)}, expected a name such as paxmen/4ag")
    factory, own = _find(task)
    settings = {k: x.item() if isinstance(x, np.generic) else x for k, x in settings.items()}
    _check_names(task, factory, settings)
    if task in TASKS:
        return factory(**(own | settings))
    return guarded(f"making {shown(task)}", factory, **(own | settings))


def _find(task: str) -> tuple[Callable[..., Environment], dict[str, Any]]:
    """The factory of a task, and the settings that make it this task."""
    if task in TASKS:
        return _own(FAMILIES[task.partition("/")[0]].factory), TASKS[task].settings
    if task in (others := installed_tasks()):
        return guarded(f"loading {shown(task)}", others[task].load), {}
    module, colon, name = task.partition(":")
    if module == "jaxmarl" and colon:
        return partial(_own("marsrl.envs.adapters.jaxmarl:any_jaxmarl"), name), {}
    if module in HOST_LIBRARIES and colon:
        return partial(_own("marsrl.envs.host.env:make_host"), module, name), {}
    if colon:
        return load(task), {}
    raise unknown(task)


def _own(path: str) -> Callable[..., Environment]:
    """A factory of this package."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _check_names(task: str, factory: Callable[..., Any], settings: dict[str, Any]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # a class of C; calling it will tell
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [parameter.name for parameter in parameters if parameter.kind in by_name]
    for name in settings:
        if not known:
            raise UserError(f"{task} takes no settings, but is given {shown(name)}")
        if name not in known:
            raise UserError(f"{task} has no setting {shown(name)}{near_misses(name, known)}")
