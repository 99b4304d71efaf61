"""Making an environment of PettingZoo or Gymnasium from a name; needs no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from marsrl.errors import UserError, shown
from marsrl.extras import quiet, require
from marsrl.loading import guarded, is_code, load


@dataclass(frozen=True)
class Source:
    """Where copies of an environment come from; can be pickled.

    Attributes:
        library: "pettingzoo" or "gymnasium".
        name: a module with `parallel_env`, a factory `module:factory` or `path/file.py:factory`; of
            Gymnasium the ID of an environment.
        settings: keyword arguments of the factory.
    """

    library: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What a configuration calls it."""
        return f"{self.library}:{self.name}"

    def open(self) -> Any:
        """Makes a copy: a `ParallelEnv`, or what has its methods.

        Raises:
            UserError: it cannot be made, or is none.
        """
        require(self.library, "pettingzoo")
        with quiet():
            if self.library == "gymnasium":
                made = self._call(import_module("gymnasium").make, self.name)
                return SingleAgent(self.task, made)
            factory = load(self.name) if is_code(self.name) else self._parallel_env()
            env = self._call(factory)
        if hasattr(env, "agent_iter"):
            raise UserError(
                f"{self.task} moves one agent at a time, expected a ParallelEnv; PettingZoo's own "
                "modules have one as parallel_env"
            )
        missing = [n for n in ("reset", "step", "observation_space", "action_space")
                   if not callable(getattr(env, n, None))]  # fmt: skip
        if missing:
            raise UserError(
                f"{self.task} makes {shown(type(env).__name__)}, expected a ParallelEnv: it has no "
                f"method {missing[0]}"
            )
        return env

    def _parallel_env(self) -> Any:
        if not all(part.isidentifier() for part in self.name.split(".")):
            raise UserError(
                f"{shown(self.task)} is no environment; expected pettingzoo:MODULE with a "
                "parallel_env, pettingzoo:MODULE:FACTORY or pettingzoo:path/file.py:FACTORY"
            )
        return load(f"{self.name}:parallel_env")

    def _call(self, factory: Any, *args: Any) -> Any:
        return guarded(f"making {self.task}", factory, *args, **self.settings)


def values_of(task: str, call: str, result: Any, *names: str) -> Sequence[Any]:
    """What a call of an environment has returned: a value for each of the names.

    Raises:
        UserError: it is something else.
    """
    if isinstance(result, tuple | list) and len(result) == len(names):
        return result
    found = f"{len(result)} values" if isinstance(result, tuple) else shown(result)
    raise UserError(f"{task}: {call} returns {found}, expected {len(names)}: {', '.join(names)}")


class SingleAgent:
    """An environment of Gymnasium as a team of one, with the methods of a `ParallelEnv`."""

    AGENT = "agent_0"

    def __init__(self, task: str, env: Any) -> None:
        self.task = task
        self.env = env
        self.possible_agents = [self.AGENT]
        self.agents: list[str] = []
        self.max_steps = env.spec and env.spec.max_episode_steps

    @property
    def unwrapped(self) -> SingleAgent:
        """The environment itself."""
        return self

    def observation_space(self, agent: str) -> Any:
        """That of the environment."""
        return self.env.observation_space

    def action_space(self, agent: str) -> Any:
        """That of the environment."""
        return self.env.action_space

    def reset(self, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode."""
        result = self.env.reset(seed=seed)
        obs, info = values_of(self.task, "reset", result, "observation", "info")
        self.agents = [self.AGENT]
        return {self.AGENT: obs}, {self.AGENT: info}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Moves one step on."""
        names = "observation", "reward", "terminated", "truncated", "info"
        values = values_of(self.task, "step", self.env.step(actions[self.AGENT]), *names)
        self.agents = [] if values[2] or values[3] else [self.AGENT]
        return tuple({self.AGENT: value} for value in values)

    def render(self) -> Any:
        """What the environment draws."""
        return self.env.render()

    def close(self) -> None:
        """Ends it."""
        self.env.close()
