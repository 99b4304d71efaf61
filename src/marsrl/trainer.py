"""The training program: initial states, the compiled update of all seeds, compiled evaluation."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from marsrl.config import Config
from marsrl.envs.vector import EpisodeStats, VectorEnv
from marsrl.networks import Networks, Params
from marsrl.objectives import Objective
from marsrl.rollout import RolloutState, rollout
from marsrl.types import Array, EnvSpec, Key
from marsrl.update import Learner, Metrics, update


class TrainState(NamedTuple):
    """Everything that the future of a run depends on; with a leading axis S in the trainer.

    Attributes:
        learner: parameters and optimiser states.
        rollout: environments and recurrent carries.
        key: PRNG key of the training; evaluation has its own.
        updates: () int32, updates done.
        diverged: () int32, the update whose loss or parameters were not finite, or -1. A diverged
            seed keeps the state that it had before that update.
    """

    learner: Learner
    rollout: RolloutState
    key: Key
    updates: Array
    diverged: Array


def make_networks(config: Config, spec: EnvSpec) -> Networks:
    """The networks that a configuration asks for on an environment."""
    return Networks(spec, config.width, config.core, config.critic, config.share_parameters)


def init_params(networks: Networks, optimizer: Params, key: Key) -> Learner:
    """Fresh parameters and optimiser states of one seed."""
    params = networks.init(key)
    return Learner(params, Params(*(tx.init(p) for tx, p in zip(optimizer, params, strict=True))))


def train_step(
    config: Config, networks: Networks, env: VectorEnv, objective: Objective, state: TrainState
) -> tuple[TrainState, Metrics]:
    """One rollout and one update of one seed; a seed that has diverged stays as it is."""
    key, rollout_key, update_key = jax.random.split(state.key, 3)
    played, experience, episodes = rollout(
        config, networks, state.learner.params, env, state.rollout, rollout_key
    )
    learner, metrics = update(config, networks, objective, state.learner, experience, update_key)
    next_state = TrainState(learner, played, key, state.updates + 1, state.diverged)
    leaves = [*jax.tree.leaves(learner.params), metrics["actor/loss"], metrics["critic/loss"]]
    finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
    healthy = finite & (state.diverged < 0)
    frozen = state._replace(
        diverged=jnp.where(state.diverged < 0, state.updates + 1, state.diverged)
    )
    next_state = jax.tree.map(partial(jnp.where, healthy), next_state, frozen)
    return next_state, metrics | episode_metrics(episodes)


def episode_metrics(episodes: EpisodeStats) -> Metrics:
    """Means over the episodes that ended (NaN if none did), and their number."""
    count = episodes.ended.sum()

    def mean(x: Array) -> Array:
        total = jnp.where(episodes.ended, x, 0).sum()
        return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)

    return {
        "episode/count": count,
        "episode/return": mean(episodes.episode_return),
        "episode/length": mean(episodes.length),
        **{f"episode/{name}": mean(x) for name, x in episodes.metrics.items()},
    }
