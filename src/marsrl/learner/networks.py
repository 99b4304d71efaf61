"""Actor and critic: torso, core (feed-forward or GRU) and head, over time-major sequences.

Everything takes sequences (L, B, ...); acting is a sequence of length one. A feed-forward network
is a recurrent one whose carry is `()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import zeros_init

from marsrl.distributions import ActionParams, Distribution, distribution
from marsrl.learner.layers import Dense, add_bias, normal
from marsrl.learner.recurrent import gru
from marsrl.types import Array, Box, Discrete, EnvSpec, Key, PyTree, TimeStep

Core = Literal["ff", "gru"]
CriticView = Literal["state", "obs", "both"]
Carry = Any
"""(B, ..., H) array if recurrent, `()` if feed-forward."""

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
    layer, which equals appending a one-hot id to the input."""

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

    @nn.compact
    def __call__(self, carry: Carry, obs: Array, first: Array) -> tuple[Carry, ActionParams]:
        """(carries, parameters of the action distribution) for obs (L, B, ..., O)."""
        carries, x = Body(self.width, self.core, self.num_ids)(carry, obs, first)
        out = Dense(self.action.size, 0.01)(x)
        if isinstance(self.action, Discrete):
            return carries, (out,)
        log_std = self.param("log_std", zeros_init(), (self.action.size,))
        return carries, (out, jnp.broadcast_to(log_std, out.shape))


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
        return carries, Dense(self.num_outputs, 1.0)(x)


class Params(NamedTuple):
    """Parameters (or gradients, or optimiser states) of both networks."""

    actor: PyTree
    critic: PyTree


@dataclass(frozen=True)
class Networks:
    """Actor and critic of one task, as pure functions of their parameters.

    Attributes:
        spec: the environment's.
        width: units of every hidden layer and of the GRU.
        core: "ff" or "gru".
        critic_view: what the critic sees: "state" (centralised), "obs" (each agent its own, as in
            IPPO) or "both".
        share_parameters: one actor for all agents, told apart by an id, or one for each.
    """

    spec: EnvSpec
    width: int = 64
    core: Core = "gru"
    critic_view: CriticView = "state"
    share_parameters: bool = True

    @property
    def num_values(self) -> int:
        """`V`: 1 if the critic is the team's, else N."""
        team = self.critic_view == "state" and self.spec.shared_reward
        return 1 if team else self.spec.num_agents

    @property
    def _actor(self) -> Actor:
        ids = self.spec.num_agents if self.share_parameters else 0
        return Actor(self.spec.action, self.width, self.core, ids)

    @property
    def _critic(self) -> Critic:
        if self.critic_view == "state":
            return Critic(self.width, self.core, self.num_values)
        return Critic(
            self.width, self.core, num_ids=self.spec.num_agents if self.share_parameters else 0
        )

    @property
    def _critic_per_agent(self) -> bool:
        return self.critic_view != "state"

    def init(self, key: Key) -> Params:
        """Fresh parameters."""
        actor_key, critic_key = jax.random.split(key)
        obs = jnp.zeros((1, 1, self.spec.num_agents, *self.spec.obs_shape))
        x = self._critic_input(obs, jnp.zeros((1, 1, *self.spec.state_shape)))
        actor_carry, critic_carry = self.initial_carries(1)
        return Params(
            self._init(self._actor, True, actor_key, actor_carry, _flat(obs, 3)),
            self._init(self._critic, self._critic_per_agent, critic_key, critic_carry, x),
        )

    def initial_carries(self, batch: int) -> tuple[Carry, Carry]:
        """Zero carries of actor (B, N, H) and critic (B, H) or (B, N, H); `()` if feed-forward."""
        if self.core == "ff":
            return (), ()
        per_agent = jnp.zeros((batch, self.spec.num_agents, self.width))
        return per_agent, per_agent if self._critic_per_agent else per_agent[:, 0]

    def act(
        self, params: PyTree, carry: Carry, obs: Array, first: Array, action_mask: Array
    ) -> tuple[Carry, Distribution]:
        """The policy over a sequence.

        Args:
            params: the actor's.
            carry: (B, N, H) before the first step.
            obs: (L, B, N, *obs_shape).
            first: (L, B) bool.
            action_mask: (L, B, N, A) bool.

        Returns:
            Carries after each step (L, B, N, H), and the distribution over (L, B, N).
        """
        carries, action_params = self._policy(params, carry, obs, first)
        return carries, distribution(self.spec.action, action_params, action_mask)

    def act_once(
        self, params: PyTree, carry: Carry, time_step: TimeStep, first: Array
    ) -> tuple[Carry, Distribution]:
        """The policy for one time step (B, ...): the carry after it, the distribution over (B, N).

        `first` is (B,) bool; for the rest see `act`.
        """
        sequence = self._policy(params, carry, time_step.obs[None], first[None])
        carry, action_params = jax.tree.map(lambda x: x[0], sequence)
        return carry, distribution(self.spec.action, action_params, time_step.action_mask)

    def value(
        self, params: PyTree, carry: Carry, obs: Array, global_state: Array, first: Array
    ) -> tuple[Carry, Array]:
        """The critic over a sequence; arguments as `act`, global_state (L, B, *state_shape).

        Returns:
            Carries after each step, and values (L, B, V).
        """
        apply = self._per_agent(self._critic.apply, self._critic_per_agent)
        carries, value = apply(params, carry, self._critic_input(obs, global_state), first)
        return carries, value[..., 0] if self._critic_per_agent else value

    def _policy(
        self, params: PyTree, carry: Carry, obs: Array, first: Array
    ) -> tuple[Carry, ActionParams]:
        apply = self._per_agent(self._actor.apply, True)
        return apply(params, carry, _flat(obs, 3), first)

    def _critic_input(self, obs: Array, global_state: Array) -> Array:
        if self.critic_view == "state":
            return _flat(global_state, 2)
        if self.critic_view == "obs":
            return _flat(obs, 3)
        tiled = jnp.repeat(_flat(global_state, 2)[:, :, None], self.spec.num_agents, axis=2)
        return jnp.concatenate([_flat(obs, 3), tiled], axis=-1)

    def _per_agent(self, apply: Callable[..., Any], per_agent: bool) -> Callable[..., Any]:
        """Maps `apply` over the agent axis of everything if each agent has its own parameters."""
        if self.share_parameters or not per_agent:
            return apply

        return jax.vmap(apply, in_axes=(0, 1, 2, None), out_axes=2)

    def _init(self, module: nn.Module, per_agent: bool, key: Key, carry: Carry, x: Array) -> PyTree:
        first = jnp.ones((1, 1), bool)
        if self.share_parameters or not per_agent:
            return module.init(key, carry, x, first)
        carry, x = jax.tree.map(lambda leaf: leaf[:, 0], carry), x[:, :, 0]
        keys = jax.random.split(key, self.spec.num_agents)
        return jax.vmap(module.init, in_axes=(0, None, None, None))(keys, carry, x, first)


def _flat(x: Array, batch_axes: int) -> Array:
    """Flattens all axes after the first `batch_axes` into one."""
    return x.reshape((*x.shape[:batch_axes], -1))
