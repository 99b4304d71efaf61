"""Which agents share parameters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np

from marsrl.config import Sharing
from marsrl.errors import UserError
from marsrl.types import Array, EnvSpec


@dataclass(frozen=True)
class Groups:
    """Agents in groups, each of which has parameters of its own; all run as one batch.

    Groups are as wide as the largest: a smaller one computes its first agent several times.

    Attributes:
        of_agents: (N,) the group of each agent, numbered from 0 in the order of first appearance.
    """

    of_agents: tuple[int, ...]

    @property
    def number(self) -> int:
        """`G`, how many groups there are."""
        return max(self.of_agents) + 1

    @property
    def size(self) -> int:
        """Agents of the largest group."""
        return max(Counter(self.of_agents).values())

    @cached_property
    def slots(self) -> np.ndarray:
        """(G, size), the agents of each group; the first again where a group is smaller."""
        members = [np.flatnonzero(np.equal(self.of_agents, g)) for g in range(self.number)]
        return np.stack([np.r_[m, np.repeat(m[:1], self.size - len(m))] for m in members])

    @cached_property
    def places(self) -> np.ndarray:
        """(N,), where each agent is among all slots in a row."""
        return np.array([np.argmax(self.slots.ravel() == i) for i in range(len(self.of_agents))])

    def split(self, x: Array, axis: int) -> Array:
        """(..., N, ...) as (..., G, size, ...); as it is if every agent is a group."""
        if self.size == 1:
            return x
        if self.slots.size > len(self.of_agents) or (np.diff(self.places) != 1).any():
            x = jnp.take(x, self.slots.ravel(), axis)
        return x.reshape((*x.shape[:axis], *self.slots.shape, *x.shape[axis + 1 :]))

    def join(self, x: Array, axis: int) -> Array:
        """The inverse of `split`."""
        if self.size == 1:
            return x
        x = x.reshape((*x.shape[:axis], -1, *x.shape[axis + 2 :]))
        if self.slots.size > len(self.of_agents) or (np.diff(self.places) != 1).any():
            x = jnp.take(x, self.places, axis)
        return x


def groups_of(spec: EnvSpec, share_parameters: Sharing) -> Groups | None:
    """The groups of an environment's agents; None if all share parameters.

    Raises:
        UserError: those of a group shall share, and the environment knows no groups.
    """
    if share_parameters == "groups":
        if not spec.groups:
            raise UserError(
                "share_parameters is 'groups', but the environment has no groups of agents "
                "(EnvSpec.groups), expected all or none",
                "share_parameters",
            )
        numbers = {name: i for i, name in enumerate(dict.fromkeys(spec.groups))}
        groups = Groups(tuple(numbers[name] for name in spec.groups))
        return groups if groups.number > 1 else None
    return None if share_parameters else Groups(tuple(range(spec.num_agents)))
