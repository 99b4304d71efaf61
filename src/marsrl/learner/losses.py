"""What an update minimises, on a minibatch: the losses of actor and critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from marsrl.learner.advantages import Axes, masked_mean, mean_and_std
from marsrl.learner.experience import Batch
from marsrl.learner.metrics import Metrics, Tally, mean_over, one
from marsrl.learner.moments import Moments
from marsrl.learner.networks import ActorCritic, Networks, Weights
from marsrl.learner.values import owned_values
from marsrl.objectives import Objective, diagnostics
from marsrl.types import Array


@dataclass(frozen=True)
class Losses:
    """What is minimised.

    Attributes:
        normalize_advantage: per minibatch, over live agents.
        advantage_per_agent: each agent's by its own mean and deviation.
        advantage_floor: least deviation, in units of the scaled reward, to divide advantages by.
        value_clip: largest value change that the value loss rewards, in units of its targets.
        huber_delta: error, in units of its targets, beyond which the value loss is linear.
    """

    normalize_advantage: bool
    advantage_per_agent: bool
    advantage_floor: float
    value_clip: float | None
    huber_delta: float | None


_OF_ALL_LIVE = frozenset({"approx_kl", "ratio/outside", "ratio/collapsed", "gradient/dead"})
"""Diagnostics that are means over all live samples, so that those of parts can be added up."""


class Statistics(NamedTuple):
    """What the losses need to know of all devices' parts of a minibatch.

    Attributes:
        advantage_mean: over live agents; (), or (N,) if it is each agent's own.
        advantage_std: likewise.
        explained_variance: () of the targets, by the values of the rollout; NaN if all targets are
            the same.
        actor_share: () the share of the live agents that is on this device.
        critic_share: () likewise of the value streams that belong to someone.
    """

    advantage_mean: Array
    advantage_std: Array
    explained_variance: Array
    actor_share: Array
    critic_share: Array


def statistics(networks: Networks, losses: Losses, batch: Batch, axes: Axes = ()) -> Statistics:
    """Of the minibatch whose part on this device is `batch`."""
    steps, mask = batch.steps, batch.steps.transition.agent_mask
    owned = owned_values(networks, mask)
    # a team's one advantage counts for every agent
    advantage = jnp.broadcast_to(steps.advantage, mask.shape)
    over = (0, 1) if losses.advantage_per_agent else None
    mean, std = mean_and_std(advantage, mask, axes, over)
    _, spread = mean_and_std(steps.target, owned, axes)
    _, error = mean_and_std(steps.target - steps.value, owned, axes)
    return Statistics(
        advantage_mean=mean,
        advantage_std=std,
        explained_variance=jnp.where(spread > 0, 1.0 - (error / spread) ** 2, jnp.nan),
        actor_share=_share(mask, axes),
        critic_share=_share(owned, axes),
    )


def _share(mask: Array, axes: Axes) -> Array:
    """The share of all masked entries that is here: 1 if nothing is spread."""
    return mask.sum() / jnp.maximum(jax.lax.psum(mask.sum(), axes), 1)


def loss(
    networks: Networks,
    objective: Objective,
    losses: Losses,
    params: ActorCritic,
    weights: ActorCritic,
    batch: Batch,
    stats: Statistics,
    ent_coef: Array | float,
) -> tuple[Array, Metrics]:
    """The loss of actor and critic together; they share no parameters, so their weight is equal.

    Where the batch is spread over devices, each one's loss is its share: the shares, and so their
    gradients, add up to those of the whole batch. The metrics are those of the part that is here.

    Args:
        networks: actor and critic.
        objective: the surrogate.
        losses: what is minimised.
        params: by which to differentiate.
        weights: what else the networks' outputs depend on.
        batch: the part that is here.
        stats: of the whole minibatch.
        ent_coef: weight of the entropy.
    """
    actor, critic = (w._replace(params=p) for w, p in zip(weights, params, strict=True))
    actor_loss, actor_metrics = _actor_loss(
        networks, objective, losses, actor, batch, stats, ent_coef
    )
    critic_loss, critic_metrics = _critic_loss(networks, losses, critic, batch, stats)
    return actor_loss + critic_loss, jax.lax.stop_gradient(actor_metrics | critic_metrics)


def _actor_loss(
    networks: Networks,
    objective: Objective,
    losses: Losses,
    actor: Weights,
    batch: Batch,
    stats: Statistics,
    ent_coef: Array | float,
) -> tuple[Array, Metrics]:
    """`-mean objective(log_ratio, advantage) - ent_coef * mean entropy`, over live agents."""
    steps = batch.steps.transition
    _, dist = networks.act(actor, batch.carries.actor, steps.obs, steps.first, steps.action_mask)
    log_ratio = dist.log_prob(steps.action) - steps.log_prob
    mask = steps.agent_mask
    advantage = jnp.broadcast_to(batch.steps.advantage, log_ratio.shape)
    if losses.normalize_advantage:
        deviation = jnp.maximum(stats.advantage_std, losses.advantage_floor) + 1e-8
        advantage = (advantage - stats.advantage_mean) / deviation
    surrogate, pullback = jax.vjp(lambda u: objective(u, advantage), log_ratio)
    (slope,) = pullback(jnp.ones_like(surrogate))
    entropy = masked_mean(dist.entropy(), mask)
    actor_loss = -masked_mean(surrogate, mask) - ent_coef * entropy
    measured = diagnostics(log_ratio, advantage, slope, mask, objective.region)
    live = mask.sum().astype(log_ratio.dtype)
    metrics: Metrics = {
        "actor/loss": Tally(live * actor_loss, live),  # NaN too: it says what has diverged
        "entropy": Tally(live * entropy, live),
        "advantage/std": one(stats.advantage_std.mean()),
        "log_ratio/max": jnp.max(jnp.where(mask, jnp.abs(log_ratio), 0.0)),
    }
    for name, x in measured.items():  # NaN where there was no sample of the kind
        if name.endswith("/min"):
            metrics[name] = jnp.where(jnp.isnan(x), jnp.inf, x)
        elif name.endswith("/max"):
            metrics[name] = jnp.where(jnp.isnan(x), -jnp.inf, x)
        else:
            metrics[name] = mean_over(live if name in _OF_ALL_LIVE else 1.0, x)
    return stats.actor_share * actor_loss, metrics


def _critic_loss(
    networks: Networks, losses: Losses, critic: Weights, batch: Batch, stats: Statistics
) -> tuple[Array, Metrics]:
    """Half the mean squared error to the target, over value streams that belong to someone."""
    steps, transition = batch.steps, batch.steps.transition
    owned = owned_values(networks, transition.agent_mask)
    inputs = transition.obs, transition.global_state, transition.first
    _, value = networks.value(critic, batch.carries.critic, *inputs)
    unit = critic.outputs.scale if isinstance(critic.outputs, Moments) else 1.0
    error = _value_error(losses, (value - steps.target) / unit)
    if losses.value_clip is not None:
        limit = losses.value_clip * unit
        clipped = steps.value + jnp.clip(value - steps.value, -limit, limit)
        error = jnp.maximum(error, _value_error(losses, (clipped - steps.target) / unit))
    critic_loss, number = masked_mean(error, owned), owned.sum().astype(error.dtype)
    metrics: Metrics = {
        "critic/loss": Tally(number * critic_loss, number),
        "critic/explained_variance": mean_over(1.0, stats.explained_variance),
        "critic/value": Tally(number * masked_mean(steps.value, owned), number),
    }
    return stats.critic_share * critic_loss, metrics


def _value_error(losses: Losses, error: Array) -> Array:
    """Half the square, or Huber's loss if it is asked for."""
    if losses.huber_delta is None:
        return 0.5 * error**2
    return optax.losses.huber_loss(error, delta=losses.huber_delta)
