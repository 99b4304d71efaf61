"""Pictures of a foreign environment: one episode at a time, drawn by the environment itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from marsrl.envs.host.env import HostEnv, HostState
from marsrl.envs.host.game import Game
from marsrl.envs.host.layout import Layout
from marsrl.envs.host.memory import parts
from marsrl.envs.host.source import Source
from marsrl.errors import UserError
from marsrl.loading import guarded


class Camera:
    """One environment in this process, in the place of a crew; it keeps a picture of each moment.

    Attributes:
        pictures: of every start and step, in order.
    """

    num_envs = 1

    def __init__(self, source: Source, layout: Layout) -> None:
        self.task = source.task
        drawn = source.settings | {"render_mode": "rgb_array"}
        try:
            self._env = dataclasses.replace(source, settings=drawn).open()
        except UserError as error:
            raise UserError(
                f"{self.task} cannot be rendered, expected one that can be made with "
                f"render_mode='rgb_array': {error}"
            ) from error
        self._game = Game(self.task, self._env, layout)
        self.shared = {name: np.zeros(*part) for name, part in parts(layout, 1).items()}
        self._now = {name: x[0] if x[0].ndim else x for name, x in self.shared.items()}
        self.pictures: list[np.ndarray] = []

    def reset(self, seed: np.ndarray) -> None:
        """A fresh start; seed (1,)."""
        guarded(f"{self.task}: reset", self._game.reset, int(seed[0]), self._now)
        self.pictures += self.pictures[-1:]  # a start is two moments on
        self._draw()

    def step(self, go: np.ndarray, action: np.ndarray, seed: np.ndarray | None = None) -> None:
        """One step, if the episode is not over."""
        if go[0]:
            guarded(f"{self.task}: step", self._game.step, action[0], self._now)
        self._draw()

    def close(self) -> None:
        """Leaves the pictures."""

    def _draw(self) -> None:
        picture = guarded(f"{self.task}: render", self._env.render)
        self.pictures.append(np.array(picture))


class FilmedEnv(HostEnv):
    """A foreign environment of which one copy is played, and can then be drawn."""

    def __init__(self, env: HostEnv) -> None:
        """Makes the copy.

        Raises:
            UserError: it cannot be made so that it draws.
        """
        super().__init__(env.source, env.layout)
        self._camera = Camera(env.source, env.layout)
        self._bank.use(lambda num_envs: self._camera)

    def draw(self, state: HostState, caption: str = "") -> np.ndarray:
        """What the environment drew at that moment, (height, width, 3) uint8."""
        return self._camera.pictures[int(state.moment) - 1]  # the first moment is 1


def filmed(env: Any) -> Any:
    """The environment itself, or if it is foreign a copy that can be drawn."""
    return FilmedEnv(env) if isinstance(env, HostEnv) else env
