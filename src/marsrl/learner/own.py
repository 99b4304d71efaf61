"""Networks of users' own, in the place of the built-in torso and core.

A factory `module:factory` is called as `factory(role, spec)`, role being "actor" or "critic", and
returns an `OwnNetwork`: a flax module with `__call__(carry, x, first)` is one. Heads, ids and
standardised inputs stay the library's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from marsrl.errors import UserError, shown
from marsrl.loading import guarded, load
from marsrl.types import Array, EnvSpec, Key, PyTree

Role = Literal["actor", "critic"]

_L, _B = 2, 3
"""Steps and sequences with which a network is tried."""


class OwnNetwork(Protocol):
    """What a factory returns; it may have `initial_carry(batch)` besides, if it is recurrent.

    `initial_carry` returns a tree of arrays (B, ...), its recurrent state where an episode begins.
    """

    def init(self, key: Key, carry: Any, x: Array, first: Array) -> PyTree:
        """Fresh parameters; arguments as `apply`."""
        ...

    def apply(self, params: PyTree, carry: Any, x: Array, first: Array) -> tuple[Any, Array]:
        """Carries after each step, a tree of (L, B, ...), and features (L, B, width).

        Args:
            params: from `init`.
            carry: a tree of (B, ...), before the first step; `()` if it is not recurrent.
            x: (L, B, ...) float32, standardised as the run's settings say: L steps of B sequences.
            first: (L, B) bool, where an episode begins, and the carry with it.
        """
        ...


@dataclass(frozen=True, eq=False)
class Own:
    """A user's network that has been tried, under its name."""

    name: str
    role: Role
    network: Any

    def initial_carry(self, batch: int) -> Any:
        """A tree of (B, ...); `()` if it is not recurrent."""
        make = getattr(self.network, "initial_carry", None)
        return () if make is None else make(batch)

    def check(self, shape: tuple[int, ...]) -> None:
        """Tries it on inputs (L, B, *shape), by tracing alone.

        Raises:
            UserError: it raises, or its carries or features have another shape or type.
        """
        what = f"network {shown(self.name)} ({self.role})"
        carry = guarded(f"{what}: initial_carry", jax.eval_shape, partial(self.initial_carry, _B))
        for leaf in jax.tree.leaves(carry):
            if leaf.shape[:1] != (_B,):
                raise UserError(
                    f"{what}: initial_carry({_B}) has an array of shape {leaf.shape}, expected "
                    f"({_B}, ...)"
                )
        key = jax.eval_shape(lambda: jax.random.key(0))
        x = jax.ShapeDtypeStruct((_L, _B, *shape), jnp.float32)
        first = jax.ShapeDtypeStruct((_L, _B), bool)
        on = f"on inputs (L, B, {', '.join(map(str, shape))})"
        params = guarded(
            f"{what}: init {on}", jax.eval_shape, self.network.init, key, carry, x, first
        )
        result = guarded(
            f"{what}: apply {on}", jax.eval_shape, self.network.apply, params, carry, x, first
        )
        if not isinstance(result, tuple) or len(result) != 2:
            raise UserError(
                f"{what} returns {type(result).__name__}, expected a tuple (carries, features)"
            )
        carries, features = result
        self._check_carries(what, carry, carries)
        if not isinstance(features, jax.ShapeDtypeStruct):
            raise UserError(f"{what} returns features {shown(features)}, expected an array")
        if features.shape[:-1] != (_L, _B) or features.dtype != jnp.float32:
            raise UserError(
                f"{what} returns features {features.shape} {features.dtype} for L = {_L} steps of "
                f"B = {_B} sequences, expected ({_L}, {_B}, width) float32"
            )

    def _check_carries(self, what: str, before: Any, after: Any) -> None:
        expected = jax.tree.map(lambda c: jax.ShapeDtypeStruct((_L, *c.shape), c.dtype), before)
        if jax.tree.structure(after) != jax.tree.structure(expected):
            raise UserError(
                f"{what} returns carries {shown(jax.tree.structure(after))}, expected those of "
                f"initial_carry, {shown(jax.tree.structure(expected))}"
            )
        for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
            if (x.shape, x.dtype) != (y.shape, y.dtype):
                raise UserError(
                    f"{what} returns a carry {x.shape} {x.dtype}, expected {y.shape} {y.dtype}: "
                    "that of every step"
                )


def own_network(name: str, role: Role, spec: EnvSpec) -> Own:
    """Calls the factory `module:factory`.

    Raises:
        UserError: it cannot be imported, raises, or returns no network.
    """
    made = guarded(f"network {shown(name)}", load(name), role, spec)
    for method in ("init", "apply"):
        if isinstance(made, type) or not callable(getattr(made, method, None)):
            raise UserError(
                f"network {shown(name)} made {shown(made)} for the {role}, expected a flax module, "
                "or another object with init and apply"
            )
    return Own(name, role, made)
