"""Small scripted environments, whose every time step can be written down without playing them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.config import Config
from marsrl.envs.vector import VectorEnv
from marsrl.learner.networks import Networks, Params
from marsrl.learner.rollout import RolloutState
from marsrl.learner.trainer import make_networks
from marsrl.learner.update import Learner, init_learner
from marsrl.types import Array, Box, Discrete, EnvSpec, TimeStep

NEVER = 1_000_000
THREE_ACTIONS = Discrete(3)


class Clock(NamedTuple):
    """Where a scripted episode is: the whole time step is a function of these two numbers."""

    start: Array  # () float32, tells one episode from another
    t: Array  # () int32, steps since


@dataclass(frozen=True)
class Scripted:
    """An environment that takes no notice of actions.

    Episodes with `start < 0.5` terminate at step `terminates_at`; the others are truncated at the
    horizon. `global_state` is `(start, t, sin(5 start + t))`, so that a test can tell from what an
    agent saw which step of which episode it was. Agent i dies at step `death[i]`. In the discrete
    case one action after another becomes illegal; in the continuous one the last agent lacks the
    last dimension.
    """

    action: Discrete | Box = THREE_ACTIONS
    num_agents: int = 2
    max_steps: int = 5
    terminates_at: int = 3
    death: tuple[int, ...] = ()
    shared_reward: bool = True

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            num_agents=self.num_agents,
            obs_shape=(3,),
            state_shape=(3,),
            action=self.action,
            max_steps=self.max_steps,
            shared_reward=self.shared_reward,
            metrics=("won",),
        )

    def reset(self, key):
        clock = Clock(jax.random.uniform(key), jnp.int32(0))
        time_step = self.at(clock)
        return clock, time_step._replace(reward=jnp.zeros_like(time_step.reward))

    def step(self, key, state, action):
        clock = Clock(state.start, state.t + 1)
        return clock, self.at(clock)

    def at(self, clock: Clock) -> TimeStep:
        """What a transition into this moment brings."""
        start, t = clock
        agent = jnp.arange(self.num_agents)
        phase = 5 * start + t + 2 * agent
        death = jnp.array(self.death or (NEVER,) * self.num_agents)
        terminated = (start < 0.5) & (t >= self.terminates_at)
        reward = jnp.cos(5 * start + t + (0 if self.shared_reward else agent))
        return TimeStep(
            obs=jnp.stack([jnp.sin(phase), jnp.cos(phase), jnp.sin(3 * phase)], axis=-1),
            global_state=jnp.stack([start, t.astype(jnp.float32), jnp.sin(5 * start + t)]),
            action_mask=self._action_mask(t, agent),
            agent_mask=t < death,
            reward=jnp.broadcast_to(reward, (self.num_agents,)),
            terminated=terminated,
            truncated=~terminated & (t >= self.max_steps),
            metrics={"won": terminated.astype(jnp.float32)},
        )

    def _action_mask(self, t: Array, agent: Array) -> Array:
        option = jnp.arange(self.action.size)
        if isinstance(self.action, Discrete):
            return option != ((t + agent) % self.action.size)[:, None]
        last = (agent == self.num_agents - 1)[:, None]
        return ~(last & (option == self.action.size - 1))


class Start(NamedTuple):
    """All that a rollout and an update need, before the first of either."""

    networks: Networks
    vector: VectorEnv
    learner: Learner
    rollout: RolloutState


def small_config(**changes) -> Config:
    """A configuration that compiles and runs in a moment."""
    defaults = {
        "num_envs": 4,
        "rollout_length": 12,
        "width": 8,
        "update_epochs": 1,
        "num_minibatches": 2,
        "stagger": False,
        "anneal_lr": False,
    }
    return Config(**(defaults | changes))


def random_params(networks: Networks, seed: int = 0) -> Params:
    """Parameters of the right shapes, every one of them different.

    Not those of `Networks.init`: a policy close to uniform and biases of zero would hide most
    mistakes. Drawn by NumPy, because compiling the real initialisation takes seconds.
    """
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(networks.init, jax.random.key(0)))


def prepare(config: Config, env: Scripted, seed: int = 0) -> Start:
    """Fresh episodes, random parameters and Adam's zeros."""
    networks, vector = make_networks(config, env.spec), VectorEnv(env)
    params = random_params(networks, seed)
    shapes = jax.eval_shape(partial(init_learner, config), params).opt_state
    opt_state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    carries = networks.initial_carries(config.num_envs)
    reset_key, key = jax.random.split(jax.random.key(seed), (2, config.num_envs))
    rollout = RolloutState(key, jax.jit(vector.reset)(reset_key), *carries)
    return Start(networks, vector, Learner(params, opt_state), rollout)
