"""PaxMen behind the environment interface."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from marsrl.envs.paxmen import rules
from marsrl.envs.paxmen.layout import HORIZON, WINDOW, Layouts, build_layouts
from marsrl.envs.paxmen.rules import State
from marsrl.errors import check_int
from marsrl.types import Array, Discrete, EnvSpec, Key, TimeStep


@dataclass(frozen=True)
class PaxMen:
    """A team collects dots in rooms far apart: it pays to send one agent to each room.

    `N` agents (4, 5 or 6) start in a hub, from which `N` corridors of different length lead to
    `N` rooms with three dots each. One of four layouts is drawn for each episode.

    - Observation, (N, 25) float32: the 5x5 cells around the agent, row by row; wall -1, floor 0,
      dot 1, another agent 0.1.
    - Global state, (101,), (140,) or (187,) float32 for 4, 5 or 6 agents: the cells of the hub,
      then of each arm's corridor and room; floor 0, dot 1, agent 0.1.
    - Action, (N,) int32: 0 up, 1 down, 2 right, 3 left, 4 eat (and stay). All are always legal.
      Moves are simultaneous; walls block them, agents may share and swap cells.
    - Reward, (N,) float32, the same for all: every dot eaten is worth 1, however many share it,
      and every agent that ate none costs 0.025. Once the last dot is gone, new ones appear in all
      rooms within the same step.
    - End: `truncated` at step 100, 115 or 130 for 4, 5 or 6 agents; `terminated` never.

    Known oddities, which belong to the benchmark: several agents on one dot cost the team nothing
    (`k` eaters even save `k - 1` penalties); an agent hides the dot under it from the global state
    and from agents that share its cell; the global state tells neither the layout, nor the time,
    nor one agent from another; no action is free.

    Origin: the PacMen task of CDS (Li et al., "Celebrating Diversity in Shared Multi-Agent
    Reinforcement Learning", 2021), scaled to more agents and layouts by the authors of MARS. The
    rules are stated and implemented here in our own words.

    Raises:
        UserError: `num_agents` is not 4, 5 or 6.
    """

    num_agents: int = 4

    def __post_init__(self) -> None:
        check_int("num_agents", self.num_agents, min(HORIZON), max(HORIZON))

    @property
    def layouts(self) -> Layouts:
        """The four layouts for this number of agents."""
        return build_layouts(self.num_agents)

    @property
    def spec(self) -> EnvSpec:
        """Sizes, spaces and horizon."""
        return EnvSpec(
            num_agents=self.num_agents,
            obs_shape=(WINDOW**2,),
            state_shape=(self.layouts.world_size,),
            action=Discrete(len(rules.MOVES)),
            max_steps=HORIZON[self.num_agents],
            shared_reward=True,
        )

    def reset(self, key: Key) -> tuple[State, TimeStep]:
        """Starts an episode."""
        state = rules.initial_state(self.layouts, key)
        return state, self._timestep(state, jnp.zeros((), jnp.float32))

    def step(self, key: Key, state: State, action: Array) -> tuple[State, TimeStep]:
        """Moves one step on; the key decides where dots reappear."""
        state, reward = rules.transition(self.layouts, key, state, action)
        return state, self._timestep(state, reward)

    def draw(self, state: State, caption: str = "") -> np.ndarray:
        """Draws one unbatched state: (height, width, 3) uint8."""
        from marsrl.envs.paxmen.draw import draw  # Pillow only where pictures are wanted

        return draw(state, caption)

    def _timestep(self, state: State, reward: Array) -> TimeStep:
        return TimeStep(
            obs=rules.observe(self.layouts, state),
            global_state=rules.world_state(self.layouts, state),
            action_mask=jnp.ones((self.num_agents, len(rules.MOVES)), bool),
            agent_mask=jnp.ones(self.num_agents, bool),
            reward=jnp.broadcast_to(reward, (self.num_agents,)),
            terminated=jnp.zeros((), bool),
            truncated=state.step >= HORIZON[self.num_agents],
            metrics={},
        )
