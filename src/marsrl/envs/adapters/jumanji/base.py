"""What the games of jumanji have in common: the interface and pictures."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.extras import require
from marsrl.types import Array, Discrete, EnvSpec, Key, TimeStep

TeamReward = Literal["sum", "none"]
"""`sum`: every agent receives the sum over the team. `none`: every agent receives its own."""

MAX_SIDE = 99
"""Cells, or clusters of shelves, along a side of a grid that may be asked for."""

# Pixels: around a picture, above it for the caption, and the longer side of the grid at most.
_MARGIN, _HEADER, _LARGEST = 10, 30, 540


@dataclass(frozen=True, eq=False)
class JumanjiEnv:
    """A game of jumanji, stepped without resets.

    - Global state, (N * O,) float32: the observations of all agents, one after the other.
    - End: `terminated` where the game says so, else `truncated` at the time limit.
    - The state is jumanji's, without its key: `step` lends it the key that it is given.

    Attributes:
        game: jumanji's environment.
        spec: sizes, spaces and horizon.
    """

    game: Any = field(repr=False)
    spec: EnvSpec

    ink: ClassVar[str] = "black"
    paper: ClassVar[str] = "white"

    def reset(self, key: Key) -> tuple[Any, TimeStep]:
        """Starts an episode."""
        state, outcome = self.game.reset(key)
        return self._pack(state, outcome, jnp.zeros(()))

    def step(self, key: Key, state: Any, action: Array) -> tuple[Any, TimeStep]:
        """Moves one step on; an illegal action has the effect of action 0."""
        state, outcome = self.game.step(state.replace(key=key), action)
        reward = outcome.reward.sum() if self.spec.shared_reward else outcome.reward
        return self._pack(state, outcome, reward)

    def draw(self, state: Any, caption: str = "") -> np.ndarray:
        """Draws one unbatched state as jumanji does, below the caption.

        Args:
            state: one state, without leading axes.
            caption: a short text above the grid.

        Returns:
            (height, width, 3) uint8; the longer side of the grid takes up to 540 pixels.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # only for pictures
        from matplotlib.figure import Figure

        rows, columns = np.broadcast_to(self.game.grid_size, 2)
        cell = max(2, _LARGEST // max(rows, columns) // 2 * 2)  # even, as films need
        width, height = columns * cell + 2 * _MARGIN, rows * cell + 2 * _MARGIN + _HEADER
        figure = Figure((width / 100, height / 100), dpi=100, facecolor=self.paper)
        canvas = FigureCanvasAgg(figure)
        box = np.array([_MARGIN, _MARGIN, columns * cell, rows * cell])
        axes = figure.add_axes(tuple(box / [width, height, width, height]))
        self._paint(axes, jax.tree.map(np.asarray, state))
        middle = 1 - (_MARGIN + _HEADER / 2) / height
        figure.text(0.5, middle, caption, ha="center", va="center", color=self.ink)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _pack(self, state: Any, outcome: Any, reward: Array) -> tuple[Any, TimeStep]:
        obs = self._observe(state, outcome).astype(jnp.float32)
        terminated = outcome.last() & self._ended(state, outcome)
        time_step = TimeStep(
            obs=obs,
            global_state=obs.reshape(-1),
            action_mask=outcome.observation.action_mask,
            agent_mask=jnp.ones(self.spec.num_agents, bool),
            reward=jnp.broadcast_to(reward.astype(jnp.float32), (self.spec.num_agents,)),
            terminated=terminated,
            truncated=outcome.last() & ~terminated,
            metrics=self._metrics(state),
        )
        return state.replace(key=None), time_step

    def _observe(self, state: Any, outcome: Any) -> Array:
        """What the agents see, (N, O)."""
        return outcome.observation.agents_view

    def _ended(self, state: Any, outcome: Any) -> Array:
        """Whether the last step of an episode is also the end of the game, ()."""
        return ~outcome.discount.any()

    def _metrics(self, state: Any) -> dict[str, Array]:
        return {}

    def _paint(self, axes: Any, state: Any) -> None:
        self.game._viewer._prepare_figure(axes)
        self.game._viewer._draw_state(axes, state)


def load_environments() -> ModuleType:
    """Imports `jumanji.environments`, which takes seconds.

    Raises:
        UserError: jumanji is not installed.
    """
    with _outside_a_notebook():
        return require("jumanji", "jumanji").environments


@contextmanager
def _outside_a_notebook() -> Iterator[None]:
    """Hides IPython: jumanji would switch a notebook's pictures to a backend that few have."""
    there = builtins.__dict__.pop("__IPYTHON__", None)
    try:
        yield
    finally:
        if there is not None:
            builtins.__dict__["__IPYTHON__"] = there


def make_game(kind: Any, generator: Any, time_limit: int) -> Any:
    """Makes jumanji's environment; its viewers would change matplotlib's settings."""
    from matplotlib import rc_context

    with rc_context():
        return kind(generator, time_limit=time_limit)


def make_spec(
    game: Any,
    obs_size: int,
    num_actions: int,
    shared_reward: bool,
    metrics: tuple[str, ...] = (),
) -> EnvSpec:
    """Describes a game whose agents each see `obs_size` numbers."""
    return EnvSpec(
        num_agents=game.num_agents,
        obs_shape=(obs_size,),
        state_shape=(game.num_agents * obs_size,),
        action=Discrete(num_actions),
        max_steps=game.time_limit,
        shared_reward=shared_reward,
        metrics=metrics,
    )
