"""Level-Based Foraging."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

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
from marsrl.errors import check_bool, check_choice, check_int
from marsrl.types import Array


class Lbf(JumanjiEnv):
    """Foragers of different levels load food, which needs as much level around it as its own.

    - Observation, (N, 3 (F + N)) float32: row, column and level of each food, of the agent itself,
      and of each other agent; -1, -1, 0 for what is eaten or out of view. Rows and columns count
      from the first ones in view.
    - Action, (N,) int32: 0 nothing, 1 up, 2 down, 3 left, 4 right, 5 load. Illegal: to move off the
      grid, on to an agent or on to food; to load without food beside oneself. Agents that move to
      one cell all stay where they are.
    - Reward: a food is worth its level, divided by the level of all food, so that an episode
      brings 1 at most. The agents that loaded it share this in proportion to their levels.
    - End: `terminated` when all food is eaten, also at the very last step; else `truncated` at the
      limit.
    - Metric `eaten`: share of the food that is eaten.

    Known oddity, which belongs to jumanji's version: no agent starts in a row whose number is that
    of a row or a column with food.
    """

    ink: ClassVar[str] = "white"  # the pictures of the agents are white
    paper: ClassVar[str] = "black"

    def _metrics(self, state: Any) -> dict[str, Array]:
        return {"eaten": state.food_items.eaten.mean(dtype=jnp.float32)}


def lbf(
    *,
    grid_size: int,
    fov: int,
    num_agents: int,
    num_food: int,
    max_agent_level: int = 2,
    force_coop: bool = False,
    time_limit: int = 100,
    team_reward: TeamReward = "sum",
) -> Lbf:
    """Makes a field of Level-Based Foraging; `Lbf` tells the rules.

    Args:
        grid_size: side of the square field.
        fov: cells that an agent sees in each direction.
        num_agents: foragers.
        num_food: pieces of food, never beside each other nor at the edge.
        max_agent_level: levels of agents are drawn from 1 to this.
        force_coop: every food has the level of the three strongest agents together (of all, if
            there are fewer); otherwise that is the highest level drawn.
        time_limit: steps per episode at most.
        team_reward: whether all agents receive the team's sum, or each its own reward.

    Raises:
        UserError: there can be no such field, or jumanji is not installed.
    """
    check_int("grid_size", grid_size, 5, most=MAX_SIDE)
    check_int("fov", fov, 1, grid_size)
    check_int("max_agent_level", max_agent_level, 2, most=1000)
    check_bool("force_coop", force_coop)
    check_int("time_limit", time_limit, 1, most=MAX_STEPS)
    inner = (grid_size - 2) ** 2
    check_int("num_food", num_food, 1, (inner - 2) // 5, MAX_AGENTS)
    # Food can close this many rows to starts; jumanji would then put agents on to food.
    closed = min(2 * num_food, grid_size - 2)
    most = min(inner - 5 * num_food - 1, grid_size * (grid_size - closed))
    check_int("num_agents", num_agents, 1, most, MAX_AGENTS)
    check_choice("team_reward", team_reward, get_args(TeamReward))

    environments = load_environments()
    generator = environments.routing.lbf.generator.RandomGenerator(
        grid_size=grid_size,
        fov=fov,
        num_agents=num_agents,
        num_food=num_food,
        max_agent_level=max_agent_level,
        force_coop=force_coop,
    )
    game = make_game(environments.LevelBasedForaging, generator, time_limit)
    shared = team_reward == "sum"
    return Lbf(game, make_spec(game, 3 * (num_food + num_agents), 6, shared, ("eaten",)))
