"""The flax modules of actor and critic: torso, core (feed-forward or GRU) and head.

Torso and core are `Body`, or a network of a user's own (`own.py`).

Everything takes time-major sequences (L, B, ...). A feed-forward module is a recurrent one whose
carry is `()`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import zeros_init

from marsrl.config import Activation, Core, KernelInit
from marsrl.distributions import ActionParams
from marsrl.learner.layers import Conv, Dense, initializer
from marsrl.learner.own import Own
from marsrl.learner.recurrent import gru
from marsrl.types import Array, Box, Space

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
    kernel_init: KernelInit = "normal"

    @nn.compact
    def __call__(self, carry: Array, x: Array, first: Array) -> Array:
        """Returns the carry after each step, (L, B, ..., H), which is also the output.

        Args:
            carry: (B, ..., H), before the first step.
            x: (L, B, ..., F).
            first: (L, B) bool; True where an episode begins, so that the carry restarts at zero.
        """
        size, init = self.features, self.kernel_init
        inputs = [Dense(size, 1.0, init, name=f"input_{gate}")(x) for gate in "rzn"]
        kernel = self.param("recurrent_kernel", initializer(init, 1.0, 3), (size, 3 * size))
        bias = self.param("recurrent_bias", zeros_init(), (size,))
        keep = ~first.reshape(first.shape + (1,) * (x.ndim - 2))
        return gru(inputs, carry, keep, kernel, bias)


_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "gelu": nn.gelu, "silu": nn.silu}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """What actor and critic are made of between their inputs and their heads.

    Attributes:
        width: units of every hidden layer and of the GRU.
        core: feed-forward, or a GRU between the dense layers.
        depth: dense layers before the core; one follows it.
        activation: of these.
        kernel_init: how kernels begin, those of the heads too.
        own: in the place of all that.
    """

    width: int
    core: Core
    depth: int = 1
    activation: Activation = "relu"
    kernel_init: KernelInit = "normal"
    own: Own | None = None

    def initial_carry(self, *batch: int) -> Carry:
        """The carry at the start of an episode, (*batch, ...); `()` if feed-forward."""
        if self.own is not None:
            carry = self.own.initial_carry(math.prod(batch))
            return jax.tree.map(lambda c: c.reshape((*batch, *c.shape[1:])), carry)
        return () if self.core == "ff" else jnp.zeros((*batch, self.width))


class Body(nn.Module):
    """Dense, core, dense: what actor and critic have in common."""

    architecture: Architecture
    num_ids: int = 0
    """With N > 0, axis -2 is the agent axis and a learned row per agent is added to the first
    layer, as a one-hot id appended to the input would; its first values have variance 1/N, or
    1/width where kernels begin orthogonal."""
    parts: tuple[Shape, ...] = ()
    """Of what the inputs are made up, one after another: pictures (H, W, C) are convolved."""

    @nn.compact
    def __call__(self, carry: Carry, x: Array, first: Array) -> tuple[Carry, Array]:
        """(carries after each step (L, B, ..., H) or (), features (L, B, ..., width))."""
        how = self.architecture
        if how.own is not None:
            return self._own(how.own, carry, x, first)
        activation = _ACTIVATIONS[how.activation]
        if any(map(is_picture, self.parts)):
            x = Pictures(self.parts, how.activation, how.kernel_init)(x)
        for layer in range(how.depth):
            x = Dense(how.width, _HIDDEN_GAIN, how.kernel_init)(x)
            if self.num_ids and not layer:
                begin = initializer(how.kernel_init, 1.0)
                x += self.param("agent_id", begin, (self.num_ids, how.width))
            x = activation(x)
        carries: Carry = ()
        if how.core == "gru":
            x = carries = GRU(how.width, how.kernel_init)(carry, x, first)
        return carries, activation(Dense(how.width, _HIDDEN_GAIN, how.kernel_init)(x))

    def _own(self, own: Own, carry: Carry, x: Array, first: Array) -> tuple[Carry, Array]:
        """The user's network, for which agents are further sequences."""
        batch = x.shape[1:-1]

        def folded(x: Array) -> Array:
            return x.reshape((x.shape[0], -1, *x.shape[1 + len(batch) :]))

        def unfolded(x: Array) -> Array:
            return x.reshape((x.shape[0], *batch, *x.shape[2:]))

        first = jnp.broadcast_to(first.reshape(first.shape + (1,) * (len(batch) - 1)), x.shape[:-1])
        args = (
            jax.tree.map(lambda c: folded(c[None])[0], carry),
            folded(self._shaped(x)),
            folded(first),
        )
        some = jax.tree.map(lambda c: c[:1], args[0]), args[1][:1, :1], args[2][:1, :1]
        params = self.param("own", own.network.init, *some)
        carries, features = own.network.apply(params, *args)
        return jax.tree.map(unfolded, carries), unfolded(features)

    def _shaped(self, x: Array) -> Array:
        """Inputs (..., F) as pictures, if they are, with ids (if any) appended to the last axis."""
        if len(self.parts) == 1 and is_picture(self.parts[0]):
            x = x.reshape((*x.shape[:-1], *self.parts[0]))
        if not self.num_ids:
            return x
        ids = jnp.eye(self.num_ids)
        ids = ids.reshape((self.num_ids, *(1,) * (x.ndim - 4), self.num_ids))
        return jnp.concatenate([x, jnp.broadcast_to(ids, (*x.shape[:-1], self.num_ids))], axis=-1)


def is_picture(shape: Shape) -> bool:
    """Whether an observation of that shape is convolved."""
    return len(shape) == 3


def own_shape(parts: tuple[Shape, ...], num_ids: int) -> Shape:
    """Of what a user's network reads at each step of a sequence; ids are on the last axis."""
    if len(parts) == 1 and is_picture(parts[0]):
        height, width, channels = parts[0]
        return (height, width, channels + num_ids)
    return (sum(map(math.prod, parts)) + num_ids,)


class Pictures(nn.Module):
    """Convolutions (3 x 3, 32 channels) over the pictures in an input; the rest passes through.

    The first keeps a picture's size; others halve it, until no side is longer than 8.
    """

    parts: tuple[Shape, ...]
    activation: Activation
    kernel_init: KernelInit

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., F') for x (..., F), of which `parts` are the shapes."""
        done, at = [], 0
        for shape in self.parts:
            part, at = x[..., at : at + math.prod(shape)], at + math.prod(shape)
            if is_picture(shape):
                part = self._convolved(part.reshape((-1, *shape)))
                part = part.reshape((*x.shape[:-1], math.prod(part.shape[1:])))
            done.append(part)
        return jnp.concatenate(done, axis=-1)

    def _convolved(self, x: Array) -> Array:
        """(K, H', W', 32) for pictures (K, H, W, C)."""
        for i in range(num_convolutions(x.shape[1:])):
            layer = Conv(_CHANNELS, _HIDDEN_GAIN, 2 if i else 1, self.kernel_init)
            x = _ACTIVATIONS[self.activation](layer(x))
        return x


_CHANNELS = 32
_LONGEST_SIDE = 8


def num_convolutions(shape: Shape) -> int:
    """Of what is that shape: none if it is no picture."""
    if not is_picture(shape):
        return 0
    number, side = 1, max(shape[:2])
    while side > _LONGEST_SIDE:
        number, side = number + 1, -(-side // 2)
    return number


class Actor(nn.Module):
    """The policy of one agent, or of all agents if they share parameters."""

    action: Space
    architecture: Architecture
    num_ids: int = 0
    parts: tuple[Shape, ...] = ()
    state_std: bool = False
    """A continuous policy's spread depends on what it sees, instead of on the agent alone."""

    @nn.compact
    def __call__(self, carry: Carry, obs: Array, first: Array) -> tuple[Carry, ActionParams]:
        """(carries, parameters of the action distribution) for obs (L, B, ..., O)."""
        carries, x = Body(self.architecture, self.num_ids, self.parts)(carry, obs, first)
        init = self.architecture.kernel_init
        out = Dense(self.action.size, 0.01, init, name="head")(x)
        if not isinstance(self.action, Box):
            return carries, (out,)
        if self.state_std:
            raw = Dense(self.action.size, 0.01, init, name="log_std")(x)
        else:
            agents = (self.num_ids,) if self.num_ids else ()  # each its own, if they share the rest
            raw = self.param("log_std", zeros_init(), (*agents, self.action.size))
        return carries, (out, jnp.broadcast_to(bounded(raw, *LOG_STD_RANGE), out.shape))


def bounded(x: Array, low: float, high: float) -> Array:
    """`x` near 0, never beyond `low < 0` and `high > 0`, and increasing everywhere."""
    return jnp.where(x < 0, low * jnp.tanh(x / low), high * jnp.tanh(x / high))


class Critic(nn.Module):
    """The value function, of the team or of each agent."""

    architecture: Architecture
    num_outputs: int = 1
    num_ids: int = 0
    parts: tuple[Shape, ...] = ()

    @nn.compact
    def __call__(self, carry: Carry, x: Array, first: Array) -> tuple[Carry, Array]:
        """(carries, value (L, B, ..., num_outputs)) for x (L, B, ..., F)."""
        carries, x = Body(self.architecture, self.num_ids, self.parts)(carry, x, first)
        return carries, Dense(self.num_outputs, 1.0, self.architecture.kernel_init, name="head")(x)
