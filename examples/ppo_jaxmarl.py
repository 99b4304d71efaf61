"""PPO in JAX around an environment of JaxMARL, with an objective of marsrl in place of the clip.

    python examples/ppo_jaxmarl.py --objective mars
    python examples/ppo_jaxmarl.py --objective mappo    # the clip

Independent PPO: actor and critic are shared by all agents and read an agent's own observation. All
of a training is one compiled program. It needs jaxmarl (`pip install '.[jaxmarl]'`).

Shapes: T steps of E games with N agents; a minibatch has B samples, one agent's at one step each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxmarl
import optax
import tyro
from flax import linen as nn

from marsrl.objectives import Objective, make_objective


@dataclass(frozen=True)
class Args:
    """Settings of a training.

    Attributes:
        objective: what takes the clip's place: mars, maspo, mappo (the clip) or any other name.
        eps: width of its trust region; its own default if not given.
        env: name of an environment of JaxMARL whose agents see, do and are paid alike.
        seed: of all random numbers.
        total_steps: steps of all games together.
        num_envs: games played side by side, E.
        rollout_length: steps of each game between two updates, T.
        lr: Adam's step size.
        update_epochs: passes over a rollout.
        num_minibatches: in each pass.
        gamma: discount per step.
        gae_lambda: of the advantage's estimate.
        ent_coef: weight of the entropy.
    """

    objective: str = "mars"
    eps: float | None = None
    env: str = "MPE_simple_spread_v3"
    seed: int = 0
    total_steps: int = 1_000_000
    num_envs: int = 64
    rollout_length: int = 50
    lr: float = 1e-3
    update_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.01


class Network(nn.Module):
    """Logits (..., A) and values (...) of observations (..., O)."""

    num_actions: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Two hidden layers each."""

        def network(num_outputs: int) -> jax.Array:
            hidden = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(obs))))
            return nn.Dense(num_outputs)(hidden)

        return network(self.num_actions), network(1)[..., 0]


class Sample(NamedTuple):
    """What an agent did at a step; in a rollout (T, E, N, ...), in a minibatch (B, ...)."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def chosen(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Log-probabilities of actions (...)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]


def loss(
    params: Any,
    network: Network,
    batch: Sample,
    advantage: jax.Array,
    target: jax.Array,
    objective: Objective,
    ent_coef: float,
) -> jax.Array:
    """PPO's loss on a minibatch, with the objective's surrogate."""
    logits, value = network.apply(params, batch.obs)
    log_ratio = chosen(logits, batch.action) - batch.log_prob
    surrogate = objective(log_ratio, advantage)  # where PPO clips
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
    return ((value - target) ** 2 - surrogate - ent_coef * entropy).mean()


def make_train(args: Args) -> Callable[[jax.Array], jax.Array]:
    """A training as a function of a key: the mean return of what ended in each update."""
    env = jaxmarl.make(args.env)
    agents = env.agents
    network = Network(env.action_space(agents[0]).n)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(args.lr, eps=1e-5))
    objective = make_objective(args.objective, args.eps)
    num_samples = args.rollout_length * args.num_envs * len(agents)

    def stacked(by_agent: dict[str, jax.Array]) -> jax.Array:
        return jnp.stack([by_agent[agent] for agent in agents], 1)  # (E, N, ...)

    def step(carry: tuple, key: jax.Array) -> tuple:
        params, state, obs, total = carry
        action_key, key = jax.random.split(key)
        logits, value = network.apply(params, obs)
        action = jax.random.categorical(action_key, logits)
        keys = jax.random.split(key, args.num_envs)
        actions = {agent: action[:, i] for i, agent in enumerate(agents)}
        seen, state, rewards, dones, _ = jax.vmap(env.step)(keys, state, actions)
        reward, done = stacked(rewards), dones["__all__"]
        total = total + reward.mean(-1)
        sample = Sample(
            obs, action, chosen(logits, action), value, reward, done[:, None].repeat(len(agents), 1)
        )
        carry = params, state, stacked(seen), jnp.where(done, 0.0, total)
        return carry, (sample, jnp.where(done, total, jnp.nan))

    def advantages(samples: Sample, last_value: jax.Array) -> jax.Array:
        def backward(carry: tuple, sample: Sample) -> tuple:
            next_value, advantage = carry
            going = args.gamma * ~sample.done
            delta = sample.reward + going * next_value - sample.value
            advantage = delta + going * args.gae_lambda * advantage
            return (sample.value, advantage), advantage

        start = last_value, jnp.zeros_like(last_value)
        return jax.lax.scan(backward, start, samples, reverse=True)[1]

    def descend(carry: tuple, batch: tuple) -> tuple:
        params, moments = carry
        gradient = jax.grad(loss)(params, network, *batch, objective, args.ent_coef)
        change, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, change), moments), None

    def update(carry: tuple, key: jax.Array) -> tuple:
        params, moments, state, obs, total = carry
        play_key, key = jax.random.split(key)
        keys = jax.random.split(play_key, args.rollout_length)
        (_, state, obs, total), (samples, ends) = jax.lax.scan(
            step, (params, state, obs, total), keys
        )
        advantage = advantages(samples, network.apply(params, obs)[1])
        target = advantage + samples.value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        data = jax.tree.map(
            lambda x: x.reshape(num_samples, *x.shape[3:]), (samples, advantage, target)
        )
        orders = jax.vmap(lambda key: jax.random.permutation(key, num_samples))(
            jax.random.split(key, args.update_epochs)
        )
        orders = orders.reshape(args.update_epochs * args.num_minibatches, -1)
        batches = jax.tree.map(lambda x: x[orders], data)
        (params, moments), _ = jax.lax.scan(descend, (params, moments), batches)
        return (params, moments, state, obs, total), jnp.nanmean(ends)

    def train(key: jax.Array) -> jax.Array:
        start_key, param_key, key = jax.random.split(key, 3)
        seen, state = jax.vmap(env.reset)(jax.random.split(start_key, args.num_envs))
        params = network.init(param_key, stacked(seen))
        total = jnp.zeros(args.num_envs)
        keys = jax.random.split(key, args.total_steps // (args.num_envs * args.rollout_length))
        carry = params, optimizer.init(params), state, stacked(seen), total
        return jax.lax.scan(update, carry, keys)[1]

    return train


def main(args: Args) -> None:
    """Trains, and prints returns."""
    returns = jax.jit(make_train(args))(jax.random.key(args.seed))
    for tenth, part in enumerate(jnp.array_split(returns, 10), 1):
        print(f"{tenth * args.total_steps // 10:11,} steps  return {jnp.nanmean(part):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
