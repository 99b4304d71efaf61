"""The flax modules of actor and critic: torso, core (feed-forward or GRU) and head.

Everything takes time-major sequences (L, B, ...). A feed-forward module is a recurrent one whose
carry is `()`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import zeros_init

from marsrl.compiler import add_bias
from marsrl.distributions import ActionParams
from marsrl.learner.layers import Dense, normal
from marsrl.learner.recurrent import gru
from marsrl.types import Array, Box, Discrete

Core = Literal["ff", "gru"]
Carry = Any
"""(B, ..., H) array if recurrent, `()` if feed-forward."""

LOG_STD_RANGE = (-5.0, 2.0)
"""Between these a policy's log standard deviation stays, whatever its parameters are."""

_HIDDEN_GAIN = math.sqrt(2)


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014, reset gate after the product) over a sequence.

    The input projection runs once for the whole sequence; only the recurrent product is inside the
    scan, forward (`gru`) and backward.
    """

    features: int

    @nn.compact
    def __call__(self, carry: Array, x: Array, first: Array) -> Array:
        """Returns the carry after each step, (L, B, ..., H), which is also the output.

        Args:
            carry: (B, ..., H), before the first step.
            x: (L, B, ..., F).
            first: (L, B) bool; True where an episode begins, so that the carry restarts at zero.
        """
        inputs = [Dense(self.features, 1.0, name=f"input_{gate}")(x) for gate in "rzn"]
        kernel = self.param("recurrent_kernel", normal(1.0), (self.features, 3 * self.features))
        bias = self.param("recurrent_bias", zeros_init(), (self.features,))
        keep = ~first.reshape(first.shape + (1,) * (x.ndim - 2))
        return gru(inputs, carry, keep, kernel, bias)


class Body(nn.Module):
    """Dense, core, dense: what actor and critic have in common."""

    width: int
    core: Core
    num_ids: int = 0
    """With N > 0, axis -2 is the agent axis and a learned row per agent is added to the first
    layer, as a one-hot id appended to the input would; its first values have variance 1/N."""

    @nn.compact
    def __call__(self, carry: Carry, x: Array, first: Array) -> tuple[Carry, Array]:
        """(carries after each step (L, B, ..., H) or (), features (L, B, ..., width))."""
        x = Dense(self.width, _HIDDEN_GAIN)(x)
        if self.num_ids:
            x = add_bias(x, self.param("agent_id", normal(1.0), (self.num_ids, self.width)))
        x = nn.relu(x)
        carries: Carry = ()
        if self.core == "gru":
            x = carries = GRU(self.width)(carry, x, first)
        return carries, nn.relu(Dense(self.width, _HIDDEN_GAIN)(x))


class Actor(nn.Module):
    """The policy of one agent, or of all agents if they share parameters."""

    action: Discrete | Box
    width: int
    core: Core
    num_ids: int = 0
    state_std: bool = False
    """A continuous policy's spread depends on what it sees, instead of on the agent alone."""

    @nn.compact
    def __call__(self, carry: Carry, obs: Array, first: Array) -> tuple[Carry, ActionParams]:
        """(carries, parameters of the action distribution) for obs (L, B, ..., O)."""
        carries, x = Body(self.width, self.core, self.num_ids)(carry, obs, first)
        out = Dense(self.action.size, 0.01, name="head")(x)
        if isinstance(self.action, Discrete):
            return carries, (out,)
        if self.state_std:
            raw = Dense(self.action.size, 0.01, name="log_std")(x)
        else:
            agents = (self.num_ids,) if self.num_ids else ()  # each its own, if they share the rest
            raw = self.param("log_std", zeros_init(), (*agents, self.action.size))
        return carries, (out, jnp.broadcast_to(_within(raw, *LOG_STD_RANGE), out.shape))


def _within(x: Array, low: float, high: float) -> Array:
    """`x` near 0, never beyond `low < 0` and `high > 0`, and increasing everywhere."""
    return jnp.where(x < 0, low * jnp.tanh(x / low), high * jnp.tanh(x / high))


class Critic(nn.Module):
    """The value function, of the team or of each agent."""

    width: int
    core: Core
    num_outputs: int = 1
    num_ids: int = 0

    @nn.compact
    def __call__(self, carry: Carry, x: Array, first: Array) -> tuple[Carry, Array]:
        """(carries, value (L, B, ..., num_outputs)) for x (L, B, ..., F)."""
        carries, x = Body(self.width, self.core, self.num_ids)(carry, x, first)
        return carries, Dense(self.num_outputs, 1.0, name="head")(x)
