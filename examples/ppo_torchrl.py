"""TorchRL's PPO loss with an objective of marsrl in place of the clip.

    python examples/ppo_torchrl.py --objective mars
    python examples/ppo_torchrl.py --objective mappo    # TorchRL's own clip gives the same numbers

`ObjectiveLoss` is the part to take along. Below it is a small training on CartPole; it needs
torchrl, tensordict and gymnasium.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictSequential, TensorDictModule, dispatch
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, RewardSum, TransformedEnv
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from marsrl.objectives import Objective, make_objective


class ObjectiveLoss(ClipPPOLoss):
    """TorchRL's `ClipPPOLoss` with another surrogate; its other terms and keys are as they were.

    `clip_epsilon` then only says what `clip_fraction` counts. The proximal policy is the one that
    played: `delay_actor` and `max_importance_ratio` are not for this loss.

    Args:
        actor: as for `ClipPPOLoss`.
        critic: likewise.
        objective: the surrogate.
        **options: of `ClipPPOLoss`.
    """

    def __init__(
        self,
        actor: ProbabilisticTensorDictSequential,
        critic: TensorDictModule,
        objective: Objective,
        **options: object,
    ) -> None:
        for name in ("delay_actor", "max_importance_ratio"):
            if options.get(name):
                raise ValueError(f"{name} is of no use to an objective in place of the clip")
        super().__init__(actor, critic, **options)
        self.objective = objective
        self._caught: dict[str, Tensor] = {}

    @dispatch
    def forward(self, tensordict: TensorDict) -> TensorDict:
        """The losses of `ClipPPOLoss`, with the objective's as `loss_objective`."""
        losses = super().forward(tensordict)
        surrogate = self.objective(self._caught.pop("log_ratio"), self._caught.pop("advantage"))
        losses["loss_objective"] = self._reduce_loss(-surrogate, tensordict).squeeze(-1)
        return losses

    # What the loss computes on its way is caught where it passes.

    def _log_weight(self, *args: object, **options: object) -> tuple:
        found = super()._log_weight(*args, **options)
        self._caught["log_ratio"] = found[0]
        return found

    def _maybe_normalize_advantage(self, *args: object, **options: object) -> Tensor:
        self._caught["advantage"] = super()._maybe_normalize_advantage(*args, **options)
        return self._caught["advantage"]


@dataclass(frozen=True)
class Args:
    """Settings of a training.

    Attributes:
        objective: what takes the clip's place: mars, maspo, mappo (the clip) or any other name.
        eps: width of its trust region; its own default if not given.
        env: a Gymnasium environment with discrete actions.
        seed: of all random numbers.
        total_steps: of the training.
        rollout_length: steps between two updates.
        lr: Adam's step size.
        update_epochs: passes over a rollout.
        minibatch: steps in a minibatch.
    """

    objective: str = "mars"
    eps: float | None = None
    env: str = "CartPole-v1"
    seed: int = 0
    total_steps: int = 50_000
    rollout_length: int = 1000
    lr: float = 1e-3
    update_epochs: int = 8
    minibatch: int = 250


def networks(num_inputs: int, num_actions: int) -> tuple[ProbabilisticActor, ValueOperator]:
    """A policy and a critic of two hidden layers each."""

    def network(num_outputs: int) -> nn.Sequential:
        hidden = (nn.Linear(num_inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        return nn.Sequential(*hidden, nn.Linear(64, num_outputs))

    actor = ProbabilisticActor(
        TensorDictModule(network(num_actions), ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=OneHotCategorical,
        return_log_prob=True,
    )
    return actor, ValueOperator(network(1), in_keys=["observation"])


def train(args: Args) -> list[float]:
    """The mean return of what ended in each rollout (NaN: nothing did)."""
    torch.manual_seed(args.seed)
    env = TransformedEnv(GymEnv(args.env), RewardSum())
    env.set_seed(args.seed)
    actor, critic = networks(
        env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
    )
    loss = ObjectiveLoss(actor, critic, make_objective(args.objective, args.eps))
    advantages = GAE(gamma=0.99, lmbda=0.95, value_network=critic, average_gae=True)
    optimizer = torch.optim.Adam(loss.parameters(), args.lr)
    returns = []
    collector = Collector(
        env,
        actor,
        frames_per_batch=args.rollout_length,
        total_frames=args.total_steps,
        auto_register_policy_transforms=True,
    )
    for steps in collector:
        advantages(steps)
        for _ in range(args.update_epochs):
            for chosen in torch.randperm(len(steps)).split(args.minibatch):
                terms = loss(steps[chosen])
                optimizer.zero_grad()
                sum(terms[name] for name in terms.keys() if name.startswith("loss_")).backward()  # noqa: SIM118 (no dict)
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()
        ends = steps["next", "episode_reward"][steps["next", "done"]]
        returns.append(ends.mean().item())
        print(
            f"{len(returns) * args.rollout_length:11,} steps  return {returns[-1]:.1f}", flush=True
        )
    collector.shutdown()
    return returns


if __name__ == "__main__":
    torch.set_num_threads(1)  # small networks
    train(tyro.cli(Args))
