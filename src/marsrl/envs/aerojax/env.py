"""AeroJAX behind the environment interface."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import jax.numpy as jnp
import numpy as np

from marsrl.envs.aerojax import rules, views
from marsrl.envs.aerojax.rules import State
from marsrl.envs.aerojax.scenarios import SCENARIOS, Scenario
from marsrl.errors import UserError, check_bool, check_choice, near_misses, shown
from marsrl.types import Array, Box, Discrete, EnvSpec, Key, TimeStep

VERSION = "v1"
"""Of the rules; results of different versions do not compare."""
NUM_ACTIONS = 9
NEUTRAL = 4
"""The discrete action "wings level, level flight"."""


@dataclass(frozen=True)
class AeroJAX:
    """A team of fixed-wing aircraft finds moving ground targets and locks on to them.

    Sensors and links are short and unreliable, aircraft cannot stop or turn on the spot, and they
    are lost if they collide or leave the arena. See `docs/aerojax.md` for the rules in full.

    - Observation, (N, 9 + 6 (N - 1) + 6 M) float32: see `views.observe`.
    - Global state, (9 N + 6 M + 1,) float32: see `views.world_state`.
    - Action, (N,) int32: `3 (bank + 1) + climb + 1` with bank and climb in {-1, 0, 1}; a bank of 1
      turns left as hard as possible, a climb of 1 gains height as fast as possible. If
      `continuous`, (N, 2) float32, bank and climb in [-1, 1]. A disabled aircraft has only the
      neutral action 4, and its `agent_mask` is False.
    - Reward, (N,) float32, the same for all: see `rules.transition`.
    - End: `terminated` when fewer than `scenario.quorum` aircraft that can lock are left,
      `truncated` after `scenario.max_steps` steps.
    - Metrics: `captures` and `lost` (aircraft), both so far in the episode.

    Raises:
        UserError: `continuous` is no bool.
    """

    scenario: Scenario
    continuous: bool = False

    def __post_init__(self) -> None:
        check_bool("continuous", self.continuous)

    @property
    def spec(self) -> EnvSpec:
        """Sizes, spaces and horizon."""
        N, M = self.scenario.num_agents, self.scenario.num_targets
        scouts = self.scenario.num_scouts
        return EnvSpec(
            num_agents=N,
            obs_shape=(views.OWN + views.MATE * (N - 1) + views.TARGET * M,),
            state_shape=(views.OWN * N + views.TARGET * M + 1,),
            action=Box(2) if self.continuous else Discrete(NUM_ACTIONS),
            max_steps=self.scenario.max_steps,
            shared_reward=True,
            metrics=("captures", "lost"),
            groups=("scout",) * scouts + ("tracker",) * (N - scouts) if scouts else (),
        )

    def reset(self, key: Key) -> tuple[State, TimeStep]:
        """Starts an episode."""
        state = rules.initial_state(self.scenario, key)
        return state, self._timestep(state, jnp.zeros((), jnp.float32))

    def step(self, key: Key, state: State, action: Array) -> tuple[State, TimeStep]:
        """Moves one step on; the key decides about detections, links and targets."""
        if self.continuous:
            bank, climb = jnp.clip(action, -1.0, 1.0).T
        else:
            bank, climb = ((part - 1).astype(jnp.float32) for part in (action // 3, action % 3))
        state, reward = rules.transition(self.scenario, key, state, bank, climb)
        return state, self._timestep(state, reward)

    def draw(self, state: State, caption: str = "") -> np.ndarray:
        """Draws one unbatched state: (height, width, 3) uint8."""
        from marsrl.envs.aerojax.draw import draw  # Pillow only where pictures are wanted

        return draw(self.scenario, state, caption)

    def _timestep(self, state: State, reward: Array) -> TimeStep:
        scenario, alive = self.scenario, state.alive
        lockers = (alive & ~scenario.is_scout).sum(dtype=jnp.int32)
        terminated = lockers < scenario.quorum
        if self.continuous:
            action_mask = jnp.ones((scenario.num_agents, 2), bool)
        else:
            action_mask = alive[:, None] | (np.arange(NUM_ACTIONS) == NEUTRAL)
        return TimeStep(
            obs=views.observe(scenario, state),
            global_state=views.world_state(scenario, state),
            action_mask=action_mask,
            agent_mask=alive,
            reward=jnp.broadcast_to(reward, (scenario.num_agents,)),
            terminated=terminated,
            truncated=(state.step >= scenario.max_steps) & ~terminated,
            metrics={
                "captures": state.captures.astype(jnp.float32),
                "lost": (~alive).sum(dtype=jnp.float32),
            },
        )


def aerojax(scenario: str = "track-3ag", *, continuous: bool = False, **changes: float) -> AeroJAX:
    """Makes a task of the benchmark, or a variant of it.

    Args:
        scenario: one of `SCENARIOS`.
        continuous: bank and climb as real numbers in place of nine actions.
        **changes: fields of `Scenario` in place of the task's own.

    Raises:
        UserError: no such scenario or setting, or an impossible value.
    """
    check_choice("scenario", scenario, SCENARIOS)
    changeable = [field.name for field in fields(Scenario)]
    for name in changes:
        if name not in changeable:
            known = ("scenario", "continuous", *changeable)
            raise UserError(
                f"aerojax/{scenario} has no setting {shown(name)}{near_misses(name, known)}"
            )
    return AeroJAX(replace(SCENARIOS[scenario], **changes), continuous)
