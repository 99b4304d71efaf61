"""PaxMen with its window as a row of numbers and as a picture, for three networks.

    python benchmarks/pictures.py --out runs/pictures

Run it at the root of a clone: runs name the task and the network by this file. The same
feed-forward configuration trains

- row: the task as it is, 25 numbers, with dense layers
- picture: the window as a picture of 5 x 5 cells in three colours, with the built-in convolutions
- own: the same picture with a network of one's own, `make_network` below

Writes the runs and `pictures.png`, their returns over training; prints the final returns of every
seed. Runs that are finished are kept, interrupted ones resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import tyro

from marsrl.devices.startup import configure_jax
from marsrl.envs.paxmen import PaxMen
from marsrl.envs.paxmen.layout import WINDOW
from marsrl.envs.paxmen.rules import AGENT, DOT, WALL
from marsrl.learner.layers import Conv
from marsrl.presets import preset
from marsrl.types import Array, EnvSpec, TimeStep
from trainings import side_by_side


@dataclass(frozen=True)
class PaxMenPictures:
    """PaxMen, seen in walls, dots and teammates: 5 x 5 x 3 uint8, 0 or 255."""

    game: PaxMen = field(default_factory=PaxMen)

    @property
    def spec(self) -> EnvSpec:
        """That of the game, but for what agents see."""
        return replace(self.game.spec, obs_shape=(WINDOW, WINDOW, 3))

    def reset(self, key: Array) -> tuple[Any, TimeStep]:
        """Starts an episode."""
        return _pictured(*self.game.reset(key))

    def step(self, key: Array, state: Any, action: Array) -> tuple[Any, TimeStep]:
        """Moves one step on."""
        return _pictured(*self.game.step(key, state, action))


def _pictured(state: Any, now: TimeStep) -> tuple[Any, TimeStep]:
    window = now.obs.reshape((-1, WINDOW, WINDOW, 1))
    colours = jnp.float32([WALL, DOT, AGENT])
    return state, now._replace(obs=jnp.uint8(255) * (window == colours))


class Convolutions(nn.Module):
    """One layer of 16 kernels, and two dense ones."""

    width: int = 64

    @nn.compact
    def __call__(self, carry: Any, x: Array, first: Array) -> tuple[Any, Array]:
        """Features (L, B, width) of pictures (L, B, 5, 5, 3 and the ids)."""
        steps = x.shape[:2]
        x = x.reshape((-1, *x.shape[2:]))
        x = nn.relu(Conv(16, 2**0.5)(x))
        x = nn.relu(nn.Dense(self.width)(x.reshape((*steps, -1))))
        return carry, nn.relu(nn.Dense(self.width)(x))


class Dense(nn.Module):
    """Two dense layers, for the critic, which sees the whole grid as a row."""

    width: int = 64

    @nn.compact
    def __call__(self, carry: Any, x: Array, first: Array) -> tuple[Any, Array]:
        """Features (L, B, width) of rows (L, B, F)."""
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return carry, x


def make_network(role: str, spec: EnvSpec) -> nn.Module:
    """The network of a role."""
    return Convolutions() if role == "actor" else Dense()


_HERE = f"benchmarks/{Path(__file__).name}"
ARMS: dict[str, dict[str, Any]] = {
    "row": {},
    "picture": {"task": f"{_HERE}:PaxMenPictures"},
    "own": {"task": f"{_HERE}:PaxMenPictures", "network": f"{_HERE}:make_network"},
}


@dataclass(frozen=True)
class Pictures:
    """Train on rows and on pictures."""

    out: Path
    """Folder of the three runs and the figure."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Trainings of each kind, in one program."""
    total_steps: int = 1_000_000
    """Environment steps per seed."""

    def __call__(self) -> None:
        """Trains, draws and prints."""
        configure_jax()
        base = preset("paxmen/4ag", seeds=self.seeds, core="ff", total_steps=self.total_steps)
        configs = {name: replace(base, **changes) for name, changes in ARMS.items()}
        print(side_by_side("observed as", configs, self.out, "pictures.png"))


if __name__ == "__main__":
    tyro.cli(Pictures)()
