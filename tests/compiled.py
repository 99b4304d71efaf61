"""Programs that are compiled once, for all tests of a process that train the same."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

import pytest

from marsrl.config import Config
from marsrl.envs.base import Environment
from marsrl.envs.flat import Flat, flat
from marsrl.learner.program import Program
from marsrl.objectives import Objective
from marsrl.runs import runner


def program(
    config: Config,
    env: Environment,
    objective: Objective | None = None,
    others: Sequence[Config] = (),
) -> Program:
    """As `Program`, but compiled, and one for all equal arguments."""
    inside = env.env if isinstance(env, Flat) else env  # two of `Flat` are never equal
    return _program(config, inside, objective, tuple(others))


@functools.lru_cache(maxsize=8)
def _program(
    config: Config, env: Environment, objective: Objective | None, others: tuple[Config, ...]
) -> Program:
    made = Program(config, flat(env), objective, others)
    memory = made.compile()
    made.compile = lambda: memory
    return made


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Meanwhile `train` and `resume` take these programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "Program", program)
        yield
