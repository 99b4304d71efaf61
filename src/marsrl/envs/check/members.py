"""First part of the check: the members of an environment, and the values of its spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from marsrl.envs.base import Environment
from marsrl.errors import reason
from marsrl.types import Box, Discrete, EnvSpec


class Raised(Exception):  # noqa: N818 (a messenger; what users meet is a UserError)
    """The environment itself raised; the cause is chained."""


def attempt(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls the environment; whatever it raises becomes a sentence."""
    try:
        return function(*args)
    except Exception as error:
        raise Raised(f"{what} raised {reason(error)}") from error


def in_members(env: Environment) -> Iterator[str]:
    """Failures in what can be read off without calling `reset` or `step`."""
    for method in ("reset", "step"):
        if not callable(getattr(env, method, None)):
            yield f"it has no method {method}"
    if not hasattr(type(env), "spec") and not hasattr(env, "spec"):
        yield "it has no attribute spec; expected a marsrl.EnvSpec"
        return
    spec = attempt("spec", getattr, env, "spec")
    if not isinstance(spec, EnvSpec):
        yield f"spec is {spec!r}, expected a marsrl.EnvSpec"
        return
    expected = {
        "num_agents": (_is_size, "a positive int"),
        "obs_shape": (_is_shape, "a tuple of positive ints, at least one"),
        "state_shape": (_is_shape, "a tuple of positive ints, at least one"),
        "action": (_is_space, "Discrete with an action, or Box with a dimension and low < high"),
        "max_steps": (_is_size, "a positive int"),
        "shared_reward": (lambda x: isinstance(x, bool), "a bool"),
        "metrics": (_is_names, "a tuple of different strings"),
    }
    for field, (holds, description) in expected.items():
        value = getattr(spec, field)
        if not holds(value):
            yield f"spec.{field} is {value!r}, expected {description}"


def _is_size(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x > 0


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) > 0 and all(map(_is_size, x))


def _is_names(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, str) for n in x) and len(set(x)) == len(x)


def _is_space(x: Any) -> bool:
    if isinstance(x, Discrete):
        return _is_size(x.num_actions)
    return isinstance(x, Box) and _is_size(x.num_dims) and -math.inf < x.low < x.high < math.inf
