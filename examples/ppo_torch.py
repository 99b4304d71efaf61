"""PPO for a team in one file of PyTorch; its objective is marsrl's, by one switch.

    python examples/ppo_torch.py --objective mars
    python examples/ppo_torch.py --objective mappo    # the clip

The actor is shared by all agents, the critic is the team's, both are feed-forward. `Cover`, below,
is played, or any task of marsrl with discrete actions and a shared reward (`--task paxmen/4ag`),
for which alone JAX is imported.

Shapes: T steps of E games with N agents; a minibatch has B steps of one game each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

from marsrl.objectives import Objective, make_objective


@dataclass(frozen=True)
class Args:
    """Settings of a training.

    Attributes:
        objective: what takes the clip's place: mars, maspo, mappo (the clip) or any other name.
        eps: width of its trust region; its own default if not given.
        task: "cover", or a task of marsrl.
        seed: of all random numbers.
        total_steps: steps of all games together.
        num_envs: games played side by side, E.
        rollout_length: steps of each game between two updates, T.
        width: units of the two hidden layers.
        lr: Adam's step size at the start; it falls evenly to 0.
        update_epochs: passes over a rollout.
        num_minibatches: in each pass.
        gamma: discount per step.
        gae_lambda: of the advantage's estimate.
        ent_coef: weight of the entropy.
        max_grad_norm: longest gradient, of actor and critic each.
    """

    objective: str = "mars"
    eps: float | None = None
    task: str = "cover"
    seed: int = 0
    total_steps: int = 150_000
    num_envs: int = 64
    rollout_length: int = 32
    width: int = 64
    lr: float = 2e-3
    update_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.003
    max_grad_norm: float = 0.5


class Seen(NamedTuple):
    """What is seen before an action: obs (E, N, O), state (E, S), legal (E, N, A), alive (E, N)."""

    obs: Tensor
    state: Tensor
    legal: Tensor
    alive: Tensor


class Outcome(NamedTuple):
    """What an action led to; the return is that of an episode, where it is done."""

    next_state: Tensor  # (E, S), before any new start
    reward: Tensor  # (E,)
    terminated: Tensor  # (E,)
    done: Tensor  # (E,)
    episode_return: Tensor  # (E,)


class Step(NamedTuple):
    """A step of all games; in a rollout (T, E, ...), in a minibatch (B, ...)."""

    seen: Seen
    action: Tensor  # (E, N)
    log_prob: Tensor  # (E, N)
    outcome: Outcome


class Games(Protocol):
    """Games played side by side, which start anew by themselves."""

    def seen(self) -> Seen:
        """What the agents see now."""
        ...

    def step(self, action: Tensor) -> Outcome:
        """Plays actions (E, N)."""
        ...

    def close(self) -> None:
        """Ends what they hold."""
        ...


class Cover:
    """Agents on a ring cover places on it: paid is the share of the places that have an agent.

    Each agent sees where the places and the others are, and steps left, stays, or steps right. An
    episode is cut off after `LENGTH` steps.
    """

    N, PLACES, LENGTH = 3, 10, 16

    def __init__(self, num_envs: int) -> None:
        self._clock = torch.randint(self.LENGTH, (num_envs,))  # not all in the same phase
        self._counted = self._clock == 0
        self._return = torch.zeros(num_envs)
        self._agents, self._goals = self._start(num_envs)

    def _start(self, num_envs: int) -> tuple[Tensor, Tensor]:
        goals = torch.rand(num_envs, self.PLACES).argsort(-1)[:, : self.N]  # no two the same
        return torch.randint(self.PLACES, (num_envs, self.N)), goals

    def _obs(self) -> Tensor:
        others = [self._agents.roll(-i, -1) for i in range(1, self.N)]
        targets = torch.stack([self._goals] * self.N, 1), torch.stack(others, -1)
        angle = (torch.cat(targets, -1) - self._agents[..., None]) * (2 * torch.pi / self.PLACES)
        return torch.cat([angle.sin(), angle.cos()], -1)

    def seen(self) -> Seen:
        """What the agents see now: all is legal, nobody dies."""
        obs = self._obs()
        legal = torch.ones(*obs.shape[:2], 3, dtype=torch.bool)
        return Seen(obs, obs.flatten(1), legal, legal[..., 0])

    def step(self, action: Tensor) -> Outcome:
        """Plays actions (E, N)."""
        self._agents = (self._agents + action - 1) % self.PLACES
        reward = (self._goals[:, :, None] == self._agents[:, None]).any(-1).float().mean(-1)
        self._clock, self._return = self._clock + 1, self._return + reward
        done = self._clock == self.LENGTH
        episode_return = self._return.where(self._counted, torch.nan)
        outcome = Outcome(
            self._obs().flatten(1), reward, torch.zeros_like(done), done, episode_return
        )
        agents, goals = self._start(len(done))
        self._agents = agents.where(done[:, None], self._agents)
        self._goals = goals.where(done[:, None], self._goals)
        self._clock, self._return = self._clock * ~done, self._return * ~done
        self._counted = self._counted | done
        return outcome

    def close(self) -> None:
        """Nothing is held."""


class TaskOfMarsrl:
    """A task of marsrl: tensors in and out."""

    def __init__(self, task: str, num_envs: int, seed: int) -> None:
        import jax

        import marsrl
        from marsrl.envs.vector import split_each, vectorize

        self._env = env = vectorize(marsrl.make(task))
        keys = split_each(jax.random.split(jax.random.key(seed), num_envs), 4)
        start = env.stagger(keys[0], env.reset(keys[1]), 4)
        self._now = start, keys[2], env.empty_pool(keys[3], 4)

        def step(now: Any, action: Any) -> Any:
            state, key, pool = now
            key, step_key = split_each(key, 2)
            state, outcome, episodes, pool = env.step(step_key, state, action, pool)
            return (state, key, pool), outcome, episodes

        self._step = jax.jit(step)

    def seen(self) -> Seen:
        """What the agents see now."""
        now = self._now[0].time_step
        return Seen(*map(tensor, (now.obs, now.global_state, now.action_mask, now.agent_mask)))

    def step(self, action: Tensor) -> Outcome:
        """Plays actions (E, N)."""
        self._now, at, episodes = self._step(self._now, action.int().numpy())
        told = (at.global_state, at.reward.mean(-1), at.terminated, at.done)
        episode_return = tensor(episodes.episode_return).where(tensor(episodes.ended), torch.nan)
        outcome = Outcome(*map(tensor, told), episode_return)
        self._env.check()  # of PettingZoo and Gymnasium: compiled programs cannot raise
        return outcome

    def close(self) -> None:
        """Ends the processes that play environments of PettingZoo and Gymnasium."""
        self._env.close()


def tensor(array: Any) -> Tensor:
    """A copy for PyTorch."""
    return torch.from_numpy(np.array(array))


def make_games(args: Args) -> Games:
    """What is played."""
    if args.task == "cover":
        return Cover(args.num_envs)
    return TaskOfMarsrl(args.task, args.num_envs, args.seed)


class Team(nn.Module):
    """One actor for all agents, which reads who it is, and one critic for the team."""

    def __init__(self, seen: Seen, width: int) -> None:
        super().__init__()
        _, N, A = seen.legal.shape
        self.register_buffer("ids", torch.eye(N))
        self.actor = network(seen.obs.shape[-1] + N, width, A, gain=0.01)
        self.critic = network(seen.state.shape[-1], width, 1, gain=1.0)

    def policy(self, seen: Seen) -> Categorical:
        """The distribution of every agent's action, (..., N)."""
        ids = self.ids.expand(*seen.obs.shape[:-1], -1)
        logits = self.actor(torch.cat([seen.obs, ids], -1))
        return Categorical(logits=logits.where(seen.legal, -1e9), validate_args=False)

    def value(self, state: Tensor) -> Tensor:
        """What states (..., S) are worth, (...)."""
        return self.critic(state).squeeze(-1)


def network(num_inputs: int, width: int, num_outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers; `gain` is the size of the outputs at the start."""
    layers = [nn.Linear(num_inputs, width), nn.Linear(width, width), nn.Linear(width, num_outputs)]
    for layer, size in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
        nn.init.orthogonal_(layer.weight, size)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


@torch.no_grad()
def rollout(games: Games, team: Team, length: int) -> Step:
    """Plays: the steps (T, E, ...)."""
    steps = []
    for _ in range(length):
        seen = games.seen()
        policy = team.policy(seen)
        action = policy.sample()
        steps.append((*seen, action, policy.log_prob(action), *games.step(action)))
    return packed([torch.stack(column) for column in zip(*steps, strict=True)])


def packed(columns: list[Tensor]) -> Step:
    """The inverse of `unpacked`."""
    return Step(Seen(*columns[:4]), columns[4], columns[5], Outcome(*columns[6:]))


def unpacked(steps: Step) -> list[Tensor]:
    """All of its tensors."""
    return [*steps.seen, steps.action, steps.log_prob, *steps.outcome]


def gae(outcome: Outcome, value: Tensor, next_value: Tensor, args: Args) -> Tensor:
    """Generalised advantage estimation, (T, E): a time limit is not the end of the world."""
    going = ~outcome.done * args.gamma * args.gae_lambda
    delta = outcome.reward + args.gamma * ~outcome.terminated * next_value - value
    advantage = torch.zeros_like(delta)
    last = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        advantage[t] = last = delta[t] + going[t] * last
    return advantage


def losses(
    team: Team,
    batch: Step,
    advantage: Tensor,
    target: Tensor,
    objective: Objective,
    ent_coef: float,
) -> tuple[Tensor, Tensor]:
    """The actor's and the critic's loss on a minibatch; advantage and target are (B,)."""
    policy = team.policy(batch.seen)
    log_ratio = policy.log_prob(batch.action) - batch.log_prob  # (B, N)
    alive = batch.seen.alive

    # The one line in which marsrl takes the clip's place; PPO has here, with r = log_ratio.exp():
    #   torch.minimum(r * advantage, r.clamp(1 - eps, 1 + eps) * advantage)
    surrogate = objective(log_ratio, advantage[:, None])

    actor_loss = -(surrogate + ent_coef * policy.entropy())[alive].mean()
    critic_loss = (team.value(batch.seen.state) - target).square().mean()
    return actor_loss, critic_loss


def update(
    team: Team, optimizer: torch.optim.Optimizer, steps: Step, objective: Objective, args: Args
) -> None:
    """Some epochs of minibatches over a rollout."""
    with torch.no_grad():
        value, next_value = team.value(steps.seen.state), team.value(steps.outcome.next_state)
        advantage = gae(steps.outcome, value, next_value, args)
        target = advantage + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    size = advantage.numel()
    data = [x.flatten(0, 1) for x in (*unpacked(steps), advantage, target)]
    for _ in range(args.update_epochs):
        for chosen in torch.randperm(size).chunk(args.num_minibatches):
            *columns, A, goal = [x[chosen] for x in data]
            actor_loss, critic_loss = losses(
                team, packed(columns), A, goal, objective, args.ent_coef
            )
            optimizer.zero_grad()
            (actor_loss + critic_loss).backward()
            for part in (team.actor, team.critic):
                nn.utils.clip_grad_norm_(part.parameters(), args.max_grad_norm)
            optimizer.step()


def train(args: Args) -> tuple[Team, list[float]]:
    """The trained team, and the mean return of what ended in each rollout (NaN: nothing did)."""
    torch.manual_seed(args.seed)
    games = make_games(args)
    team = Team(games.seen(), args.width)
    optimizer = torch.optim.Adam(team.parameters(), args.lr, eps=1e-5)
    objective = make_objective(args.objective, args.eps)
    num_updates = args.total_steps // (args.num_envs * args.rollout_length)
    returns = []
    for i in range(num_updates):
        optimizer.param_groups[0]["lr"] = args.lr * (1 - i / num_updates)
        steps = rollout(games, team, args.rollout_length)
        update(team, optimizer, steps, objective, args)
        returns.append(steps.outcome.episode_return[steps.outcome.done].nanmean().item())
        if (i + 1) % max(1, num_updates // 10) == 0:
            print(
                f"{(i + 1) * steps.action[..., 0].numel():11,} steps  return {returns[-1]:.2f}",
                flush=True,
            )
    games.close()
    return team, returns


if __name__ == "__main__":
    torch.set_num_threads(1)  # small networks
    _, returns = train(tyro.cli(Args))
    late = torch.tensor(returns[-len(returns) // 10 :]).nanmean()
    print(f"last tenth of the training: return {late:.2f}")
