"""Second part of the check: shapes, dtypes and structures, found by tracing alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from marsrl.envs.base import Environment
from marsrl.envs.check.members import Note, attempt
from marsrl.envs.flat import Flat
from marsrl.types import Box, EnvSpec, TimeStep

_METRICS = ("float32", "int32", "bool")
_READ = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "bool")
"""What networks read as float32."""


def in_shapes(env: Environment) -> Iterator[str]:
    """Failures in the abstract results of `reset` and `step`; needs a sound spec."""
    spec = env.spec
    key = jax.eval_shape(lambda: jax.random.key(0))
    start = attempt("reset, traced by JAX,", jax.eval_shape, env.reset, key)
    if not _is_result(start):
        yield from _in_result("reset", spec, start, {})
        return
    dtype = jnp.float32 if isinstance(spec.action, Box) else jnp.int32
    action = jax.ShapeDtypeStruct((spec.num_agents, *spec.action.shape), dtype)
    after = attempt("step, traced by JAX,", jax.eval_shape, env.step, key, start[0], action)
    dtypes = _read_dtypes(start, after)
    yield from _in_result("reset", spec, start, dtypes)
    yield from _in_result("step", spec, after, dtypes)
    for field, dtype in dtypes.items():
        share = ", divided by 255" if dtype == "uint8" else ""
        yield Note(f"{field} is {dtype}: networks read it as float32{share}")
    if _is_result(after):
        yield from _changes(start[0], after[0])
        yield from _in_types_of_metrics(start[1].metrics, after[1].metrics)
    if isinstance(env, Flat):
        yield from _in_dictionaries(env.env, key, start[0], action)
    own = env.env if isinstance(env, Flat) else env
    for name in _traced(own, *type(own).__mro__):
        yield f"it keeps a traced value in self.{name}; expected all that changes in the state"


def _traced(*owners: Any) -> dict[str, None]:
    """The names under which an environment or its classes keep what was traced."""
    found = {}
    for owner in owners:
        for name, value in getattr(owner, "__dict__", {}).items():
            try:
                leaves = jax.tree.leaves(value)
            except ValueError:  # a dictionary whose keys have no order
                continue
            if any(isinstance(leaf, Tracer) for leaf in leaves):
                found[name] = None
    return found


def _is_result(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], TimeStep)


def _read_dtypes(start: Any, after: Any) -> dict[str, str]:
    """The types of `obs` and `global_state`, where they are not float32 but can be read."""
    if not _is_result(after):
        return {}
    found = {}
    for field in ("obs", "global_state"):
        values = [getattr(result[1], field) for result in (start, after)]
        dtypes = {str(getattr(value, "dtype", None)) for value in values}
        if len(dtypes) == 1 and dtypes <= set(_READ):
            found[field] = dtypes.pop()
    return found


def _in_types_of_metrics(start: Any, after: Any) -> Iterator[str]:
    """Metrics whose type `step` changes; a number of Python in `reset` may become a float."""
    if not isinstance(start, dict) or not isinstance(after, dict):
        return
    for name in sorted(start.keys() & after.keys()):
        x, y = start[name], after[name]
        if not isinstance(x, jax.ShapeDtypeStruct) or not isinstance(y, jax.ShapeDtypeStruct):
            continue
        widened = x.weak_type and (x.dtype.name, y.dtype.name) == ("int32", "float32")
        if x.dtype != y.dtype and not widened:
            yield (
                f"step: metrics[{name!r}] is {y.dtype.name}, expected {x.dtype.name} as in reset; "
                "both must have one type"
            )


def _in_dictionaries(env: Environment, key: Any, state: Any, action: Any) -> Iterator[str]:
    """Where dictionaries of `step` are not made of what those of `reset` are made of.

    In a row of float32 it would not be seen: another order, or bytes that are divided by 255 in one
    of them only.

    Args:
        env: whose time steps have the dictionaries.
        key: abstract, as all arguments.
        state: of a start.
        action: of all agents.
    """
    start = jax.eval_shape(env.reset, key)[1]
    after = jax.eval_shape(env.step, key, state, action)[1]
    for field in ("obs", "global_state"):
        if not isinstance(getattr(start, field), dict):
            continue
        then, now = (_described(getattr(time_step, field)) for time_step in (start, after))
        for name in sorted(then.keys() | now.keys()):
            found, expected = now.get(name, "missing"), then.get(name, "none")
            if found != expected:
                yield f"step: {field}{name} is {found}, expected {expected} as in reset"


def _described(tree: Any) -> dict[str, str]:
    """Name, such as `['view']`, -> shape of each array, and whether it is bytes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    kinds = {True: "uint8", False: "float32"}  # which all but bytes becomes in the row
    return {
        jax.tree_util.keystr(path): f"{x.shape} {kinds[x.dtype == jnp.uint8]}" for path, x in leaves
    }


def _types(result: Any) -> str:
    if type(result) is not tuple:
        return type(result).__name__
    return f"({', '.join(type(x).__name__ for x in result)})"


def _in_result(where: str, spec: EnvSpec, result: Any, dtypes: dict[str, str]) -> Iterator[str]:
    """Failures in the abstract result of `reset` or `step`; see `_read_dtypes`."""
    if not _is_result(result):
        yield f"{where} returns {_types(result)}, expected (state, marsrl.TimeStep)"
        return
    time_step, N = result[1], spec.num_agents
    expected = {
        "obs": ((N, *spec.obs_shape), dtypes.get("obs", "float32")),
        "global_state": (spec.state_shape, dtypes.get("global_state", "float32")),
        "action_mask": ((N, spec.action.size), "bool"),
        "agent_mask": ((N,), "bool"),
        "reward": ((N,), "float32"),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
    }
    for field, (shape, dtype) in expected.items():
        yield from _in_array(f"{where}: {field}", getattr(time_step, field), shape, (dtype,))
    metrics = time_step.metrics
    if not isinstance(metrics, dict) or set(metrics) != set(spec.metrics):
        found = sorted(metrics) if isinstance(metrics, dict) else metrics
        yield f"{where}: metrics has {found}, expected the keys of spec.metrics {spec.metrics}"
        return
    for name, value in metrics.items():
        yield from _in_array(f"{where}: metrics[{name!r}]", value, (), _METRICS)


def _in_array(
    what: str, value: Any, shape: tuple[int, ...], dtypes: tuple[str, ...]
) -> Iterator[str]:
    if not isinstance(value, jax.ShapeDtypeStruct):
        yield f"{what} is {value!r}, expected an array"
    elif value.shape != shape or value.dtype.name not in dtypes:
        yield f"{what} is {_show(value)}, expected {shape} {' or '.join(dtypes)}"


def _show(leaf: Any) -> str:
    return f"{leaf.shape} {leaf.dtype.name}"


def _changes(before: Any, after: Any) -> Iterator[str]:
    """Where a step changes the structure of the state."""
    if jax.tree.structure(before) != jax.tree.structure(after):
        yield (
            f"step changes the structure of the state from {jax.tree.structure(before)} to "
            f"{jax.tree.structure(after)}; expected no change"
        )
        return
    for (name, x), (_, y) in zip(named(before), named(after), strict=True):
        if (x.shape, x.dtype) != (y.shape, y.dtype):
            yield f"step changes {name} from {_show(x)} to {_show(y)}; expected no change"


def named(state: Any, time_step: TimeStep | None = None) -> list[tuple[str, Any]]:
    """Leaves with names such as `state.position` or `time_step.obs`."""
    return [
        (prefix + jax.tree_util.keystr(path), leaf)
        for prefix, tree in (("state", state), ("time_step", time_step))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
