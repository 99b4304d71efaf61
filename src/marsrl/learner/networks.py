"""Actor and critic of a task, as pure functions of their weights.

A `Network` makes of a module one for a team: a single one (`Joint`), one that all agents share
(`Shared`), or one for each group of agents, which may be single agents (`Grouped`). `Networks` says
what actor and critic read and what their outputs mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from marsrl.config import Activation, Core, CriticView, InputNorm, KernelInit, Sharing
from marsrl.distributions import Distribution, distribution
from marsrl.errors import UserError, shown
from marsrl.learner.groups import Groups, groups_of
from marsrl.learner.modules import Actor, Architecture, Carry, Critic, Shape, own_shape
from marsrl.learner.moments import Moments, layer_standardize, no_moments, standardize
from marsrl.learner.own import Role, own_network
from marsrl.types import Array, EnvSpec, Key, Observation, PyTree, TimeStep, as_float


class Network(Protocol):
    """A module of a team: its parameters, carries, and outputs over sequences."""

    def init(self, key: Key, num_inputs: int) -> PyTree:
        """Fresh parameters for inputs (..., num_inputs)."""
        ...

    def initial_carry(self, batch: int) -> Carry:
        """The carry (B, ...) at the start of an episode; `()` if feed-forward."""
        ...

    def apply(self, params: PyTree, carry: Carry, x: Array, first: Array) -> tuple[Carry, Any]:
        """Carries after each step (L, B, ...), and outputs, for x (L, B, ...), first (L, B)."""
        ...


@dataclass(frozen=True)
class Joint:
    """One network for the whole team; its inputs are (L, B, F)."""

    module: Actor | Critic

    def init(self, key: Key, num_inputs: int) -> PyTree:
        """See `Network`."""
        x, first = jnp.zeros((1, 1, num_inputs)), jnp.ones((1, 1), bool)
        return self.module.init(key, self.initial_carry(1), x, first)

    def initial_carry(self, batch: int) -> Carry:
        """(B, H)."""
        return self.module.architecture.initial_carry(batch)

    def apply(self, params: PyTree, carry: Carry, x: Array, first: Array) -> tuple[Carry, Any]:
        """See `Network`."""
        return self.module.apply(params, carry, x, first)


@dataclass(frozen=True)
class Shared:
    """One network that all agents share, told apart by an id; its inputs are (L, B, N, F)."""

    module: Actor | Critic
    num_agents: int

    def init(self, key: Key, num_inputs: int) -> PyTree:
        """See `Network`."""
        x, first = jnp.zeros((1, 1, self.num_agents, num_inputs)), jnp.ones((1, 1), bool)
        return self.module.init(key, self.initial_carry(1), x, first)

    def initial_carry(self, batch: int) -> Carry:
        """(B, N, H)."""
        return self.module.architecture.initial_carry(batch, self.num_agents)

    def apply(self, params: PyTree, carry: Carry, x: Array, first: Array) -> tuple[Carry, Any]:
        """See `Network`."""
        return self.module.apply(params, carry, x, first)


@dataclass(frozen=True)
class Grouped:
    """A network for each group of agents, parameters (G, ...); its inputs are (L, B, N, F).

    Agents of a group are told apart by an id, as those of `Shared`.
    """

    module: Actor | Critic
    groups: Groups

    def init(self, key: Key, num_inputs: int) -> PyTree:
        """See `Network`."""
        network = Shared(self.module, self.groups.size)
        return jax.vmap(lambda key: network.init(key, num_inputs))(
            jax.random.split(key, self.groups.number)
        )

    def initial_carry(self, batch: int) -> Carry:
        """(B, N, H)."""
        return self.module.architecture.initial_carry(batch, len(self.groups.of_agents))

    def apply(self, params: PyTree, carry: Carry, x: Array, first: Array) -> tuple[Carry, Any]:
        """See `Network`."""
        carry = jax.tree.map(lambda c: self.groups.split(c, 1), carry)
        apply = jax.vmap(self.module.apply, in_axes=(0, 1, 2, None), out_axes=2)
        results = apply(params, carry, self.groups.split(x, 2), first)
        return jax.tree.map(lambda y: self.groups.join(y, 2), results)


class Weights(NamedTuple):
    """All that the outputs of one network depend on besides its inputs.

    Attributes:
        params: what gradients change.
        inputs: by which its inputs are standardised, (F,), or `()`.
        outputs: of the critic's targets, by which its outputs are scaled back, (V,) or (1,), or
            `()`.
    """

    params: PyTree
    inputs: Moments | tuple[()] = ()
    outputs: Moments | tuple[()] = ()


class ActorCritic(NamedTuple):
    """Something of the actor, and the same of the critic."""

    actor: Any
    critic: Any


@dataclass(frozen=True)
class Networks:
    """Actor and critic of one task.

    Attributes:
        spec: the environment's.
        actor: over the agents' observations (L, B, N, O); puts out parameters of `distribution`.
        critic: over what it sees; puts out (L, B, V) if it is the team's, else (L, B, N, 1).
        critic_view: what the critic sees: "state" (centralised), "obs" (each agent its own, as in
            IPPO) or "both".
        actor_norm: how the actor's inputs are standardised: by running moments, each by itself
            ("layer"), or not.
        critic_norm: likewise the critic's.
        value_norm: whether the critic predicts standardised targets.
    """

    spec: EnvSpec
    actor: Network
    critic: Network
    critic_view: CriticView = "state"
    actor_norm: InputNorm = "none"
    critic_norm: InputNorm = "none"
    value_norm: bool = False

    @property
    def num_values(self) -> int:
        """`V`: 1 if the critic is the team's, else N."""
        return num_values(self.spec, self.critic_view)

    def init(self, key: Key) -> ActorCritic:
        """Fresh weights of both networks."""
        actor_key, critic_key = jax.random.split(key)
        obs = jax.ShapeDtypeStruct((1, 1, self.spec.num_agents, *self.spec.obs_shape), jnp.float32)
        state = jax.ShapeDtypeStruct((1, 1, *self.spec.state_shape), jnp.float32)
        actor_size = jax.eval_shape(self.actor_input, obs).shape[-1]
        critic_size = jax.eval_shape(self.critic_input, obs, state).shape[-1]
        streams = self.spec.num_agents if self._own_outputs else 1
        return ActorCritic(
            Weights(
                self.actor.init(actor_key, actor_size),
                no_moments(actor_size) if self.actor_norm == "running" else (),
            ),
            Weights(
                self.critic.init(critic_key, critic_size),
                no_moments(critic_size) if self.critic_norm == "running" else (),
                no_moments(streams) if self.value_norm else (),
            ),
        )

    def initial_carries(self, batch: int) -> tuple[Carry, Carry]:
        """Zero carries of actor (B, N, H) and critic (B, H) or (B, N, H); `()` if feed-forward."""
        return self.actor.initial_carry(batch), self.critic.initial_carry(batch)

    def actor_input(self, obs: Array) -> Array:
        """What the actor reads, before it is standardised: (L, B, N, F)."""
        return _flat(as_float(obs), 3)

    def critic_input(self, obs: Array, global_state: Array) -> Array:
        """What the critic reads, before it is standardised: (L, B, F), or (L, B, N, F)."""
        obs, global_state = as_float(obs), as_float(global_state)
        if self.critic_view == "state":
            return _flat(global_state, 2)
        if self.critic_view == "obs":
            return _flat(obs, 3)
        tiled = jnp.repeat(_flat(global_state, 2)[:, :, None], self.spec.num_agents, axis=2)
        return jnp.concatenate([_flat(obs, 3), tiled], axis=-1)

    def act(
        self, weights: Weights, carry: Carry, obs: Array, first: Array, action_mask: Array
    ) -> tuple[Carry, Distribution]:
        """The policy over a sequence.

        Args:
            weights: the actor's.
            carry: (B, N, H) before the first step.
            obs: (L, B, N, *obs_shape).
            first: (L, B) bool.
            action_mask: (L, B, N, A) bool.

        Returns:
            Carries after each step (L, B, N, H), and the distribution over (L, B, N).
        """
        x = _standardized(self.actor_input(obs), self.actor_norm, weights.inputs)
        carries, action_params = self.actor.apply(weights.params, carry, x, first)
        return carries, distribution(self.spec.action, action_params, action_mask)

    def act_once(
        self, weights: Weights, carry: Carry, time_step: TimeStep | Observation, first: Array
    ) -> tuple[Carry, Distribution]:
        """The policy for one time step (B, ...): the carry after it, the distribution over (B, N).

        `first` is (B,) bool; for the rest see `act`.
        """
        x = _standardized(self.actor_input(time_step.obs[None]), self.actor_norm, weights.inputs)
        sequence = self.actor.apply(weights.params, carry, x, first[None])
        carry, action_params = jax.tree.map(lambda x: x[0], sequence)
        return carry, distribution(self.spec.action, action_params, time_step.action_mask)

    def value(
        self, weights: Weights, carry: Carry, obs: Array, global_state: Array, first: Array
    ) -> tuple[Carry, Array]:
        """The critic over a sequence; arguments as `act`, global_state (L, B, *state_shape).

        Returns:
            Carries after each step, and values (L, B, V) in units of the reward.
        """
        return self.value_of(weights, carry, self.critic_input(obs, global_state), first)

    def value_of(
        self, weights: Weights, carry: Carry, x: Array, first: Array
    ) -> tuple[Carry, Array]:
        """Likewise, of what `critic_input` makes of observations and states, (L, B, ..., F)."""
        x = _standardized(x, self.critic_norm, weights.inputs)
        carries, value = self.critic.apply(weights.params, carry, x, first)
        value = value if self.critic_view == "state" else value[..., 0]
        if isinstance(weights.outputs, Moments):
            value = weights.outputs.mean + weights.outputs.scale * value
        return carries, value

    def with_outputs(self, critic: Weights, outputs: Moments) -> Weights:
        """The critic with other moments of its targets, and the same values as before.

        The head takes on the inverse of what the moments change (PopArt, van Hasselt et al. 2016).
        """
        old = critic.outputs
        assert isinstance(old, Moments)
        gain = old.scale / outputs.scale
        shift = (old.mean - outputs.mean) / outputs.scale
        head = critic.params["params"]["head"]
        if isinstance(self.critic, Grouped):  # an axis of groups, then those of a head
            gain, shift = gain[:, None], shift[:, None]
            kernel = head["kernel"] * gain[:, None]
        else:
            kernel = head["kernel"] * gain
        head = {"kernel": kernel, "bias": head["bias"] * gain + shift}
        params = critic.params["params"] | {"head": head}
        return critic._replace(params={"params": params}, outputs=outputs)

    def target_streams(self, x: Array) -> Array:
        """Values (..., V) as samples of what `Weights.outputs` tells apart."""
        return x if self._own_outputs else x[..., None]

    @property
    def _own_outputs(self) -> bool:
        """Whether each value stream has moments of its own: each then has a head of its own."""
        if isinstance(self.critic, Grouped):
            return self.critic.groups.size == 1
        return isinstance(self.critic, Joint) and self.num_values > 1


def num_values(spec: EnvSpec, critic_view: CriticView) -> int:
    """`V`: 1 if the critic is the team's, else N."""
    return 1 if critic_view == "state" and spec.shared_reward else spec.num_agents


def make_networks(
    spec: EnvSpec,
    width: int = 64,
    core: Core = "gru",
    critic_view: CriticView = "state",
    share_parameters: Sharing = True,
    state_std: bool = False,
    actor_norm: InputNorm = "none",
    critic_norm: InputNorm = "none",
    value_norm: bool = False,
    depth: int = 1,
    activation: Activation = "relu",
    network: str | None = None,
    kernel_init: KernelInit = "normal",
    agent_ids: bool = True,
) -> Networks:
    """The networks of this package, or a user's, for an environment.

    Args:
        spec: the environment's.
        width: units of every hidden layer and of the GRU.
        core: "ff" or "gru".
        critic_view: see `Networks`.
        share_parameters: one actor (and critic of agents) for all agents, told apart by an id; one
            for each; or "groups", one for each group of the spec.
        state_std: see `Actor`.
        actor_norm: see `Networks`.
        critic_norm: see `Networks`.
        value_norm: see `Networks`.
        depth: see `Architecture`.
        activation: see `Architecture`.
        network: `module:factory` of a network of somebody's own; see `own`.
        kernel_init: see `Architecture`.
        agent_ids: agents that share a network are told apart by an id.

    Raises:
        UserError: an own network that cannot be made, or does not fit; groups that the
            environment does not have.
    """
    groups, parts = groups_of(spec, share_parameters), _parts(spec)
    sharing = spec.num_agents if groups is None else groups.size
    ids = sharing if agent_ids and (groups is None or sharing > 1) else 0

    def architecture(role: Role, parts: tuple[Shape, ...], num_ids: int) -> Architecture:
        own = None if network is None else own_network(network, role, spec)
        if own is not None:
            own.check(own_shape(parts, num_ids))
            if core == "ff" and jax.tree.leaves(own.initial_carry(1)):
                raise UserError(f"network {shown(network)} is recurrent, expected core = 'gru'")
        return Architecture(width, core, depth, activation, kernel_init, own)

    def of_agents(module: Actor | Critic) -> Network:
        return Shared(module, sharing) if groups is None else Grouped(module, groups)

    def critic_module(num_outputs: int, num_ids: int) -> Critic:
        how = architecture("critic", parts[critic_view], num_ids)
        return Critic(how, num_outputs, num_ids, parts[critic_view])

    if critic_view == "state":
        critic = Joint(critic_module(num_values(spec, critic_view), 0))
    else:
        critic = of_agents(critic_module(1, ids))
    how = architecture("actor", parts["obs"], ids)
    actor = of_agents(Actor(spec.action, how, ids, parts["obs"], state_std))
    return Networks(spec, actor, critic, critic_view, actor_norm, critic_norm, value_norm)


def _parts(spec: EnvSpec) -> dict[str, tuple[Shape, ...]]:
    """The shapes that are read, by what is looked at."""
    obs = tuple(shape for _, shape in spec.obs_parts) or (spec.obs_shape,)
    state = tuple(shape for _, shape in spec.state_parts) or (spec.state_shape,)
    return {"state": state, "obs": obs, "both": obs + state}


def _standardized(x: Array, how: InputNorm, moments: Moments | tuple[()]) -> Array:
    if isinstance(moments, Moments):
        return standardize(x, moments)
    return layer_standardize(x) if how == "layer" else x


def _flat(x: Array, batch_axes: int) -> Array:
    """Flattens all axes after the first `batch_axes` into one."""
    return x.reshape((*x.shape[:batch_axes], -1))
