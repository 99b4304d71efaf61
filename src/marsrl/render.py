"""Episodes as animations, from an environment's own `draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from PIL import Image

from marsrl.errors import UserError
from marsrl.policy import Policy, record_episode


@runtime_checkable
class Drawable(Protocol):
    """An environment that can draw its state."""

    def draw(self, state: Any, caption: str = "") -> np.ndarray:
        """One unbatched state as (height, width, 3) uint8."""
        ...


def render(
    policy: Policy, out: Path, episode_seed: int = 0, greedy: bool = False, fps: int = 8
) -> float:
    """Plays one episode and writes it as a GIF; returns the episode's return.

    Raises:
        UserError: the environment cannot draw, the file is no .gif, exists, or is unwritable.
    """
    if not isinstance(policy.env, Drawable):
        raise UserError(f"{type(policy.env).__name__} has no draw method, so it cannot be rendered")
    if out.suffix != ".gif":
        raise UserError(f"cannot write {out}: expected a name that ends in .gif")
    if out.exists():
        raise UserError(f"{out} exists; choose another --out")
    states, total = record_episode(policy, jax.random.key(episode_seed), greedy)
    caption = f"{policy.step:,} steps of training"
    frames = [Image.fromarray(policy.env.draw(state, caption)) for state in states]
    # one palette for all frames, without dithering: smaller, and no flicker
    palette = frames[0].quantize(64, dither=Image.Dither.NONE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    partial = out.with_suffix(".tmp")
    try:
        frames[0].save(
            partial,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=1000 // fps,
            loop=0,
            optimize=True,
        )
        partial.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    return total
