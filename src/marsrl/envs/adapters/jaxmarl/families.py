"""What differs between JaxMARL's families: masks, world states, endings, pictures."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from marsrl.envs.adapters.jaxmarl.base import Actions, JaxMARL, State
from marsrl.extras import require
from marsrl.types import Array, Box


class Particles(JaxMARL):
    """A multi-agent particle environment."""

    @cached_property
    def actions(self) -> Actions:
        """The library's, less the continuous dimension for "nothing", which the force ignores."""
        actions = super().actions
        base = require("jaxmarl.environments.mpe.simple", "jaxmarl").SimpleMPE
        plain = type(self.library)._decode_continuous_action is base._decode_continuous_action
        if isinstance(actions.space, Box) and plain:
            nothing = np.arange(actions.space.num_dims) == 0
            actions = actions._replace(exists=actions.exists & ~nothing)
        return actions

    def _groups(self) -> tuple[str, ...]:
        """The library's classes, such as adversaries and agents."""
        classes = self.library.agent_classes()
        if len(classes) == 1:
            return ()
        agents = self.library.agents
        return tuple(next((c for c in classes if a in classes[c]), a) for a in agents)

    def draw(self, state: State, caption: str = "") -> np.ndarray:
        """Draws one unbatched state: (height, width, 3) uint8."""
        from marsrl.envs.adapters.jaxmarl.draw import draw_particles  # Pillow only for pictures

        return draw_particles(self.library, state.library, int(state.step), self.horizon, caption)


class Smax(JaxMARL):
    """SMAX against a scripted team."""

    pays_alike: ClassVar[bool] = True

    def _agent_mask(self, state: State, done: Any) -> Array:
        return state.library.state.unit_alive[: self.library.num_allies]

    def _terminated(self, state: State, done: Array, info: Any) -> Array:
        allies, enemies = self._alive(state)
        return ~allies | ~enemies

    def _metrics(self, state: State) -> dict[str, Array]:
        allies, enemies = self._alive(state)
        return {"won": allies & ~enemies}

    def _alive(self, state: State) -> tuple[Array, Array]:
        """Whether any ally lives, and any enemy."""
        alive, allies = state.library.state.unit_alive, self.library.num_allies
        return alive[:allies].any(), alive[allies:].any()

    def _groups(self) -> tuple[str, ...]:
        """The units' types; none where they are drawn anew in every episode, or all alike."""
        library = self.library
        if library.scenario is None or library.smacv2_unit_type_generation:
            return ()
        types = np.asarray(library.scenario)[: library.num_allies].tolist()
        names = tuple(library.unit_type_names[kind] for kind in types)
        return names if len(set(names)) > 1 else ()

    def draw(self, state: State, caption: str = "") -> np.ndarray:
        """Draws one unbatched state: (height, width, 3) uint8."""
        from marsrl.envs.adapters.jaxmarl.draw import draw_battle

        battle = state.library.state
        return draw_battle(self.library, battle, int(state.step), self.horizon, caption)


class MABrax(JaxMARL):
    """A brax robot, its joints shared out among agents."""

    pays_alike: ClassVar[bool] = True

    @cached_property
    def actions(self) -> Actions:
        """The library's, less the dimensions that move none of the agent's joints."""
        actions = super().actions
        joints = [np.asarray(j) for j in self.library.agent_action_mapping.values()]
        if self.library.homogenisation_method == "max":
            joints = [np.arange(len(j)) for j in joints]
        exists = [np.isin(np.arange(actions.space.size), j) for j in joints]
        return actions._replace(exists=np.stack(exists))

    def _global_state(self, state: State, obs: Any) -> Array:
        return state.library.obs

    def _terminated(self, state: State, done: Array, info: Any) -> Array:
        return done & (info["truncation"] == 0)

    def draw(self, state: State, caption: str = "") -> np.ndarray:
        """Draws one unbatched state: (height, width, 3) uint8."""
        from marsrl.envs.adapters.jaxmarl.draw import draw_robot

        robot = state.library.pipeline_state
        return draw_robot(self.library, robot, int(state.step), self.horizon, caption)
