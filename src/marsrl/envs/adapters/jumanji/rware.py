"""RWARE, the multi-robot warehouse."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from marsrl.envs.adapters.jumanji.base import (
    MAX_SIDE,
    JumanjiEnv,
    load_environments,
    make_game,
    make_spec,
)
from marsrl.envs.limits import MAX_AGENTS, MAX_STEPS
from marsrl.errors import UserError, check_int
from marsrl.types import Array


class Rware(JumanjiEnv):
    """Robots bring the requested shelves of a warehouse to its goals without a collision.

    - Observation, (N, 66) float32 for `sensor_range` 1: row, column, whether the robot carries a
      shelf, its direction (one-hot: up, right, down, left), whether it is on a lane, where no shelf
      can be put down; then for each of the 8 cells around, row by row, whether a robot is there
      and its direction; then for each of the 9 cells whether a shelf is there and whether it is
      requested.
    - Action, (N,) int32: 0 nothing, 1 forward, 2 turn left, 3 turn right, 4 take up or put down a
      shelf. Only one thing is illegal: to carry a shelf forward on to another shelf.
    - Reward, the same for all: 1 for each requested shelf on a goal. Another one is requested in
      its place at once.
    - End: `terminated` at a collision, also at the very last step; else `truncated` at the limit.

    Known oddities, which belong to jumanji's version: robots move one after the other by their
    number, so that a robot that follows one of higher number into the cell that it is just leaving
    collides, while one that follows a lower number does not; a shelf counts as delivered as soon as
    it is carried on to a goal; a robot that does nothing off the lanes puts its shelf down.
    """

    def _ended(self, state: Any, outcome: Any) -> Array:
        # jumanji reports the limit as a termination too, so look for the collision itself
        _, robots = state.grid
        here = robots[state.agents.position.x, state.agents.position.y]
        return (here != 1 + jnp.arange(self.spec.num_agents)).any()


def rware(
    *,
    shelf_rows: int,
    shelf_columns: int,
    num_agents: int,
    request_queue_size: int,
    column_height: int = 8,
    sensor_range: int = 1,
    time_limit: int = 500,
) -> Rware:
    """Makes a warehouse; `Rware` tells the rules.

    Args:
        shelf_rows: clusters of shelves from top to bottom.
        shelf_columns: clusters from left to right, odd; the last row lacks its middle one.
        num_agents: robots; they start anywhere, under shelves too.
        request_queue_size: shelves that are requested at any time.
        column_height: height of a cluster in cells; its width is 2.
        sensor_range: cells that a robot sees in each direction.
        time_limit: steps per episode at most.

    Raises:
        UserError: there can be no such warehouse, or jumanji is not installed.
    """
    check_int("shelf_columns", shelf_columns, 1, most=MAX_SIDE)
    if shelf_columns % 2 == 0:
        nearest = shelf_columns + 1
        raise UserError(
            f"shelf_columns is {shelf_columns}, expected an odd number; nearest: {nearest}"
        )
    check_int("shelf_rows", shelf_rows, 2 if shelf_columns == 1 else 1, most=MAX_SIDE)
    check_int("column_height", column_height, 1, most=MAX_SIDE)
    check_int("sensor_range", sensor_range, 1, most=10)
    check_int("time_limit", time_limit, 1, most=MAX_STEPS)
    cells = ((column_height + 1) * shelf_rows + 2) * (3 * shelf_columns + 1)
    check_int("num_agents", num_agents, 1, cells, MAX_AGENTS)
    shelves = 2 * column_height * (shelf_rows * shelf_columns - 1)
    check_int("request_queue_size", request_queue_size, 1, shelves - 1)

    environments = load_environments()
    generator = environments.routing.robot_warehouse.generator.RandomGenerator(
        shelf_rows=shelf_rows,
        shelf_columns=shelf_columns,
        column_height=column_height,
        num_agents=num_agents,
        sensor_range=sensor_range,
        request_queue_size=request_queue_size,
    )
    game = make_game(environments.RobotWarehouse, generator, time_limit)
    return Rware(game, make_spec(game, int(game.num_obs_features), 5, shared_reward=True))
