"""One update: epochs of shuffled minibatches of sequences, actor and critic losses."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from marsrl.config import Config
from marsrl.envs.vector import split_each
from marsrl.indexing import take
from marsrl.learner.advantages import Axes, masked_mean, mean_and_std
from marsrl.learner.networks import Networks, Params
from marsrl.learner.rollout import Experience
from marsrl.objectives import Objective, diagnostics
from marsrl.types import Array, Key

Metrics = dict[str, Array]


class Learner(NamedTuple):
    """What an update changes: parameters and the state of their optimisers."""

    params: Params
    opt_state: Params


class Statistics(NamedTuple):
    """What the losses need to know of all devices' parts of a minibatch; () each.

    Attributes:
        advantage_mean: over live agents.
        advantage_std: likewise.
        explained_variance: of the targets, by the values of the rollout.
        actor_share: the share of the live agents that is on this device.
        critic_share: likewise of the value streams that belong to someone.
    """

    advantage_mean: Array
    advantage_std: Array
    explained_variance: Array
    actor_share: Array
    critic_share: Array


def init_learner(config: Config, params: Params) -> Learner:
    """A learner before its first update."""
    pairs = zip(_make_optimizer(config), params, strict=True)
    return Learner(params, Params(*(tx.init(ravel_pytree(p)[0]) for tx, p in pairs)))


def _make_optimizer(config: Config) -> Params:
    """Adam behind a global-norm clip, one for the actor and one for the critic.

    Each works on one flat vector, since a loop over many small arrays costs more than its
    arithmetic.
    """

    def adam(lr: float) -> optax.GradientTransformation:
        steps = config.num_updates * config.update_epochs * config.num_minibatches
        rate = optax.linear_schedule(lr, 0.0, steps) if config.anneal_lr else lr
        clip = optax.clip_by_global_norm(config.max_grad_norm)
        return optax.chain(clip, optax.adam(rate, eps=1e-5))

    return Params(adam(config.actor_lr), adam(config.critic_lr))


def to_sequences(experience: Experience, num_chunks: int) -> Experience:
    """Cuts time into chunks: (T, E, ...) -> (L, K * E, ...), carries (K, E, ...) -> (K * E, ...).

    Time is split before the chunk axis moves; a plain reshape of (T, E) would string together
    steps that do not follow each other.
    """

    def cut(x: Array) -> Array:
        chunks = x.reshape((num_chunks, -1, *x.shape[1:])).swapaxes(0, 1)  # (L, K, E, ...)
        return chunks.reshape((chunks.shape[0], -1, *chunks.shape[3:]))

    steps = jax.tree.map(cut, experience[:4])
    carries = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), experience[4:])
    return Experience(*steps, *carries)


def take_sequences(sequences: Experience, index: Array) -> Experience:
    """The minibatch (L, B, ...) of the sequences at `index` (B,)."""
    steps = jax.tree.map(lambda x: take(x, (slice(None), index)), sequences[:4])
    carries = jax.tree.map(lambda x: take(x, index), sequences[4:])
    return Experience(*steps, *carries)


def shuffle(config: Config, keys: Key, num_envs: int) -> Array:
    """A random order of the sequences, as indices (num_minibatches, B).

    Every block of environments is shuffled by itself and gives each minibatch an equal share. A
    device that holds some of the blocks thus finds its share of every minibatch in its own memory,
    and the minibatches do not depend on how the blocks are spread.

    Args:
        config: the run's.
        keys: one for each block that is here.
        num_envs: environments that are here, in the blocks' order.
    """
    blocks, size = len(keys), num_envs // len(keys)

    def one_block(key: Key) -> Array:
        return jax.random.permutation(key, config.num_chunks * size)

    order = jax.vmap(one_block)(keys)
    env = order % size + size * jnp.arange(blocks)[:, None]
    sequence = (order // size * num_envs + env).reshape((blocks, config.num_minibatches, -1))
    return sequence.swapaxes(0, 1).reshape((config.num_minibatches, -1))


def update(
    config: Config,
    networks: Networks,
    objective: Objective,
    learner: Learner,
    experience: Experience,
    keys: Key,
    axes: Axes = (),
) -> tuple[Learner, Metrics]:
    """Passes `update_epochs` times over the experience.

    Args:
        config: the run's.
        networks: actor and critic.
        objective: the surrogate.
        learner: what is changed.
        experience: of the environments that are here.
        keys: PRNG keys, one for each block of environments that is here.
        axes: mesh axes over which the environments are spread: gradients are averaged over them.

    Returns:
        The changed learner, and the metrics over all minibatches (and devices, each with its part
        of a minibatch): the mean of each (the minimum of `ratio/min`, the maximum of `ratio/max`),
        plus `replay_error`: the largest |log_ratio| of the very first minibatch, which is 0 but for
        rounding if the replay is right.
    """
    sequences = to_sequences(experience, config.num_chunks)
    optimizer = _make_optimizer(config)

    def minibatch(learner: Learner, part: tuple[Array, Statistics]) -> tuple[Learner, Metrics]:
        index, stats = part
        batch = take_sequences(sequences, index)
        gradient = jax.grad(loss, argnums=3, has_aux=True)
        grads, metrics = gradient(config, networks, objective, learner.params, batch, stats)
        learner, norms = _apply(optimizer, learner, grads, axes)
        return learner, metrics | norms

    def epoch(state: tuple[Learner, Key], _: None) -> tuple[tuple[Learner, Key], Metrics]:
        learner, keys = state
        keys, shuffle_keys = split_each(keys, 2)
        order = shuffle(config, shuffle_keys, experience.value.shape[1])
        # of all minibatches at once, so that devices wait for each other once, not in each of them
        stats = jax.vmap(lambda index: statistics(take_sequences(sequences, index), axes))(order)
        learner, metrics = jax.lax.scan(minibatch, learner, (order, stats))
        return (learner, keys), metrics

    (learner, _), metrics = jax.lax.scan(epoch, (learner, keys), length=config.update_epochs)
    replay_error = jax.lax.pmax(metrics.pop("log_ratio/max")[0, 0], axes)
    return learner, reduce_metrics(metrics, axes) | {"replay_error": replay_error}


def _apply(
    optimizer: Params, learner: Learner, grads: Params, axes: Axes
) -> tuple[Learner, Metrics]:
    """One step of both optimisers along the sum of the devices' gradients."""
    flat, unravel = ravel_pytree(grads)  # one exchange instead of one per array
    actor_size = sum(leaf.size for leaf in jax.tree.leaves(grads.actor))
    vectors = jnp.split(jax.lax.psum(flat, axes), [actor_size])
    pairs = [
        tx.update(vector, state)
        for tx, vector, state in zip(optimizer, vectors, learner.opt_state, strict=True)
    ]
    updates, opt_state = zip(*pairs, strict=True)
    params = jax.tree.map(jnp.add, learner.params, unravel(jnp.concatenate(updates)))
    actor_norm, critic_norm = map(optax.tree.norm, vectors)
    norms = {"actor/grad_norm": actor_norm, "critic/grad_norm": critic_norm}
    return Learner(params, Params(*opt_state)), norms


def statistics(batch: Experience, axes: Axes = ()) -> Statistics:
    """Of the minibatch whose part on this device is `batch`, (L, B, ...)."""
    mask, owned = batch.transition.agent_mask, _owned(batch)
    # a team's one advantage counts for every agent
    mean, std = mean_and_std(jnp.broadcast_to(batch.advantage, mask.shape), mask, axes)
    _, spread = mean_and_std(batch.target, owned, axes)
    _, error = mean_and_std(batch.target - batch.value, owned, axes)
    return Statistics(
        advantage_mean=mean,
        advantage_std=std,
        explained_variance=1.0 - error**2 / (spread**2 + 1e-8),
        actor_share=_share(mask, axes),
        critic_share=_share(owned, axes),
    )


def _owned(batch: Experience) -> Array:
    """(L, B, V) bool: the value stream belongs to someone who is alive."""
    mask = batch.transition.agent_mask
    return mask.any(-1, keepdims=True) if batch.value.shape[-1] == 1 else mask


def _share(mask: Array, axes: Axes) -> Array:
    """The share of all masked entries that are here: 1 if nothing is spread."""
    return mask.sum() / jnp.maximum(jax.lax.psum(mask.sum(), axes), 1)


def loss(
    config: Config,
    networks: Networks,
    objective: Objective,
    params: Params,
    batch: Experience,
    stats: Statistics,
) -> tuple[Array, Metrics]:
    """The loss of actor and critic together (they share no parameters) on (L, B, ...) sequences.

    Where the batch is spread over devices, each one's loss is its share: the shares, and so their
    gradients, add up to those of the whole batch. The metrics are those of the part that is here.
    """
    actor_loss, actor_metrics = _actor_loss(config, networks, objective, params.actor, batch, stats)
    critic_loss, critic_metrics = _critic_loss(config, networks, params.critic, batch, stats)
    return actor_loss + config.vf_coef * critic_loss, actor_metrics | critic_metrics


def _actor_loss(
    config: Config,
    networks: Networks,
    objective: Objective,
    params: Any,
    batch: Experience,
    stats: Statistics,
) -> tuple[Array, Metrics]:
    """`-mean objective(log_ratio, advantage) - ent_coef * mean entropy`, over live agents."""
    steps = batch.transition
    _, dist = networks.act(params, batch.actor_carry, steps.obs, steps.first, steps.action_mask)
    log_ratio = dist.log_prob(steps.action) - steps.log_prob
    mask = steps.agent_mask
    advantage = jnp.broadcast_to(batch.advantage, log_ratio.shape)
    if config.normalize_advantage:
        advantage = (advantage - stats.advantage_mean) / (stats.advantage_std + 1e-8)
    surrogate, pullback = jax.vjp(lambda u: objective(u, advantage), log_ratio)
    (slope,) = pullback(jnp.ones_like(surrogate))
    entropy = masked_mean(dist.entropy(), mask)
    actor_loss = -masked_mean(surrogate, mask) - config.ent_coef * entropy
    metrics = {
        "actor/loss": actor_loss,
        "entropy": entropy,
        "advantage/std": stats.advantage_std,
        "log_ratio/max": jnp.max(jnp.where(mask, jnp.abs(log_ratio), 0.0)),
        **diagnostics(log_ratio, advantage, slope, mask, objective.region),
    }
    return stats.actor_share * actor_loss, jax.lax.stop_gradient(metrics)


def _critic_loss(
    config: Config, networks: Networks, params: Any, batch: Experience, stats: Statistics
) -> tuple[Array, Metrics]:
    """Half the mean squared error to the target, over value streams that belong to someone."""
    steps, owned = batch.transition, _owned(batch)
    _, value = networks.value(
        params, batch.critic_carry, steps.obs, steps.global_state, steps.first
    )
    error = (value - batch.target) ** 2
    if config.value_clip is not None:
        change = jnp.clip(value - batch.value, -config.value_clip, config.value_clip)
        error = jnp.maximum(error, (batch.value + change - batch.target) ** 2)
    critic_loss = 0.5 * masked_mean(error, owned)
    metrics = {
        "critic/loss": critic_loss,
        "critic/explained_variance": stats.explained_variance,
        "critic/value": masked_mean(batch.value, owned),
    }
    return stats.critic_share * critic_loss, jax.lax.stop_gradient(metrics)


def reduce_metrics(metrics: Metrics, axes: Axes = ()) -> Metrics:
    """Reduces all axes, those of the mesh too.

    Mean without NaN, but the least of `*/min` and the greatest of `*/max`.
    """
    extremes, means = {}, {}
    for name, x in metrics.items():
        if name.endswith("/min"):
            extremes[name] = jax.lax.pmin(x.min(), axes)
        elif name.endswith("/max"):
            extremes[name] = jax.lax.pmax(x.max(), axes)
        else:
            means[name] = x.ravel()
    x = jnp.stack(list(means.values()))
    known = ~jnp.isnan(x)
    total, count = jax.lax.psum((jnp.where(known, x, 0.0).sum(1), known.sum(1)), axes)
    mean = jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
    return extremes | dict(zip(means, mean, strict=True))
