"""Small scripted environments, whose every time step can be written down without playing them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.config import Config
from marsrl.envs.base import Environment
from marsrl.envs.flat import flat
from marsrl.learner.algorithm import Algorithm, make_algorithm, networks_of
from marsrl.learner.experience import RolloutState
from marsrl.learner.networks import ActorCritic, Networks
from marsrl.learner.rollout import rollout
from marsrl.learner.update import Learner, init_learner
from marsrl.runs.actors import layout_for
from marsrl.runs.policy import Policy
from marsrl.types import Array, Discrete, EnvSpec, MultiDiscrete, Space, TimeStep

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
    horizon, or at `truncates_at`. `global_state` is `(start, t, sin(5 start + t))`, so that a test
    can tell from what an agent saw which step of which episode it was. Agent i dies at step
    `death[i]`. In the discrete case one action after another becomes illegal; in the continuous one
    the last agent lacks the last dimension.
    """

    action: Space = THREE_ACTIONS
    num_agents: int = 2
    max_steps: int = 5
    terminates_at: int = 3
    truncates_at: int | None = None
    death: tuple[int, ...] = ()
    shared_reward: bool = True
    groups: tuple[str, ...] = ()

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
            groups=self.groups,
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
            truncated=~terminated & (t >= (self.truncates_at or self.max_steps)),
            metrics={"won": terminated.astype(jnp.float32)},
        )

    def _action_mask(self, t: Array, agent: Array) -> Array:
        option = jnp.arange(self.action.size)
        if isinstance(self.action, Discrete):
            return option != ((t + agent) % self.action.size)[:, None]
        if isinstance(self.action, MultiDiscrete):  # of each choice another one
            illegal = [jnp.arange(n) == ((t + agent) % n)[:, None] for n in self.action.num_actions]
            return ~jnp.concatenate(illegal, axis=-1)
        last = (agent == self.num_agents - 1)[:, None]
        return ~(last & (option == self.action.size - 1))


@dataclass(frozen=True)
class Pictured(Scripted):
    """`Scripted`, seen as small pictures: uint8 (H, W, C)."""

    shape: tuple[int, int, int] = (5, 4, 2)

    @property
    def spec(self) -> EnvSpec:
        return replace(super().spec, obs_shape=self.shape)

    def at(self, clock: Clock) -> TimeStep:
        now = super().at(clock)
        shades = jnp.resize(now.obs, (self.num_agents, *self.shape))
        return now._replace(obs=(127 + 120 * shades).astype(jnp.uint8))


@dataclass(frozen=True)
class Furnished(Scripted):
    """`Scripted`, seen as dictionaries: a picture of bytes, a whole number and a vector."""

    @property
    def spec(self) -> EnvSpec:
        return replace(super().spec, obs_shape=(), state_shape=())

    def at(self, clock: Clock) -> TimeStep:
        now = super().at(clock)
        shades = jnp.resize(now.obs, (self.num_agents, 9, 4, 2))
        obs = {
            "view": (127 + 120 * shades).astype(jnp.uint8),
            "body": {"turns": (10 * now.obs[:, 0]).astype(jnp.int32), "angles": now.obs},
        }
        return now._replace(obs=obs, global_state={"all": now.global_state, "map": shades[0]})


class Start(NamedTuple):
    """All that a rollout and an update need, before the first of either."""

    algorithm: Algorithm
    learner: Learner
    rollout: RolloutState

    def play(self, state: RolloutState) -> tuple:
        """A rollout with the weights of the start; to be jitted."""
        made = self.algorithm
        schedule = made.hyperparameters.scheduled(jnp.int32(0), 0.0)
        return rollout(
            made.sampling,
            made.returns,
            schedule,
            made.networks,
            self.learner.weights,
            made.env,
            state,
        )


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
        "actor_norm": "none",  # random moments would make a policy so sure that it hardly varies
        "critic_norm": "none",
    }
    return Config(**(defaults | changes))


def random_weights(networks: Networks, seed: int = 0) -> ActorCritic:
    """Weights of the right shapes, every one of them different; running moments of a few samples.

    Not those of `Networks.init`: a policy close to uniform and biases of zero would hide most
    mistakes. Drawn by NumPy, because compiling the real initialisation takes seconds.
    """
    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        x = rng.normal(scale=0.5, size=leaf.shape)
        if path[-1] in (jax.tree_util.GetAttrKey("number"), jax.tree_util.GetAttrKey("variance")):
            x = 1 + np.abs(x)
        return jnp.asarray(x, leaf.dtype)

    shapes = jax.eval_shape(networks.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def prepare(config: Config, env: Environment, seed: int = 0) -> Start:
    """Fresh episodes, random weights and Adam's zeros."""
    algorithm = make_algorithm(config, flat(env))
    weights = random_weights(algorithm.networks, seed)
    shapes = jax.eval_shape(partial(init_learner, algorithm.optimizer), weights).opt_states
    opt_states = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    carries = algorithm.networks.initial_carries(config.num_envs)
    reset_key, key = jax.random.split(jax.random.key(seed), (2, config.num_envs))
    state = RolloutState(key, jax.jit(algorithm.env.reset)(reset_key), *carries)
    return Start(algorithm, Learner(weights, opt_states), state)


def untrained_policy(env: Environment, config: Config, step: int = 0) -> Policy:
    """A policy of random weights on an environment."""
    env = flat(env)
    networks = networks_of(config, env.spec)
    weights, layout = random_weights(networks).actor, layout_for(env)
    return Policy(networks, weights, layout, config, config.seeds[0], step, lambda: env)
