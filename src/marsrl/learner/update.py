"""One update: epochs of shuffled minibatches of sequences, and the step that each makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from marsrl.envs.vector import split_each
from marsrl.learner.advantages import Axes, masked_mean, mean_and_std
from marsrl.learner.experience import Batch, Experience
from marsrl.learner.losses import Losses, Statistics, loss, statistics
from marsrl.learner.metrics import Metrics, nothing, one, summed
from marsrl.learner.moments import Moments, merge
from marsrl.learner.networks import ActorCritic, Networks, Weights
from marsrl.learner.schedule import Schedule
from marsrl.learner.values import living, owned_values
from marsrl.objectives import U_MAX, Objective
from marsrl.types import Array, Key


@dataclass(frozen=True)
class Passes:
    """How often an update goes over its experience, and in what portions.

    Attributes:
        update_epochs: passes.
        num_minibatches: of each pass.
        num_chunks: `K`, into which the rollout is cut; sequences are what is shuffled.
        kl_stop: mean `approx_kl` (nats) of a pass after which no other follows.
    """

    update_epochs: int
    num_minibatches: int
    num_chunks: int
    kl_stop: float | None


class Learner(NamedTuple):
    """What an update changes: the weights, and the states of their optimisers."""

    weights: ActorCritic
    opt_states: ActorCritic


def make_optimizer(max_grad_norm: float) -> optax.GradientTransformation:
    """Adam behind a global-norm clip, without the step size, which `Schedule` has.

    It works on one flat vector, since a loop over many small arrays costs more than its
    arithmetic.
    """
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5))


def init_learner(optimizer: optax.GradientTransformation, weights: ActorCritic) -> Learner:
    """A learner before its first update."""
    return Learner(
        weights, ActorCritic(*(optimizer.init(ravel_pytree(w.params)[0]) for w in weights))
    )


def to_sequences(experience: Experience, num_chunks: int) -> Batch:
    """Cuts time into chunks: (T, E, ...) -> (L, K * E, ...), carries (K, E, ...) -> (K * E, ...).

    Time is split before the chunk axis moves; a plain reshape of (T, E) would string together
    steps that do not follow each other.
    """

    def cut(x: Array) -> Array:
        chunks = x.reshape((num_chunks, -1, *x.shape[1:])).swapaxes(0, 1)  # (L, K, E, ...)
        return chunks.reshape((chunks.shape[0], -1, *chunks.shape[3:]))

    carries = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), experience.carries)
    return Batch(jax.tree.map(cut, experience.steps), carries)


def take_sequences(sequences: Batch, index: Array) -> Batch:
    """The minibatch of the sequences at `index` (B,)."""
    steps = jax.tree.map(lambda x: x[:, index], sequences.steps)
    return Batch(steps, jax.tree.map(lambda x: x[index], sequences.carries))


def shuffle(passes: Passes, keys: Key, num_envs: int) -> Array:
    """A random order of the sequences, as indices (num_minibatches, B).

    Every block of environments is shuffled by itself and gives each minibatch an equal share. A
    device that holds some of the blocks thus finds its share of every minibatch in its own memory,
    and the minibatches do not depend on how the blocks are spread.

    Args:
        passes: into how many chunks and minibatches.
        keys: one for each block that is here.
        num_envs: environments that are here, in the blocks' order.
    """
    blocks, size = len(keys), num_envs // len(keys)

    def one_block(key: Key) -> Array:
        return jax.random.permutation(key, passes.num_chunks * size)

    order = jax.vmap(one_block)(keys)
    env = order % size + size * jnp.arange(blocks)[:, None]
    sequence = (order // size * num_envs + env).reshape((blocks, passes.num_minibatches, -1))
    return sequence.swapaxes(0, 1).reshape((passes.num_minibatches, -1))


def update(
    networks: Networks,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    passes: Passes,
    learner: Learner,
    experience: Experience,
    schedule: Schedule,
    keys: Key,
    axes: Axes = (),
) -> tuple[Learner, Metrics]:
    """Passes `update_epochs` times over the experience.

    What inputs are standardised by stays as it was in the rollout until the last pass, so that the
    first replay gives the very policy that acted; then the experience is taken into it.

    Args:
        networks: actor and critic.
        objective: the surrogate, whose trust region is the schedule's.
        optimizer: from `make_optimizer`, for either.
        losses: what is minimised.
        passes: how often, and in what portions.
        learner: what is changed.
        experience: of the environments that are here.
        schedule: the step sizes, weights and widths of this update.
        keys: PRNG keys, one for each block of environments that is here.
        axes: mesh axes over which the environments are spread: gradients are averaged over them.

    Returns:
        The changed learner, and the metrics over all minibatches, or where they are no means over
        samples, over the parts that devices have of these; plus `eps`, the upper width in force;
        `update_kl` and its spread, see `movement`; and `replay_error/max`: the largest |log_ratio|
        of the very first minibatch, which is 0 but for rounding if the replay is right.
    """
    transition, num_envs = experience.steps.transition, experience.steps.value.shape[1]
    owned = owned_values(networks, transition.agent_mask)
    weights = _with_targets(networks, learner.weights, experience.steps.target, owned, axes)
    sequences = to_sequences(experience, passes.num_chunks)
    objective = objective.within(schedule.eps_low, schedule.eps_high)

    def minibatch(learner: Learner, part: tuple[Array, Statistics]) -> tuple[Learner, Metrics]:
        index, stats = part
        batch = take_sequences(sequences, index)
        params = ActorCritic(*(each.params for each in learner.weights))
        gradient = jax.grad(partial(loss, networks, objective, losses), has_aux=True)
        grads, metrics = gradient(params, learner.weights, batch, stats, schedule.ent_coef)
        learner, norms = _apply(optimizer, learner, grads, schedule, axes)
        return learner, metrics | norms

    def statistics_at(index: Array) -> Statistics:
        return statistics(networks, losses, take_sequences(sequences, index), axes)

    def epoch(learner: Learner, keys: Key) -> tuple[Learner, Metrics]:
        order = shuffle(passes, keys, num_envs)
        # of all minibatches at once, so that devices wait for each other once, not in each of them
        return jax.lax.scan(minibatch, learner, (order, jax.vmap(statistics_at)(order)))

    learner, metrics = _epochs(passes, epoch, learner._replace(weights=weights), keys, axes)
    return _concluded(networks, learner, metrics, experience, sequences, schedule, axes)


def movement(networks: Networks, actor: Weights, sequences: Batch, axes: Axes = ()) -> Metrics:
    """How far the policy has moved from the one that acted, over the whole rollout.

    The KL from the old policy to the new one, estimated without bias from the actions that were
    taken by the mean of `r - 1 - u`, which is never negative.

    Args:
        networks: actor and critic.
        actor: the new weights, with the old standardisation of their inputs.
        sequences: the rollout, from `to_sequences`.
        axes: mesh axes over which it is spread.

    Returns:
        `update_kl`, over live agents (nats), and `update_kl/agents`, the standard deviation of the
        means of the agents that lived.
    """
    steps = sequences.steps.transition
    carry = sequences.carries.actor
    _, dist = networks.act(actor, carry, steps.obs, steps.first, steps.action_mask)
    log_ratio = dist.log_prob(steps.action) - steps.log_prob
    kl, mask = jnp.expm1(jnp.minimum(log_ratio, U_MAX)) - log_ratio, steps.agent_mask
    lived = jax.lax.psum(mask.any((0, 1)).astype(jnp.float32), axes) > 0
    _, spread = mean_and_std(masked_mean(kl, mask, axes, over=(0, 1)), lived)
    return {"update_kl": one(masked_mean(kl, mask, axes)), "update_kl/agents": one(spread)}


def _epochs(
    passes: Passes,
    epoch: Callable[[Learner, Key], tuple[Learner, Metrics]],
    learner: Learner,
    keys: Key,
    axes: Axes,
) -> tuple[Learner, Metrics]:
    """All passes, or those up to the one after which the policy has moved by `kl_stop`."""

    def run(state: tuple[Learner, Key, Array], _: None) -> tuple[tuple, Metrics]:
        learner, keys, going = state
        keys, epoch_keys = split_each(keys, 2)
        if passes.kl_stop is None:
            learner, metrics = epoch(learner, epoch_keys)
        else:
            skipped = nothing(jax.eval_shape(epoch, learner, epoch_keys)[1])
            learner, metrics = jax.lax.cond(
                going, epoch, lambda learner, _: (learner, skipped), learner, epoch_keys
            )
            metrics |= {"update/passes": one(going.astype(jnp.float32))}  # the share that was made
            moved = summed({"kl": metrics["approx_kl"]}, axes)["kl"]
            going &= moved.total <= passes.kl_stop * moved.number
        return (learner, keys, going), metrics

    (learner, *_), metrics = jax.lax.scan(
        run, (learner, keys, jnp.array(True)), length=passes.update_epochs
    )
    return learner, metrics


def _with_targets(
    networks: Networks, weights: ActorCritic, target: Array, owned: Array, axes: Axes
) -> ActorCritic:
    """The weights after the critic has learned the scale of its new targets, (T, E, V)."""
    if not isinstance(weights.critic.outputs, Moments):
        return weights
    streams = networks.target_streams
    outputs = merge(weights.critic.outputs, streams(target), streams(owned), axes)
    return weights._replace(critic=networks.with_outputs(weights.critic, outputs))


def _concluded(
    networks: Networks,
    learner: Learner,
    metrics: Metrics,
    experience: Experience,
    sequences: Batch,
    schedule: Schedule,
    axes: Axes,
) -> tuple[Learner, Metrics]:
    """Takes the inputs into what they are standardised by, and sums the metrics of all passes."""
    transition = experience.steps.transition
    replay_error = jax.lax.pmax(metrics.pop("log_ratio/max")[0, 0], axes)
    seen = transition.obs, transition.global_state, transition.agent_mask
    weights = with_inputs(networks, learner.weights, *seen, axes)
    metrics = summed(metrics, axes) | movement(networks, learner.weights.actor, sequences, axes)
    metrics |= {"eps": one(jnp.asarray(schedule.eps_high)), "replay_error/max": replay_error}
    return learner._replace(weights=weights), metrics


def with_inputs(
    networks: Networks,
    weights: ActorCritic,
    obs: Array,
    global_state: Array,
    agent_mask: Array,
    axes: Axes = (),
) -> ActorCritic:
    """The weights after observations (T, E, ...) of live agents were taken into their moments."""

    def taken(each: Weights, x: Array) -> Weights:
        if not isinstance(each.inputs, Moments):
            return each
        return each._replace(inputs=merge(each.inputs, x, living(x, agent_mask), axes))

    actor, critic = weights
    return ActorCritic(
        taken(actor, networks.actor_input(obs)),
        taken(critic, networks.critic_input(obs, global_state)),
    )


def _apply(
    optimizer: optax.GradientTransformation,
    learner: Learner,
    grads: ActorCritic,
    schedule: Schedule,
    axes: Axes,
) -> tuple[Learner, Metrics]:
    """One step of both optimisers along the sum of the devices' gradients."""
    flat, unravel = ravel_pytree(grads)  # one exchange instead of one per array
    actor_size = sum(leaf.size for leaf in jax.tree.leaves(grads.actor))
    vectors = jnp.split(jax.lax.psum(flat, axes), [actor_size])
    pairs = [
        optimizer.update(vector, state)
        for vector, state in zip(vectors, learner.opt_states, strict=True)
    ]
    updates, opt_states = zip(*pairs, strict=True)
    rates = schedule.actor_lr, schedule.critic_lr
    steps = unravel(jnp.concatenate([-r * u for r, u in zip(rates, updates, strict=True)]))
    weights = ActorCritic(
        *(
            each._replace(params=jax.tree.map(jnp.add, each.params, step))
            for each, step in zip(learner.weights, steps, strict=True)
        )
    )
    actor_norm, critic_norm = (one(optax.tree.norm(vector)) for vector in vectors)
    norms: Metrics = {"actor/grad_norm": actor_norm, "critic/grad_norm": critic_norm}
    return Learner(weights, ActorCritic(*opt_states)), norms
