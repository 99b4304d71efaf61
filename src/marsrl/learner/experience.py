"""What one rollout hands to the next, and what it leaves to learn from."""

from __future__ import annotations

from typing import NamedTuple

from marsrl.envs.vector import VectorState
from marsrl.learner.modules import Carry
from marsrl.learner.networks import ActorCritic
from marsrl.types import Array, Key


class RolloutState(NamedTuple):
    """What one rollout hands to the next.

    Attributes:
        key: (E,) PRNG keys, one stream for each environment.
        vector: the environments.
        actor_carry: (E, N, H) or (), before `vector.time_step`.
        critic_carry: (E, H) or (E, N, H) or (), likewise.
    """

    key: Key
    vector: VectorState
    actor_carry: Carry
    critic_carry: Carry


class Transition(NamedTuple):
    """Steps as the learner needs them, (T, E, ...); V value streams: 1 for a team critic, else N.

    Attributes:
        obs: (N, *obs_shape).
        global_state: (*state_shape,).
        action_mask: (N, A) bool.
        agent_mask: (N,) bool, of the step that was acted on.
        first: () bool, an episode begins here.
        action: (N,) or (N, A), raw (see `distributions`).
        log_prob: (N,).
        reward: (V,).
        terminated: (V,) bool; where agents are rewarded apart, an agent's death ends its future.
        truncated: (V,) bool.
        final_obs: (N, *obs_shape), of the step that followed, before any restart.
        final_state: (*state_shape,), likewise.
        final_mask: (N,) bool, who lived then.
    """

    obs: Array
    global_state: Array
    action_mask: Array
    agent_mask: Array
    first: Array
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_obs: Array
    final_state: Array
    final_mask: Array


class Steps(NamedTuple):
    """A rollout with its values, (T, E, ...), or a part of it.

    Attributes:
        transition: the steps.
        value: (V,).
        advantage: (V,).
        target: (V,).
    """

    transition: Transition
    value: Array
    advantage: Array
    target: Array


class Experience(NamedTuple):
    """What an update learns from.

    Attributes:
        steps: (T, E, ...).
        carries: (K, E, ...) before each chunk, the actor's and the critic's.
    """

    steps: Steps
    carries: ActorCritic


class Batch(NamedTuple):
    """A minibatch, or the part of it that is on this device.

    Attributes:
        steps: (L, B, ...).
        carries: (B, ...) before the first of them.
    """

    steps: Steps
    carries: ActorCritic
