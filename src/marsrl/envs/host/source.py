"""Making an environment of PettingZoo or Gymnasium from a name; needs no JAX."""

from __future__ import annotations

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
                return SingleAgent(self._call(import_module("gymnasium").make, self.name))
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


class SingleAgent:
    """An environment of Gymnasium as a team of one, with the methods of a `ParallelEnv`."""

    AGENT = "agent_0"

    def __init__(self, env: Any) -> None:
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
        obs, info = self.env.reset(seed=seed)
        self.agents = [self.AGENT]
        return {self.AGENT: obs}, {self.AGENT: info}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Moves one step on."""
        results = self.env.step(actions[self.AGENT])
        self.agents = [] if results[2] or results[3] else [self.AGENT]
        return tuple({self.AGENT: result} for result in results)

    def render(self) -> Any:
        """What the environment draws."""
        return self.env.render()

    def close(self) -> None:
        """Ends it."""
        self.env.close()
