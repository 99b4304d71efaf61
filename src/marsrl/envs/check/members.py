"""First part of the check: the members of an environment, and the values of its spec."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from marsrl.envs.base import Environment
from marsrl.errors import raised
from marsrl.types import RESERVED_METRICS, Box, Discrete, EnvSpec, MultiDiscrete

_SHAPE = "a tuple of positive ints, at least one; or () where it is a dictionary of arrays"
_LARGEST = float(np.finfo(np.float32).max)


class Note(str):
    """A sentence of the check that is no failure, but worth knowing."""

    __slots__ = ()


class Raised(Exception):  # noqa: N818 (a messenger; what users meet is a UserError)
    """The environment itself raised; the cause is chained."""


def attempt(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls the environment; whatever it raises becomes a sentence."""
    try:
        return function(*args)
    except Exception as error:
        raise Raised(f"{what} {raised(error)}") from error


def in_members(env: Environment) -> Iterator[str]:
    """Failures in what can be read off without calling `reset` or `step`."""
    if isinstance(env, str):
        yield f"it is the name {env!r}, expected an environment, such as marsrl.make({env!r})"
        return
    if isinstance(env, type):
        yield f"it is a class, expected an environment, such as {env.__name__}()"
        return
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
    faults = tuple(in_spec(spec))
    yield from faults
    for what, parts in (("obs", spec.obs_parts), ("global_state", spec.state_parts)):
        if parts and not faults:
            listed = ", ".join(f"{name} {shape}" for name, shape in parts)
            yield Note(f"{what} is a dictionary, read as one row of float32: {listed}")
    if spec.groups and not faults:
        yield Note(f"{_groups(spec.groups)}; --share-parameters groups gives each its own network")


def in_spec(spec: EnvSpec) -> Iterator[str]:
    """Failures in the values of a spec."""
    expected = {
        "num_agents": (_is_size, "a positive int"),
        "obs_shape": (_is_shape, _SHAPE),
        "state_shape": (_is_shape, _SHAPE),
        "action": (
            _is_space,
            "Discrete with an action, MultiDiscrete with a tuple of such numbers, or Box with a "
            "dimension and finite low < high, less than 3.4e38 apart, each a number or a tuple of "
            "as many as there are dimensions",
        ),
        "max_steps": (_is_size, "a positive int"),
        "shared_reward": (lambda x: isinstance(x, bool), "a bool"),
        "metrics": (_is_names, "a tuple of different strings"),
        "groups": (
            lambda x: x == () or (_is_strings(x) and len(x) == spec.num_agents),
            "a tuple with a string for each agent, or ()",
        ),
        "obs_parts": (_are_parts(spec.obs_shape), "names and shapes that fill obs_shape, or ()"),
        "state_parts": (
            _are_parts(spec.state_shape),
            "names and shapes that fill state_shape, or ()",
        ),
    }
    for field, (holds, description) in expected.items():
        value = getattr(spec, field)
        if not holds(value):
            yield f"spec.{field} is {value!r}, expected {description}"
    if _is_names(spec.metrics):
        yield from _in_metrics(spec.metrics)


def _groups(names: tuple[str, ...]) -> str:
    """Such as "the agents are of 2 groups: 3 of scout, 5 of tracker"."""
    counts = Counter(names)
    return f"the agents are of {len(counts)} group{'s' if len(counts) > 1 else ''}: " + ", ".join(
        f"{count} of {name}" for name, count in counts.items()
    )


def _in_metrics(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if name in RESERVED_METRICS:
            taken = ", ".join(sorted(RESERVED_METRICS))
            yield f"spec.metrics has {name!r}, a name of the library's own; taken are {taken}"
        elif "/" in name:  # logs have groups: episode/won, and the extremes ratio/min and ratio/max
            yield f"spec.metrics has {name!r}, expected a name without a slash"


def _is_size(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x > 0


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) > 0 and all(map(_is_size, x))


def _is_names(x: Any) -> bool:
    return _is_strings(x) and len(set(x)) == len(x)


def _is_strings(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, str) for n in x)


def _are_parts(shape: Any) -> Callable[[Any], bool]:
    """Whether something is made up of parts of a row of that shape."""

    def holds(x: Any) -> bool:
        pairs = isinstance(x, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in x)
        if not pairs or not all(isinstance(name, str) and _is_shape(s) for name, s in x):
            return False
        return not x or shape == (sum(math.prod(s) for _, s in x),)

    return holds


def _is_space(x: Any) -> bool:
    if isinstance(x, Discrete):
        return _is_size(x.num_actions)
    if isinstance(x, MultiDiscrete):
        return _is_shape(x.num_actions)
    if not isinstance(x, Box) or not _is_size(x.num_dims):
        return False
    if not all(_is_bound(bound, x.num_dims) for bound in (x.low, x.high)):
        return False
    width = np.asarray(x.high, float) - np.asarray(x.low, float)
    return bool(((width > 0) & (width < _LARGEST)).all())


def _is_bound(x: Any, num_dims: int) -> bool:
    """A tuple, not a list or an array: a spec is hashed."""
    numbers = x if isinstance(x, tuple) else (x,) * num_dims
    return len(numbers) == num_dims and all(
        isinstance(number, int | float) and abs(number) < _LARGEST for number in numbers
    )
