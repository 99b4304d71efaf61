import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from environments import Scripted, small_config, untrained_policy
from marsrl.errors import UserError
from marsrl.runs.render import render


@dataclasses.dataclass(frozen=True)
class Drawn(Scripted):
    """Turns red on its last step."""

    def draw(self, state, caption=""):
        assert caption == "7 steps of training"
        picture = np.zeros((9, 11, 3), np.uint8)
        picture[..., 0] = 255 * (state.t >= self.terminates_at)
        return picture


def policy_on(env):
    return untrained_policy(env, small_config(), step=7)


@pytest.fixture(scope="module")
def policy():
    return policy_on(Drawn(max_steps=12, terminates_at=12))


def test_a_gif_shows_every_step_and_late_colours(policy, tmp_path):
    render(policy, tmp_path / "a.gif", fps=5)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.size == (11, 9)
        colours, duration = [], 0
        for i in range(film.n_frames):
            film.seek(i)
            duration += film.info["duration"]
            colours.append(film.convert("RGB").getpixel((5, 5)))
    assert duration == 13 * 200  # equal frames may be merged, but are shown as long
    assert colours[-1] == (255, 0, 0)
    assert colours[0] == (0, 0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_an_mp4_has_as_many_frames_as_asked_for(policy, tmp_path):
    import imageio_ffmpeg

    render(policy, tmp_path / "a.mp4", every=4)
    frames, _ = imageio_ffmpeg.count_frames_and_secs(tmp_path / "a.mp4")
    assert frames == 4  # steps 0, 4, 8 and the last


def test_the_return_is_that_of_the_episode(policy, tmp_path):
    total = render(policy, str(tmp_path / "a.gif"))
    start = jax.random.uniform(jax.random.split(jax.random.key(0))[1])
    np.testing.assert_allclose(total, np.cos(5 * start + np.arange(1, 13)).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.avi", {}, "a name that ends in .gif or .mp4"),
        ("there.gif", {}, "exists"),
        ("a.gif", {"fps": 0}, "fps is 0, expected 1 to 1000; nearest: 1"),
        ("a.gif", {"fps": 60}, "fps = 60: a GIF has at most 50; write an .mp4 for more"),
        ("a.gif", {"fps": "8"}, "fps is '8', expected a whole number, 1 to 1000"),
        ("a.gif", {"every": 0}, "every is 0, expected at least 1; nearest: 1"),
        ("a.gif", {"episode_seed": "0"}, "episode_seed is '0', expected a whole number"),
        ("no/such/folder.gif", {}, "no/such is no folder"),
        ("no/such/folder.mp4", {}, "no/such is no folder"),
    ],
)
def test_bad_input(policy, tmp_path, name, options, reason):
    (tmp_path / "there.gif").touch()
    with pytest.raises(UserError, match=reason):
        render(policy, tmp_path / name, **options)


def test_an_environment_that_cannot_draw(tmp_path):
    with pytest.raises(UserError, match="Scripted has no draw method"):
        render(policy_on(Scripted()), tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda self, state, caption: 1 / 0, "draw raised ZeroDivisionError: division by zero"),
        (lambda self, state: None, r"draw has other arguments than draw\(state, caption\)"),
        (
            lambda self, state, caption: np.zeros((4, 4, 3)),
            r"draw returns \(4, 4, 3\) float64, exp",
        ),
        (
            lambda self, state, caption: np.zeros((4 + int(state.t), 4, 3), np.uint8),
            r"draw returns \(4, 4, 3\) and then \(5, 4, 3\)",
        ),
    ],
)
def test_an_environment_that_draws_badly(tmp_path, draw, reason):
    with pytest.raises(UserError, match=reason):
        render(policy_on(type("Bad", (Scripted,), {"draw": draw})()), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())
