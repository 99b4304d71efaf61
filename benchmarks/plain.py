"""An ordinary trainer of recurrent PPO for teams, as a yardstick of speed and of learning.

It does the same work as marsrl in the way that is common in this field: JaxMARL's `step`, which
resets by itself; a critic that values the global state for every agent, evaluated while playing;
networks unrolled over the whole rollout with flax's GRUCell; minibatches of (environment, agent)
sequences; an optimiser that walks over many arrays; one device. The objective and all
hyperparameters are those of a `marsrl.Config`; a time limit counts as an end like any other, and
dead agents count in every mean.

    python benchmarks/plain.py CONFIG.json

trains the first seed of a configuration, such as a run's `config.json`, and prints a line of JSON
for every update: the environment steps so far, and the number and the sum of the returns of the
episodes that ended in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from marsrl.config import Config
from marsrl.distributions import Categorical
from marsrl.envs.base import Environment
from marsrl.envs.export import to_jaxmarl
from marsrl.envs.registry import make
from marsrl.learner.advantages import gae
from marsrl.learner.evaluate import Act


class Step(NamedTuple):
    """What is kept of a step, (T, B, ...), where B counts the agents of all environments."""

    obs: jax.Array
    world: jax.Array
    legal: jax.Array
    first: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


class State(NamedTuple):
    """What one update hands to the next; `carry` is the actor's and the critic's, (B, H) each.

    `running` (E,) are the returns so far, `ended` the number and the sum of the returns of the
    episodes that ended in the last rollout.
    """

    params: Any
    opt_state: Any
    env_state: Any
    obs: Any
    first: jax.Array
    carry: Any
    key: jax.Array
    running: jax.Array
    ended: jax.Array


def scaled(gain: float) -> nn.initializers.Initializer:
    """The initialiser of marsrl's networks."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


class Cell(nn.Module):
    """One step of a GRU that starts anew where an episode begins."""

    width: int

    @nn.compact
    def __call__(self, carry, inputs):
        """Takes a carry (B, H) and `(x (B, F), first (B,))`."""
        x, first = inputs
        cell = nn.GRUCell(self.width, kernel_init=scaled(1), recurrent_kernel_init=scaled(1))
        return cell(jnp.where(first[:, None], 0.0, carry), x)


class Network(nn.Module):
    """Dense, GRU, dense, dense, over sequences (T, B, F)."""

    width: int
    outputs: int
    gain: float

    @nn.compact
    def __call__(self, carry, x, first):
        """Returns the last carry and (T, B, outputs)."""
        unrolled = nn.scan(Cell, variable_broadcast="params", split_rngs={"params": False})
        x = nn.relu(nn.Dense(self.width, kernel_init=scaled(2**0.5))(x))
        carry, x = unrolled(self.width)(carry, (x, first))
        x = nn.relu(nn.Dense(self.width, kernel_init=scaled(2**0.5))(x))
        return carry, nn.Dense(self.outputs, kernel_init=scaled(self.gain))(x)


class Plain:
    """The trainer of one seed of a configuration; the seeds that it names are not used."""

    def __init__(self, config: Config, env: Environment) -> None:
        self.config = config
        self.env = to_jaxmarl(env)
        self.objective = config.make_objective()
        self.agents = len(self.env.agents)
        self.actor = Network(config.width, env.spec.action.size, 0.01)
        self.critic = Network(config.width, 1, 1.0)
        updates = config.num_updates * config.update_epochs * config.num_minibatches

        def adam(lr: float) -> optax.GradientTransformation:
            rate = optax.linear_schedule(lr, 0.0, updates) if config.anneal_lr else lr
            clip = optax.clip_by_global_norm(config.max_grad_norm)
            return optax.chain(clip, optax.adam(rate, eps=1e-5))

        rates = {"actor": adam(config.actor_lr), "critic": adam(config.critic_lr)}
        self.optimizer = optax.partition(rates, {"actor": "actor", "critic": "critic"})

    def init(self, key: jax.Array) -> State:
        """The state before the first update."""
        key, env_key, actor_key, critic_key = jax.random.split(key, 4)
        obs, env_state = jax.vmap(self.env.reset)(jax.random.split(env_key, self.config.num_envs))
        rows, world = self.views(obs)
        first = jnp.ones(len(rows), bool)
        carry = self.blank(len(rows))
        params = {
            "actor": self.actor.init(actor_key, carry[0], rows[None], first[None]),
            "critic": self.critic.init(critic_key, carry[1], world[None], first[None]),
        }
        opt_state, running = self.optimizer.init(params), jnp.zeros(self.config.num_envs)
        return State(
            params, opt_state, env_state, obs, first, carry, key, running, ended=jnp.zeros(2)
        )

    def blank(self, rows: int) -> tuple[jax.Array, jax.Array]:
        """Carries of actor and critic before an episode."""
        zero = jnp.zeros((rows, self.config.width))
        return zero, zero

    def rows(self, values: dict[str, jax.Array]) -> jax.Array:
        """{agent: (E, ...)} -> (B, ...)."""
        stacked = jnp.stack([values[agent] for agent in self.env.agents], axis=1)
        return stacked.reshape((-1, *stacked.shape[2:]))

    def views(self, obs: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """What actor and critic see, (B, F) each: observation or global state, and who it is."""
        worlds = jnp.repeat(obs["world_state"], self.agents, axis=0)
        return self.with_ids(self.rows(obs)), self.with_ids(worlds)

    def with_ids(self, x: jax.Array) -> jax.Array:
        """Appends a one-hot id to rows (B, ...), agents counting fastest."""
        x = x.reshape((len(x), -1))
        ids = jnp.tile(jnp.eye(self.agents), (len(x) // self.agents, 1))
        return jnp.concatenate([x, ids], axis=-1)

    def step(self, state: State) -> State:
        """One rollout and one update."""
        start = state.carry
        state, steps = jax.lax.scan(self.play, state, length=self.config.rollout_length)
        params, first = state.params["critic"], state.first[None]
        _, last = self.critic.apply(params, state.carry[1], self.views(state.obs)[1][None], first)
        next_value = jnp.concatenate([steps.value[1:], last[..., 0]])
        never, rates = jnp.zeros_like(steps.done), (self.config.gamma, self.config.gae_lambda)
        estimates = gae(steps.reward, steps.value, next_value, steps.done, never, *rates)
        return self.learn(self.count(state, steps), (steps, *estimates), start)

    def count(self, state: State, steps: Step) -> State:
        """Keeps the returns of a rollout's episodes."""

        def tally(running, now):
            reward, done = now
            total = running + reward
            return jnp.where(done, 0.0, total), jnp.where(done, total, 0.0)

        by_team = (*steps.done.shape[:1], -1, self.agents)
        reward, done = steps.reward.reshape(by_team).mean(-1), steps.done.reshape(by_team)[..., 0]
        running, returns = jax.lax.scan(tally, state.running, (reward, done))
        return state._replace(running=running, ended=jnp.stack([done.sum(), returns.sum()]))

    def play(self, state: State, _: None) -> tuple[State, Step]:
        """One step of every environment."""
        key, action_key, env_key = jax.random.split(state.key, 3)
        params, first = state.params, state.first
        obs, world = self.views(state.obs)
        legal = self.rows(jax.vmap(self.env.get_avail_actions)(state.env_state))
        actor, logits = self.actor.apply(params["actor"], state.carry[0], obs[None], first[None])
        critic, value = self.critic.apply(
            params["critic"], state.carry[1], world[None], first[None]
        )
        policy = Categorical(logits[0], legal)
        action = policy.sample(action_key)
        by_agent = dict(zip(self.env.agents, action.reshape((-1, self.agents)).T, strict=True))
        env_keys = jax.random.split(env_key, self.config.num_envs)
        next_obs, env_state, reward, done, _ = jax.vmap(self.env.step)(
            env_keys, state.env_state, by_agent
        )
        done = jnp.repeat(done["__all__"], self.agents)
        step = Step(
            obs=obs,
            world=world,
            legal=legal,
            first=first,
            action=action,
            log_prob=policy.log_prob(action),
            value=value[0, :, 0],
            reward=self.rows(reward),
            done=done,
        )
        carry = (actor, critic)
        return state._replace(
            env_state=env_state, obs=next_obs, first=done, carry=carry, key=key
        ), step

    def learn(self, state: State, batch: Any, start: Any) -> State:
        """Epochs of minibatches; `batch` is (T, B, ...), `start` the carries before it."""

        def minibatch(learner, index):
            part, carry = jax.tree.map(lambda x: x[:, index], batch), [c[index] for c in start]
            grads = jax.grad(self.loss)(learner[0], part, carry)
            updates, opt_state = self.optimizer.update(grads, learner[1], learner[0])
            return (optax.apply_updates(learner[0], updates), opt_state), None

        def epoch(learner, key):
            order = jax.random.permutation(key, len(state.first))
            return jax.lax.scan(minibatch, learner, order.reshape((minibatches, -1)))

        minibatches = self.config.num_minibatches
        key, shuffle_key = jax.random.split(state.key)
        keys = jax.random.split(shuffle_key, self.config.update_epochs)
        learner, _ = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        return state._replace(params=learner[0], opt_state=learner[1], key=key)

    def loss(self, params: Any, batch: Any, carry: Any) -> jax.Array:
        """Of actor and critic on some sequences."""
        steps, advantage, target = batch
        _, logits = self.actor.apply(params["actor"], carry[0], steps.obs, steps.first)
        _, value = self.critic.apply(params["critic"], carry[1], steps.world, steps.first)
        policy = Categorical(logits, steps.legal)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = self.objective(policy.log_prob(steps.action) - steps.log_prob, advantage)
        entropy = policy.entropy().mean()
        value_loss = 0.5 * ((value[..., 0] - target) ** 2).mean()
        return 0.5 * value_loss - surrogate.mean() - self.config.ent_coef * entropy

    def policy(self, params: Any) -> Act:
        """The actor for `marsrl.learner.evaluate.play`; its carry is `blank(...)[0]`."""

        def act(carry, now, first, keys):
            obs = self.with_ids(now.obs.reshape((-1, *now.obs.shape[2:])))
            starts = jnp.repeat(first, self.agents)
            carry, logits = self.actor.apply(params["actor"], carry, obs[None], starts[None])
            policy = Categorical(logits[0].reshape(now.action_mask.shape), now.action_mask)
            return carry, policy.sample(keys)

        return act


def main() -> None:
    """Trains a configuration."""
    config = Config.from_dict(json.loads(Path(sys.argv[1]).read_text()))
    trainer = Plain(config, make(config.task, **config.task_settings))
    init, step = jax.jit(trainer.init), jax.jit(trainer.step, donate_argnums=0)
    state = init(jax.random.key(config.seeds[0]))
    for update in range(1, config.num_updates + 1):
        state = step(state)
        count, total = map(float, state.ended)
        line = {"step": update * config.steps_per_update, "count": count, "sum": total}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
