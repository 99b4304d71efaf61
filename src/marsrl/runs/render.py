"""Episodes as animations, from an environment's own `draw`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from PIL import Image

from marsrl.envs.check.picture import check_alike, picture
from marsrl.envs.flat import name_of
from marsrl.envs.host.film import filmed
from marsrl.envs.vector import opened
from marsrl.errors import UserError, int_of
from marsrl.extras import require
from marsrl.files import check_new, path_of
from marsrl.runs.policy import Policy, record_episode

_FASTEST_GIF = 50  # frames per second: its delays are hundredths of a second, 0 and 1 of no meaning
MAX_FRAMES = 250
"""Longer episodes are drawn with gaps, unless asked otherwise."""


@runtime_checkable
class Drawable(Protocol):
    """An environment that can draw its state."""

    def draw(self, state: Any, caption: str = "") -> np.ndarray:
        """One unbatched state as (height, width, 3) uint8."""
        ...


def render(
    policy: Policy,
    out: str | Path,
    episode_seed: int = 0,
    greedy: bool = False,
    fps: int = 8,
    every: int | None = None,
) -> float:
    """Plays one episode and writes it as a GIF or an MP4; returns the episode's return.

    Args:
        policy: the team.
        out: a file that does not exist, .gif or .mp4.
        episode_seed: of the episode.
        greedy: the mode of the policy instead of a sample.
        fps: frames per second.
        every: draw every n-th step, and the last; default: at most `MAX_FRAMES` frames.

    Raises:
        UserError: the environment cannot draw or draws something other than a picture, the file has
            another ending, exists, or is unwritable, or it cannot have so many frames per second.
    """
    out = path_of(out, "out")
    policy = replace(policy, make_env=partial(filmed, policy.env))
    if not isinstance(policy.env, Drawable):
        raise UserError(f"{name_of(policy.env)} has no draw method, so it cannot be rendered")
    if out.suffix not in _WRITERS:
        raise UserError(f"cannot write {out}: expected a name that ends in {' or '.join(_WRITERS)}")
    check_new(out)
    if not out.parent.is_dir():
        raise UserError(f"cannot write {out}: {out.parent} is no folder")
    if out.suffix == ".mp4":
        require("imageio_ffmpeg", "video")
    episode_seed = int_of("episode_seed", episode_seed, 0, 2**32 - 1)
    fps, every = int_of("fps", fps, 1, 1000), None if every is None else int_of("every", every, 1)
    if out.suffix == ".gif" and fps > _FASTEST_GIF:
        raise UserError(f"fps = {fps}: a GIF has at most {_FASTEST_GIF}; write an .mp4 for more")
    with opened(policy.env):
        states, total = record_episode(policy, jax.random.key(episode_seed), greedy)
    every = every or -(-len(states) // MAX_FRAMES)
    drawn = [*states[:-1:every], states[-1]]
    caption = f"{policy.step:,} steps of training"
    frames = [picture(policy.env, state, caption) for state in drawn]
    check_alike(frames)
    unfinished = out.with_name(f".{out.name}.partial")
    try:
        _WRITERS[out.suffix](unfinished, frames, fps)
        unfinished.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {str(error).splitlines()[0]}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return total


def _write_gif(path: Path, frames: list[np.ndarray], fps: int) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    # one palette for all frames, without dithering: smaller, and no flicker; colours may appear
    # late in an episode, so the palette is taken from frames all along it
    along = np.concatenate([*frames[:: -(-len(frames) // 8)], frames[-1]])
    palette = Image.fromarray(along).quantize(128, dither=Image.Dither.NONE)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    duration = 1000 // fps
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=duration,
        loop=0,
        optimize=True,
    )


def _write_mp4(path: Path, frames: list[np.ndarray], fps: int) -> None:
    ffmpeg: Any = require("imageio_ffmpeg", "video")
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # as the encoder demands
    options = ["-f", "mp4"]  # the partial file's name does not say it
    writer = ffmpeg.write_frames(
        str(path), (width, height), fps=fps, macro_block_size=2, output_params=options
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork")  # JAX's; the child runs the encoder only
        writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()


_WRITERS = {".gif": _write_gif, ".mp4": _write_mp4}
