"""The conformance check: what every environment must do, tried on any one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from marsrl.envs.base import Environment
from marsrl.envs.check.members import Note, Raised, attempt, in_members
from marsrl.envs.check.play import in_play
from marsrl.envs.check.shapes import in_shapes
from marsrl.envs.flat import flat, name_of
from marsrl.envs.vector import OnHost, opened
from marsrl.errors import UserError, check_int

__all__ = ["NonconformingEnvironment", "check_env", "check_interface"]


class NonconformingEnvironment(UserError):  # noqa: N818 (a UserError names what is wrong)
    """An environment does not keep to `marsrl.envs.base.Environment`.

    Attributes:
        failures: what was found and what was expected, one sentence each.
    """

    def __init__(self, name: str, failures: tuple[str, ...]) -> None:
        self.failures = failures
        lines = "".join(f"\n- {failure}" for failure in failures)
        super().__init__(f"{name} does not keep to the environment interface:{lines}")


def check_env(env: Environment, *, seed: int = 0, num_steps: int | None = None) -> tuple[str, ...]:
    """Checks that an environment keeps to the interface.

    Three parts, each built on the one before, so that the first with failures reports all of its
    own and ends the check. The first two are those of `check_interface`; the third is play:

    Both functions give the same result for the same arguments, and alone the same as vmapped, up to
    rounding. Then a few episodes of random legal actions: rewards and end flags of a start, finite
    numbers, masks, shared rewards, both kinds of ending, the horizon. `draw`, if there is one,
    gives pictures.

    It compiles `reset` and `step`, each alone and vmapped; the rest costs next to nothing.

    Args:
        env: any environment.
        seed: of the episodes.
        num_steps: the longest play, never beyond the horizon. By default 2000: of an environment
            with a longer horizon it is then not seen whether its episodes end there.

    Returns:
        Notes, a sentence each, on what is no fault but worth knowing: whether the agents or the
        critic see the time, or something other than float32. Empty if there are none.

    Raises:
        NonconformingEnvironment: with a line for each failure.
        UserError: `num_steps` is not positive.
    """
    if num_steps is not None:
        check_int("num_steps", num_steps, 1)
    return _check(env, (in_members, in_shapes, partial(in_play, seed=seed, num_steps=num_steps)))


def check_interface(env: Environment) -> None:
    """Checks what can be checked without compiling anything; silent if it is right.

    1. The members: `spec`, `reset` and `step` exist, and the spec's values can be used.
    2. The shapes: both functions can be traced; every field of their time steps has the shape and
       dtype that the spec promises; a step leaves the structure of the state as `reset` made it;
       nothing traced is kept on the environment.

    Raises:
        NonconformingEnvironment: with a line for each failure.
    """
    _check(env, (in_members, in_shapes))


def _check(
    env: Environment, parts: tuple[Callable[[Environment], Iterator[str]], ...]
) -> tuple[str, ...]:
    """Runs one part after the other; returns the notes of all."""
    name = name_of(env)
    notes: list[str] = list(env.notes if isinstance(env, OnHost) else ())
    try:
        env = attempt("spec", flat, env)
        for find in parts:
            with opened(env):
                found = tuple(find(env))
            if failures := tuple(sentence for sentence in found if not isinstance(sentence, Note)):
                raise NonconformingEnvironment(name, failures)
            notes += map(str, found)
    except Raised as raised:
        raise NonconformingEnvironment(name, (str(raised),)) from raised.__cause__
    return tuple(notes)
