"""The algorithm: from a state to the next one, as pure functions of arrays.

    algorithm = make_algorithm(preset("paxmen/4ag"), make("paxmen/4ag"))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state, metrics = jax.jit(algorithm.step)(state)

`init` and `step` cross `jit`, `vmap` (over seeds) and `scan` (over updates). Runs, with their
devices, logs and checkpoints, are layers around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from marsrl.config import Config
from marsrl.envs.base import Environment
from marsrl.envs.vector import EpisodeStats, VectorEnv, VectorState, split_each, vectorize
from marsrl.learner.advantages import Axes
from marsrl.learner.evaluate import evaluate
from marsrl.learner.experience import RolloutState
from marsrl.learner.losses import Losses
from marsrl.learner.metrics import Metrics, Tally
from marsrl.learner.networks import Networks, Weights, make_networks
from marsrl.learner.rollout import Sampling, rollout
from marsrl.learner.schedule import Hyperparameters, hyperparameters, steered
from marsrl.learner.update import (
    Learner,
    Passes,
    init_learner,
    make_optimizer,
    update,
    with_inputs,
)
from marsrl.learner.values import Returns
from marsrl.objectives import Objective
from marsrl.types import Array, EnvSpec, Key


class TrainState(NamedTuple):
    """Everything that the future of a run depends on; with a leading axis S in a run.

    Attributes:
        learner: weights and optimiser states.
        rollout: environments and recurrent carries.
        keys: (env_blocks,) PRNG keys that shuffle minibatches, one for each block of environments.
        updates: () int32, updates done.
        diverged: () int32, the update whose loss or weights were not finite, or -1. A diverged
            seed keeps the state that it had before that update.
        log_size: () log of the trust region's size, relative to the one that its schedule says; 0
            unless it is steered by `target_kl`.
    """

    learner: Learner
    rollout: RolloutState
    keys: Key
    updates: Array
    diverged: Array
    log_size: Array


@dataclass(frozen=True)
class Algorithm:
    """Proximal policy optimisation of a team, with any objective.

    Attributes:
        env: the environments.
        networks: actor and critic.
        objective: the surrogate; its trust region is that of the hyperparameters.
        optimizer: of the actor, and of the critic.
        sampling: how experience is collected.
        returns: what rewards and time limits are taken for.
        losses: what is minimised.
        passes: how often an update goes over its experience.
        hyperparameters: what `step` takes by default.
        steers: whether the size of the trust region follows `target_kl`.
        env_blocks: blocks of environments, each shuffled by itself; see `update.shuffle`.
        axes: mesh axes over which a seed's environments are spread; `()` if all are here.
    """

    env: VectorEnv
    networks: Networks
    objective: Objective
    optimizer: optax.GradientTransformation
    sampling: Sampling
    returns: Returns
    losses: Losses
    passes: Passes
    hyperparameters: Hyperparameters
    steers: bool
    env_blocks: int
    axes: Axes = ()

    def init(self, key: Key, index: Array | None = None) -> TrainState:
        """The state of one seed before its first update.

        Args:
            key: one PRNG key, from which all else follows.
            index: (E',) which of the seed's environments are here; default: all E.
        """
        index = jnp.arange(self.sampling.num_envs) if index is None else index
        params_key, env_key, shuffle_key = jax.random.split(key, 3)
        fold_in = jax.vmap(jax.random.fold_in, (None, 0))
        key, vector = self._started(fold_in(env_key, index))
        now = jax.tree.map(lambda x: x[None], vector.time_step)  # a rollout of one step
        weights = with_inputs(
            self.networks,
            self.networks.init(params_key),
            now.obs,
            now.global_state,
            now.agent_mask,
            self.axes,
        )
        return TrainState(
            learner=init_learner(self.optimizer, weights),
            rollout=RolloutState(key, vector, *self.networks.initial_carries(len(index))),
            keys=fold_in(shuffle_key, index[:: self.sampling.num_envs // self.env_blocks]),
            updates=jnp.int32(0),
            diverged=jnp.int32(-1),
            log_size=jnp.float32(0),
        )

    def restarted(self, state: TrainState) -> TrainState:
        """The state with fresh environments, where those that it knew are gone."""
        key, vector = self._started(state.rollout.key)
        carries = self.networks.initial_carries(len(key))
        return state._replace(rollout=RolloutState(key, vector, *carries))

    def _started(self, key: Key) -> tuple[Key, VectorState]:
        """Environments at their first moment, and the keys (E,) that are left."""
        reset_key, stagger_key, key = split_each(key, 3)
        vector = self.env.reset(reset_key)
        if self.sampling.stagger:
            vector = self.env.stagger(stagger_key, vector, self.sampling.reset_pool)
        return key, vector

    def step(
        self, state: TrainState, hyperparameters: Hyperparameters | None = None
    ) -> tuple[TrainState, Metrics]:
        """One rollout and one update of one seed; a seed that has diverged stays as it is.

        Args:
            state: of the seed.
            hyperparameters: in place of the algorithm's own.
        """
        now = self.hyperparameters if hyperparameters is None else hyperparameters
        schedule = now.scheduled(state.updates, state.log_size)
        keys, update_keys = split_each(state.keys, 2)
        learner = state.learner
        played, experience, episodes = rollout(
            self.sampling,
            self.returns,
            schedule,
            self.networks,
            learner.weights,
            self.env,
            state.rollout,
            self.axes,
        )
        learner, metrics = update(
            self.networks,
            self.objective,
            self.optimizer,
            self.losses,
            self.passes,
            learner,
            experience,
            schedule,
            update_keys,
            self.axes,
        )
        log_size = state.log_size
        if self.steers:
            log_size = steered(log_size, schedule, metrics["update_kl"].total, now.target_kl)
        after = TrainState(learner, played, keys, state.updates + 1, state.diverged, log_size)
        judged = learner.weights, metrics["actor/loss"], metrics["critic/loss"]
        healthy = jnp.isfinite(ravel_pytree(judged)[0]).all() & (state.diverged < 0)
        frozen = state._replace(
            diverged=jnp.where(state.diverged < 0, state.updates + 1, state.diverged)
        )
        if self.env.on_host:  # they have moved on, whatever became of the seed
            frozen = frozen._replace(rollout=state.rollout._replace(vector=played.vector))
        after = jax.tree.map(partial(jnp.where, healthy), after, frozen)
        return after, metrics | episode_metrics(episodes, self.axes)

    def evaluate(
        self, actor: Weights, keys: Key, greedy: bool = False, longest: int | None = None
    ) -> EpisodeStats:
        """Plays one episode for each of the keys (B,); see `evaluate.evaluate`."""
        return evaluate(self.networks, actor, self.env.env, keys, greedy, longest)


def make_algorithm(
    config: Config, env: Environment, objective: Objective | None = None, axes: Axes = ()
) -> Algorithm:
    """The algorithm that a configuration asks for.

    Args:
        config: of a run.
        env: the environment, unbatched.
        objective: in place of the one that the configuration names.
        axes: mesh axes over which a seed's environments are spread.
    """
    objective = objective or config.make_objective()
    return Algorithm(
        env=vectorize(env),
        networks=networks_of(config, env.spec),
        objective=objective,
        optimizer=make_optimizer(config.max_grad_norm),
        sampling=Sampling(
            config.num_envs,
            config.rollout_length,
            config.sequence_length,
            config.reset_pool,
            config.stagger,
        ),
        returns=Returns(config.bootstrap_truncated, config.reward_scale),
        losses=Losses(
            config.normalize_advantage,
            config.advantage_per_agent,
            config.advantage_floor,
            config.value_clip,
            config.huber_delta,
        ),
        passes=Passes(
            config.update_epochs, config.num_minibatches, config.num_chunks, config.kl_stop
        ),
        hyperparameters=hyperparameters(config, objective),
        steers=config.target_kl is not None,
        env_blocks=config.env_blocks,
        axes=axes,
    )


def networks_of(config: Config, spec: EnvSpec) -> Networks:
    """The networks that a configuration asks for on an environment."""
    return make_networks(
        spec,
        width=config.width,
        core=config.core,
        critic_view=config.critic,
        share_parameters=config.share_parameters,
        state_std=config.state_std,
        actor_norm=config.actor_norm,
        critic_norm=config.critic_norm,
        value_norm=config.value_norm,
        depth=config.depth,
        activation=config.activation,
        network=config.network,
        kernel_init=config.kernel_init,
        agent_ids=config.agent_ids,
    )


def episode_metrics(episodes: EpisodeStats, axes: Axes = ()) -> Metrics:
    """Means over the episodes that ended, (T, E), and their number in an update."""
    count = jax.lax.psum(episodes.ended.sum(), axes)

    def mean(x: Array) -> Tally:
        return Tally(jax.lax.psum(jnp.where(episodes.ended, x, 0).sum(), axes), count)

    return {
        "episode/count": count,
        "episode/return": mean(episodes.episode_return),
        "episode/length": mean(episodes.length),
        **{f"episode/{name}": mean(x) for name, x in episodes.metrics.items()},
    }
