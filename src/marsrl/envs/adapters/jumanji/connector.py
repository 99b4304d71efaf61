"""Connector, with the vector view of its board that Mava introduced."""

from __future__ import annotations

from typing import Any, get_args

import jax
import jax.numpy as jnp

from marsrl.envs.adapters.jumanji.base import (
    MAX_SIDE,
    JumanjiEnv,
    TeamReward,
    load_environments,
    make_game,
    make_spec,
)
from marsrl.envs.limits import MAX_AGENTS, MAX_STEPS
from marsrl.errors import check_choice, check_int
from marsrl.types import Array

VIEW = 2
"""An agent sees this many cells in each direction."""
OFF_GRID = -1


class Connector(JumanjiEnv):
    """Each agent lays a path from its start to its target; no path crosses another.

    - Observation, (N, 54) float32: row and column of the agent, row and column of its target, all
      divided by the number of cells of the grid; then twice the 5x5 cells around the agent, row by
      row: first an agent (itself too) 1, a path -1; then its own target 1, another's -1. The rest
      is 0, but cells off the grid are 1 in both. Once the agent is connected its target reads 0, 0.
    - Action, (N,) int32: 0 nothing, 1 up, 2 right, 3 down, 4 left. Legal moves lead to a free cell
      or to the own target, where the agent then stays. Of several agents that move to one cell,
      the one of highest number gets there.
    - Reward of an agent: 1 when it connects, and -0.03 for every step that it begins unconnected.
    - End: `terminated` when every agent is connected or cannot move, also at the very last step;
      else `truncated` at the limit.
    - Metric `connected`: share of the agents that are connected.

    The observation is that of Mava's vector view, whose oddities it keeps: coordinates are divided
    by the number of cells, not by the side, and cells off the grid look like an agent and like the
    own target. Rewards, masks and boards are those of jumanji's `Connector-v3`.
    """

    def _observe(self, state: Any, outcome: Any) -> Array:
        return vector_view(state.grid, state.agents.position, state.agents.target)

    def _metrics(self, state: Any) -> dict[str, Array]:
        return {"connected": state.agents.connected.mean(dtype=jnp.float32)}

    def _paint(self, axes: Any, state: Any) -> None:
        self.game._viewer._draw_grid(state.grid, axes)
        axes.set_axis_off()
        side = len(state.grid)
        # jumanji itself puts the first row at the bottom, where "up" leads down
        axes.set(xlim=(-0.05, side + 0.05), ylim=(side + 0.05, -0.05))


def vector_view(grid: Array, position: Array, target: Array) -> Array:
    """Computes what the agents see.

    Args:
        grid: (G, G) int32; 0 free, `3 i + 1` path, `3 i + 2` head, `3 i + 3` target of agent i.
        position: (N, 2) int32, row and column of the heads.
        target: (N, 2) int32, row and column of the targets.

    Returns:
        (N, 54) float32, in the order that `Connector` lists.
    """
    side = 2 * VIEW + 1
    padded = jnp.pad(grid, VIEW, constant_values=OFF_GRID)
    windows = jax.vmap(lambda corner: jax.lax.dynamic_slice(padded, corner, (side, side)))(position)
    seen = windows.reshape(-1, side**2)
    off, kind = seen == OFF_GRID, seen % 3
    own = seen == 3 * jnp.arange(1, len(position) + 1, dtype=seen.dtype)[:, None]
    blockers = jnp.where(off | (kind == 2), 1.0, jnp.where(kind == 1, -1.0, 0.0))
    targets = jnp.where(off | own, 1.0, jnp.where((kind == 0) & (seen > 0), -1.0, 0.0))
    connected = (position == target).all(-1, keepdims=True)
    places = jnp.concatenate([position, jnp.where(connected, 0, target)], axis=-1)
    scaled = places.astype(jnp.float32) / grid.size
    return jnp.concatenate([scaled, blockers, targets], axis=-1).astype(jnp.float32)


def connector(
    *,
    grid_size: int,
    num_agents: int,
    time_limit: int | None = None,
    team_reward: TeamReward = "sum",
) -> Connector:
    """Makes a board of Connector, drawn by random walks; `Connector` tells the rules.

    Args:
        grid_size: side of the square board, `G`.
        num_agents: pairs of start and target.
        time_limit: steps per episode at most; `G^2` if None.
        team_reward: whether all agents receive the team's sum, or each its own reward.

    Raises:
        UserError: there can be no such board, or jumanji is not installed.
    """
    check_int("grid_size", grid_size, 2, most=MAX_SIDE)
    # Agents take two adjacent cells each, one agent after the other. Such a pair meets at most 7 of
    # the 2 G (G-1) pairs of the board (itself included), so up to here there is one left for each.
    check_int("num_agents", num_agents, 1, -(-2 * grid_size * (grid_size - 1) // 7), MAX_AGENTS)
    time_limit = grid_size**2 if time_limit is None else time_limit
    check_int("time_limit", time_limit, 1, most=MAX_STEPS)
    check_choice("team_reward", team_reward, get_args(TeamReward))

    environments = load_environments()
    generators = environments.routing.connector.generator
    generator = generators.RandomWalkGenerator(grid_size=grid_size, num_agents=num_agents)
    game = make_game(environments.Connector, generator, time_limit)
    shared = team_reward == "sum"
    return Connector(game, make_spec(game, 4 + 2 * (2 * VIEW + 1) ** 2, 5, shared, ("connected",)))
