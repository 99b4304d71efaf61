"""The three games of jumanji: hand-made states, whose next step is worked out beside them.

`jumanji's` means what the library itself returns; it is computed beside ours in one program.
"""

import builtins
import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.adapters.jumanji import base, connector, lbf, rware
from marsrl.errors import UserError

KEY = jax.random.key(7)


def prepare(env, other=None):
    """Compiles once: our step, without and with an old key in the state, and jumanji's."""
    other = other or env

    def step(key, state, action):
        old = state.replace(key=jax.random.key(99))
        theirs = env.game.step(state.replace(key=key), action)
        return (
            env.step(key, state, action),
            env.step(key, old, action),
            other.step(key, state, action),
            theirs,
        )

    compiled = jax.jit(step)

    def run(state, action, key=KEY):
        ours, with_old_key, others, theirs = compiled(key, state, jnp.array(action, jnp.int32))
        assert_equal(ours, with_old_key)
        assert_follows(ours, theirs)
        return SimpleNamespace(state=ours[0], step=ours[1], other=others[1], theirs=theirs[1])

    return SimpleNamespace(env=env, other=other, reset=jax.jit(env.reset), run=run)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_follows(ours, theirs):
    """The state, masks, rewards and ends are jumanji's, except where the docstring says so."""
    state, step = ours
    assert state.key is None
    assert_equal(state, theirs[0].replace(key=None))
    np.testing.assert_array_equal(step.action_mask, theirs[1].observation.action_mask)
    np.testing.assert_allclose(step.reward, np.broadcast_to(theirs[1].reward, step.reward.shape))
    assert step.done == theirs[1].last()
    assert not (step.terminated and step.truncated)
    np.testing.assert_array_equal(step.global_state, np.asarray(step.obs).reshape(-1))
    if hasattr(theirs[1].observation, "agents_view"):
        np.testing.assert_array_equal(step.obs, theirs[1].observation.agents_view)


def ending(step):
    return ["terminated"] * bool(step.terminated) + ["truncated"] * bool(step.truncated)


def play(game, seed, num_steps):
    """Random legal steps from a start; yields what `run` returns."""
    rng = np.random.default_rng(seed)
    state, step = game.reset(jax.random.key(seed))
    for i in range(num_steps):
        mask = np.asarray(step.action_mask)
        action = [rng.choice(np.flatnonzero(row)) for row in mask]
        result = game.run(state, action, jax.random.key(i))
        state, step = result.state, result.step
        yield result


# --- RWARE ----------------------------------------------------------------------------------------

# Columns 0 to 9; X shelf, G goal. The shelves' numbers from 0, row by row, are
#   row 0  . . . . . . . . . .
#   row 1  . X X . . . . X X .      0 1      2 3
#   row 2  . X X . . . . X X .      4 5      6 7
#   row 3  . . . . . . . . . .
#   row 4  . . . . G G . . . .
SHELVES = [(1, 1), (1, 2), (1, 7), (1, 8), (2, 1), (2, 2), (2, 7), (2, 8)]
UP, RIGHT, DOWN, LEFT = range(4)
NOTHING, FORWARD, TURN_LEFT, TURN_RIGHT, TOGGLE = range(5)
LIMIT = 6


@pytest.fixture(scope="module")
def warehouse():
    sizes = {"shelf_rows": 1, "shelf_columns": 3, "column_height": 2}
    env = rware(**sizes, num_agents=2, request_queue_size=1, time_limit=LIMIT)
    return prepare(env)


def robots(warehouse, *placed, carried=None, requested=0, step=0):
    """Two robots (row, column, direction); the first carries shelf `carried`, if any."""
    state, _ = warehouse.reset(KEY)
    shelves = list(SHELVES)
    if carried is not None:
        shelves[carried] = placed[0][:2]
    grid = np.zeros((2, 5, 10), np.int32)
    for number, (row, column) in enumerate(shelves):
        grid[0, row, column] = number + 1
    for number, (row, column, _) in enumerate(placed):
        grid[1, row, column] = number + 1
    row, column, direction = jnp.array(placed, jnp.int32).T
    agents = state.agents._replace(
        position=state.agents.position._replace(x=row, y=column),
        direction=direction,
        is_carrying=jnp.array([carried is not None, False], jnp.int32),
    )
    x, y = jnp.array(shelves, jnp.int32).T
    shelf_state = state.shelves._replace(
        position=state.shelves.position._replace(x=x, y=y),
        is_requested=jnp.zeros(8).at[requested].set(1),
    )
    return state.replace(
        grid=jnp.array(grid),
        agents=agents,
        shelves=shelf_state,
        request_queue=jnp.array([requested], jnp.int32),
        step_count=jnp.int32(step),
        action_mask=jnp.ones((2, 5), bool),
    )


FACING = [(3, 3, RIGHT), (3, 4, LEFT)]


@pytest.mark.parametrize(
    ("placed", "actions"),
    [
        (FACING, [FORWARD, FORWARD]),  # swap
        (FACING, [FORWARD, NOTHING]),
        ([(3, 3, RIGHT), (3, 5, LEFT)], [FORWARD, FORWARD]),  # the same cell
        ([(3, 3, RIGHT), (3, 4, RIGHT)], [FORWARD, FORWARD]),  # 0 follows 1: the oddity
    ],
)
def test_a_collision_terminates(warehouse, placed, actions):
    result = warehouse.run(robots(warehouse, *placed), actions)
    assert ending(result.step) == ["terminated"]
    assert not result.step.reward.any()


def test_following_a_lower_number_is_no_collision(warehouse):
    result = warehouse.run(robots(warehouse, (3, 4, RIGHT), (3, 3, RIGHT)), [FORWARD, FORWARD])
    assert ending(result.step) == []
    assert result.state.agents.position.y.tolist() == [5, 4]


def test_the_limit_of_rware_truncates_but_a_collision_terminates(warehouse):
    before = robots(warehouse, *FACING, step=LIMIT - 2)
    assert ending(warehouse.run(before, [NOTHING, NOTHING]).step) == []
    last = robots(warehouse, *FACING, step=LIMIT - 1)
    result = warehouse.run(last, [NOTHING, NOTHING])
    assert ending(result.step) == ["truncated"]
    assert result.theirs.discount == 0  # jumanji calls it a termination
    assert ending(warehouse.run(last, [FORWARD, NOTHING]).step) == ["terminated"]


def test_a_requested_shelf_on_a_goal_pays_all(warehouse):
    over_goal = (3, 4, DOWN), (0, 0, UP)
    state = robots(warehouse, *over_goal, carried=3, requested=3)
    result = warehouse.run(state, [FORWARD, NOTHING])
    assert result.step.reward.tolist() == [1, 1]
    assert ending(result.step) == []
    assert result.state.request_queue.tolist() != [3]
    state = robots(warehouse, *over_goal, carried=3, requested=2)
    assert warehouse.run(state, [FORWARD, NOTHING]).step.reward.tolist() == [0, 0]


def test_the_key_alone_decides_what_is_requested_next(warehouse):
    state = robots(warehouse, (3, 4, DOWN), (0, 0, UP), carried=3, requested=3)

    def next_request(seed):
        result = warehouse.run(state, [FORWARD, NOTHING], jax.random.key(seed))
        return int(result.state.request_queue[0])

    requests = [next_request(seed) for seed in range(12)]
    assert requests == [next_request(seed) for seed in range(12)]
    assert len(set(requests)) > 3
    assert set(requests) <= set(range(8)) - {3}


def test_what_robots_see(warehouse):
    state = robots(warehouse, (2, 3, LEFT), (3, 4, UP), carried=0, requested=5)
    result = warehouse.run(state, [NOTHING, NOTHING])
    obs = np.asarray(result.step.obs)
    np.testing.assert_array_equal(obs[0][:8], [2, 3, 1, 0, 0, 0, 1, 1])  # on a lane
    around = obs[0][8:48].reshape(8, 5)  # of the 3x3 cells without the middle
    np.testing.assert_array_equal(around[:7], 0)
    np.testing.assert_array_equal(around[7], [1, 1, 0, 0, 0])  # down right, facing up
    shelves = obs[0][48:].reshape(3, 3, 2)
    np.testing.assert_array_equal(shelves[..., 0], [[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(shelves[..., 1], [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    # It carries a shelf and faces another: forward is illegal, and so does nothing.
    np.testing.assert_array_equal(result.step.action_mask, [[1, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    again = warehouse.run(result.state, [FORWARD, NOTHING])
    assert again.state.agents.position.y.tolist() == [3, 4]


def test_shelves_are_put_down_off_the_lanes_only(warehouse):
    on_lane = robots(warehouse, (3, 3, UP), (0, 0, UP), carried=0)
    for action in (TOGGLE, NOTHING):
        assert warehouse.run(on_lane, [action, NOTHING]).state.agents.is_carrying[0]
    off_lane = robots(warehouse, (1, 1, UP), (0, 0, UP), carried=0)
    for action in (TOGGLE, NOTHING):  # the latter is the oddity
        assert not warehouse.run(off_lane, [action, NOTHING]).state.agents.is_carrying[0]
    assert warehouse.run(off_lane, [TURN_LEFT, NOTHING]).state.agents.is_carrying[0]


def test_random_play_of_rware_is_jumanjis(warehouse):
    for _ in play(warehouse, 0, LIMIT):
        pass  # `run` compares every step


@pytest.mark.parametrize(("rows", "columns", "height", "shelves"), [(1, 3, 2, 8), (2, 1, 3, 6)])
def test_all_shelves_but_one_can_be_requested(rows, columns, height, shelves):
    sizes = {"shelf_rows": rows, "shelf_columns": columns, "column_height": height}
    env = rware(**sizes, num_agents=1, request_queue_size=shelves - 1)
    assert len(env.game.shelf_ids) == shelves
    assert env.game.not_in_queue_size == 1
    with pytest.raises(UserError, match=f"is {shelves}, expected 1 to {shelves - 1}; nearest"):
        rware(**sizes, num_agents=1, request_queue_size=shelves)


# --- Level-Based Foraging -------------------------------------------------------------------------

LOAD = 5
FIELD = {"grid_size": 6, "fov": 2, "num_agents": 2, "num_food": 2, "time_limit": LIMIT}


@pytest.fixture(scope="module")
def field():
    return prepare(lbf(**FIELD, team_reward="none"), lbf(**FIELD))


def forage(field, agents=((1, 2), (3, 2)), eaten=(False, False), step=0):
    """Agents of level 1 and 2; food of level 3 at (2, 2), between them, and of 1 at (4, 4)."""
    state, _ = field.reset(KEY)
    return state.replace(
        agents=state.agents.replace(
            position=jnp.array(agents, jnp.int32), level=jnp.array([1, 2], jnp.int32)
        ),
        food_items=state.food_items.replace(
            position=jnp.array([(2, 2), (4, 4)], jnp.int32),
            level=jnp.array([3, 1], jnp.int32),
            eaten=jnp.array(eaten),
        ),
        step_count=jnp.int32(step),
    )


def test_food_is_shared_by_level_or_paid_to_all(field):
    result = field.run(forage(field), [LOAD, LOAD])
    np.testing.assert_allclose(result.step.reward, [0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(result.other.reward, [0.75, 0.75], rtol=1e-6)
    assert result.step.metrics["eaten"] == 0.5
    assert ending(result.step) == []
    assert not field.env.spec.shared_reward
    assert field.other.spec.shared_reward


def test_too_weak_a_team_eats_nothing(field):
    result = field.run(forage(field), [NOTHING, LOAD])
    assert result.step.reward.tolist() == [0, 0]
    assert result.step.metrics["eaten"] == 0


def test_the_last_food_terminates_and_the_limit_truncates(field):
    state = forage(field, eaten=(False, True))
    assert ending(field.run(state, [LOAD, LOAD]).step) == ["terminated"]
    before = forage(field, eaten=(False, True), step=LIMIT - 2)
    assert ending(field.run(before, [NOTHING, NOTHING]).step) == []
    last = forage(field, eaten=(False, True), step=LIMIT - 1)
    result = field.run(last, [NOTHING, NOTHING])
    assert ending(result.step) == ["truncated"]
    assert result.step.metrics["eaten"] == 0.5
    assert ending(field.run(last, [LOAD, LOAD]).step) == ["terminated"]


def test_what_foragers_see_and_may_do(field):
    step = field.run(forage(field), [NOTHING, NOTHING]).step
    # Food, food, itself, the other. The second food is three rows below the first agent.
    np.testing.assert_array_equal(step.obs[0], [2, 2, 3, -1, -1, 0, 1, 2, 1, 3, 2, 2])
    # The second agent's view begins in row 1, column 0.
    np.testing.assert_array_equal(step.obs[1], [1, 2, 3, 3, 4, 1, 2, 2, 2, 0, 2, 1])
    np.testing.assert_array_equal(step.action_mask, [[1, 1, 0, 1, 1, 1], [1, 0, 1, 1, 1, 1]])
    eaten = field.run(forage(field, eaten=(True, False)), [NOTHING, NOTHING]).step
    np.testing.assert_array_equal(eaten.obs[0][:3], [-1, -1, 0])
    np.testing.assert_array_equal(eaten.action_mask[0], [1, 1, 1, 1, 1, 0])


def test_agents_that_would_share_a_cell_stay(field):
    state = forage(field, agents=[(0, 1), (0, 3)])
    moved = field.run(state, [4, 3]).state  # right and left, both to (0, 2)
    assert moved.agents.position.tolist() == [[0, 1], [0, 3]]


def test_random_play_of_lbf_is_jumanjis(field):
    for _ in play(field, 1, LIMIT):
        pass  # `run` compares every step


def test_starts_of_a_crowded_field():
    """As many agents as fit: none shares a cell, none stands on food or in a closed row."""
    env = lbf(grid_size=11, fov=2, num_agents=55, num_food=3)
    states = jax.jit(jax.vmap(env.game._generator))(jax.random.split(KEY, 64))
    agents, food = np.asarray(states.agents.position), np.asarray(states.food_items.position)
    for i in range(64):
        assert len(np.unique(agents[i], axis=0)) == 55
        assert not np.isin(agents[i][:, 0], food[i]).any()
    with pytest.raises(UserError, match="num_agents is 56, expected 1 to 55; nearest: 55"):
        lbf(grid_size=11, fov=2, num_agents=56, num_food=3)


# --- Connector ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board():
    sizes = {"grid_size": 5, "num_agents": 3}
    return prepare(connector(**sizes, team_reward="none"), connector(**sizes))


# Agent i: path 3 i + 1, head 3 i + 2, target 3 i + 3.
GRID = [
    [1, 2, 0, 3, 0],
    [4, 5, 0, 0, 0],
    [0, 6, 0, 9, 8],
    [0, 0, 0, 0, 7],
    [0, 0, 0, 0, 0],
]
STAY, GO_UP, GO_RIGHT, GO_DOWN, GO_LEFT = range(5)


def on_board(board, grid, step=0):
    """A state from its drawing; an agent without a target has reached it."""
    from jumanji.environments.routing.connector.utils import get_action_masks

    state, _ = board.reset(KEY)
    grid = np.array(grid, np.int32)

    def place(code):
        return tuple(np.argwhere(grid == code)[0]) if (grid == code).any() else None

    heads = [place(3 * i + 2) for i in range(3)]
    targets = [place(3 * i + 3) or heads[i] for i in range(3)]
    agents = state.agents.replace(
        position=jnp.array(heads, jnp.int32), target=jnp.array(targets, jnp.int32)
    )
    return state.replace(
        grid=jnp.array(grid),
        agents=agents,
        action_mask=get_action_masks(agents, jnp.array(grid)),
        step_count=jnp.int32(step),
    )


def test_two_steps_to_the_end_of_a_board(board):
    first = board.run(on_board(board, GRID), [GO_RIGHT, GO_DOWN, GO_LEFT])
    np.testing.assert_allclose(first.step.reward, [-0.03, 0.97, 0.97], rtol=1e-6)
    np.testing.assert_allclose(first.other.reward, [1.91] * 3, rtol=1e-6)
    np.testing.assert_allclose(first.step.metrics["connected"], 2 / 3, rtol=1e-6)
    assert first.theirs.discount.tolist() == [1, 0, 0]  # jumanji's, of no meaning for the team
    assert ending(first.step) == []
    second = board.run(first.state, [GO_RIGHT, STAY, STAY])
    np.testing.assert_allclose(second.step.reward, [0.97, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(second.other.reward, [0.97] * 3, rtol=1e-6)
    assert second.step.metrics["connected"] == 1
    assert ending(second.step) == ["terminated"]
    assert not board.env.spec.shared_reward
    assert board.other.spec.shared_reward


def test_the_limit_of_a_board_truncates_but_connecting_all_terminates(board):
    assert board.env.spec.max_steps == 25
    assert ending(board.run(on_board(board, GRID, 23), [STAY] * 3).step) == []
    result = board.run(on_board(board, GRID, 24), [STAY] * 3)
    assert ending(result.step) == ["truncated"]
    np.testing.assert_allclose(result.step.reward, [-0.03] * 3, rtol=1e-6)
    near = [[0, 2, 3, 0, 0], [0, 5, 6, 0, 0], [0, 8, 9, 0, 0], [0] * 5, [0] * 5]
    result = board.run(on_board(board, near, 24), [GO_RIGHT] * 3)
    assert ending(result.step) == ["terminated"]


def test_blocked_agents_end_a_board(board):
    # Agent 0 is walled in; the others are connected.
    blocked = [[2, 4, 0, 0, 3], [7, 5, 0, 0, 0], [8, 0, 0, 0, 0], [0] * 5, [0] * 5]
    result = board.run(on_board(board, blocked), [STAY] * 3)
    np.testing.assert_array_equal(result.step.action_mask[:, 1:], False)
    assert ending(result.step) == ["terminated"]
    np.testing.assert_allclose(result.step.metrics["connected"], 2 / 3, rtol=1e-6)


def test_masks_of_a_board(board):
    step = board.run(on_board(board, GRID), [STAY] * 3).step
    expected = [[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 1, 0, 0, 1]]
    np.testing.assert_array_equal(step.action_mask, expected)


def test_the_highest_number_gets_a_contested_cell(board):
    contested = [[0, 2, 0, 3, 0], [0, 0, 5, 6, 0], [0] * 5, [8, 0, 0, 0, 9], [0] * 5]
    state = board.run(on_board(board, contested), [GO_RIGHT, GO_UP, STAY]).state
    assert state.agents.position.tolist() == [[0, 1], [0, 2], [3, 0]]


def test_vector_view_of_a_drawn_board(board):
    step = board.run(on_board(board, GRID), [STAY] * 3).step
    blockers = [
        [1, 1, 1, 1, 1],  # rows -2 and -1 are off the grid, as is column -1
        [1, 1, 1, 1, 1],
        [1, -1, 1, 0, 0],  # path, itself, free, target
        [1, -1, 1, 0, 0],  # path and head of agent 1
        [1, 0, 0, 0, 0],
    ]
    targets = [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],  # its own
        [1, 0, 0, 0, 0],
        [1, 0, -1, 0, -1],  # those of agents 1 and 2
    ]
    places = [0, 1 / 25, 0, 3 / 25]
    np.testing.assert_allclose(step.obs[0], np.concatenate([places, np.ravel([blockers, targets])]))
    connected = board.run(on_board(board, GRID), [STAY, GO_DOWN, STAY]).step
    np.testing.assert_allclose(connected.obs[1][:4], [2 / 25, 1 / 25, 0, 0])


def slow_view(grid, agent):
    """One agent's view, found by searching the grid."""
    side = len(grid)
    (head,) = np.argwhere(grid == 3 * agent + 2)
    target = np.argwhere(grid == 3 * agent + 3)
    target = target[0] if len(target) else np.zeros(2)
    blockers, targets = [], []
    for row in range(head[0] - 2, head[0] + 3):
        for column in range(head[1] - 2, head[1] + 3):
            if not (0 <= row < side and 0 <= column < side):
                blockers.append(1)
                targets.append(1)
                continue
            code = grid[row, column]
            kind = (code - 1) % 3 if code else None  # 0 path, 1 head, 2 target
            blockers.append({0: -1, 1: 1}.get(kind, 0))
            targets.append((1 if code == 3 * agent + 3 else -1) if kind == 2 else 0)
    return np.float32([*head / side**2, *target / side**2, *blockers, *targets])


def test_vector_view_in_random_play(board):
    connected = 0
    for result in play(board, 7, 12):
        grid = np.asarray(result.state.grid)
        expected = [slow_view(grid, agent) for agent in range(3)]
        np.testing.assert_allclose(result.step.obs, expected)
        connected = max(connected, float(result.step.metrics["connected"]))
    assert connected > 0  # or the loop has not seen a target without coordinates


def test_starts_of_a_crowded_board():
    """As many agents as always fit: starts and targets take two cells each."""
    env = connector(grid_size=5, num_agents=6)
    states = jax.jit(jax.vmap(env.game._generator))(jax.random.split(KEY, 256))
    codes = np.sort(np.asarray(states.grid).reshape(256, -1), axis=-1)[:, -12:]
    np.testing.assert_array_equal(codes, [[3 * i + j for i in range(6) for j in (2, 3)]] * 256)
    with pytest.raises(UserError, match="num_agents is 7, expected 1 to 6; nearest: 6"):
        connector(grid_size=5, num_agents=7)


# --- the interface --------------------------------------------------------------------------------

GAMES = [("warehouse", 66, 5, ()), ("field", 12, 6, ("eaten",)), ("board", 54, 5, ("connected",))]


@pytest.mark.parametrize(("name", "size", "actions", "metrics"), GAMES)
def test_spec_types_and_start(request, name, size, actions, metrics):
    game = request.getfixturevalue(name)
    env, spec = game.env, game.env.spec
    N = 3 if name == "board" else 2
    assert (spec.num_agents, spec.obs_shape, spec.state_shape) == (N, (size,), (N * size,))
    assert (spec.action.size, spec.metrics) == (actions, metrics)

    state, step = game.reset(KEY)
    assert state.key is None
    assert not step.reward.any()
    assert not step.done
    assert step.agent_mask.all()
    assert_equal(game.reset(KEY), (state, step))
    assert (game.reset(jax.random.key(8))[1].obs != step.obs).any()

    action = jnp.zeros(N, jnp.int32)
    after = jax.eval_shape(env.step, KEY, state, action)
    assert jax.tree.structure(after) == jax.tree.structure((state, step))
    for time_step in (step, after[1]):
        assert [(leaf.shape, leaf.dtype.name) for leaf in time_step[:-1]] == [
            ((N, size), "float32"),
            ((N * size,), "float32"),
            ((N, actions), "bool"),
            ((N,), "bool"),
            ((N,), "float32"),
            ((), "bool"),
            ((), "bool"),
        ]
        assert {k: (v.shape, v.dtype.name) for k, v in time_step.metrics.items()} == dict.fromkeys(
            metrics, ((), "float32")
        )


WAREHOUSE = {"shelf_rows": 1, "shelf_columns": 3, "num_agents": 2, "request_queue_size": 2}
BOARD = {"grid_size": 5, "num_agents": 3}


@pytest.mark.parametrize(
    ("make", "good", "bad", "message"),
    [
        (rware, WAREHOUSE, {"shelf_columns": 2}, "is 2, expected an odd number; nearest: 3"),
        (rware, WAREHOUSE, {"shelf_columns": -1}, "is -1, expected at least 1; nearest: 1"),
        (rware, WAREHOUSE, {"shelf_columns": 1}, "shelf_rows is 1, expected at least 2"),
        (rware, WAREHOUSE, {"column_height": 0}, "is 0, expected at least 1; nearest: 1"),
        (rware, WAREHOUSE, {"num_agents": 111}, "is 111, expected 1 to 110; nearest: 110"),
        (rware, WAREHOUSE, {"num_agents": 0}, "is 0, expected 1 to 110; nearest: 1"),
        (rware, WAREHOUSE, {"request_queue_size": 32}, "is 32, expected 1 to 31; nearest: 31"),
        (rware, WAREHOUSE, {"sensor_range": 0}, "is 0, expected at least 1; nearest: 1"),
        (rware, WAREHOUSE, {"time_limit": 0}, "time_limit is 0, expected at least 1; nearest: 1"),
        (rware, WAREHOUSE, {"time_limit": 1.5}, "is 1.5, expected a whole number, at least 1"),
        (lbf, FIELD, {"grid_size": 4}, "grid_size is 4, expected at least 5; nearest: 5"),
        (lbf, FIELD, {"fov": 7}, "fov is 7, expected 1 to 6; nearest: 6"),
        (lbf, FIELD, {"num_food": 3}, "num_food is 3, expected 1 to 2; nearest: 2"),
        (lbf, FIELD, {"num_agents": 6}, "num_agents is 6, expected 1 to 5; nearest: 5"),
        (lbf, FIELD, {"max_agent_level": 1}, "is 1, expected at least 2; nearest: 2"),
        (lbf, FIELD, {"force_coop": "false"}, "is 'false', expected True or False; did you mean F"),
        (lbf, FIELD, {"force_coop": 1}, "force_coop is 1, expected True or False"),
        (lbf, FIELD, {"num_agents": True}, "num_agents is True, expected a whole number, 1 to 5"),
        (lbf, FIELD, {"team_reward": "summ"}, "'summ', expected one of sum, none; did you mean s"),
        (connector, BOARD, {"grid_size": 1}, "grid_size is 1, expected at least 2; nearest: 2"),
        (connector, BOARD, {"num_agents": 0}, "num_agents is 0, expected 1 to 6; nearest: 1"),
        (connector, BOARD, {"time_limit": -3}, "is -3, expected at least 1; nearest: 1"),
        (connector, BOARD, {"team_reward": None}, "team_reward is None, expected one of sum, none"),
    ],
)
def test_bad_input_is_named_before_jumanji_is_loaded(monkeypatch, make, good, bad, message):
    monkeypatch.setitem(sys.modules, "jumanji", None)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        make(**good | bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("make", "sizes"), [(rware, WAREHOUSE), (lbf, FIELD), (connector, BOARD)])
def test_without_jumanji_the_error_says_what_to_type(monkeypatch, make, sizes):
    monkeypatch.setitem(sys.modules, "jumanji", None)
    with pytest.raises(UserError, match=r"jumanji is not installed; .*'marsrl\[jumanji\]'"):
        make(**sizes)


def test_jumanji_is_loaded_as_if_outside_a_notebook(monkeypatch):
    """In one, it sets a backend of matplotlib that is a package of its own."""
    seen = []
    library = SimpleNamespace(environments=None)
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    monkeypatch.setattr(
        base, "require", lambda *_: seen.append(hasattr(builtins, "__IPYTHON__")) or library
    )
    base.load_environments()
    assert seen == [False]
    assert builtins.__IPYTHON__


def test_import_is_light_and_starts_no_backend():
    code = (
        "import sys\n"
        "import marsrl.envs.adapters.jumanji\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "loaded = {'jumanji', 'matplotlib'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- pictures -------------------------------------------------------------------------------------


def shows(image, colour):
    return (image == np.array(colour)).all(-1)


def test_picture_of_a_warehouse(warehouse):
    before = robots(warehouse, (3, 3, UP), (0, 9, UP), carried=0, requested=7)
    image = warehouse.env.draw(before)
    assert image.dtype == np.uint8
    assert image.shape == (5 * 54 + 50, 10 * 54 + 20, 3)
    cell = image[40 + 3 * 54 : 40 + 4 * 54, 10 + 3 * 54 : 10 + 4 * 54]
    assert shows(cell, (255, 0, 0)).sum() == shows(image, (255, 0, 0)).sum() > 100
    captioned = warehouse.env.draw(before, "caption")
    np.testing.assert_array_equal(captioned[40:], image[40:])
    assert (captioned[:40] != image[:40]).any()


def test_picture_of_a_field(field):
    images = [field.env.draw(forage(field, eaten=eaten)) for eaten in [(0, 0), (0, 1)]]
    assert images[0].shape == images[1].shape == (6 * 90 + 50, 6 * 90 + 20, 3)
    red = [((image[..., 0] > 150) & (image[..., 1] < 100)).sum() for image in images]
    assert 1.9 < red[0] / red[1] < 2.1  # two apples, then one
    assert shows(images[0], (0, 0, 0)).mean() > 0.8  # on black, or the white agents are not seen


def test_picture_of_a_board(board):
    image = board.env.draw(on_board(board, GRID))
    assert image.shape == (5 * 108 + 50, 5 * 108 + 20, 3)
    pixels = np.argwhere(shows(image, (255, 0, 0))) - [40, 10]
    row, column = (pixels.T * 5.1 / 540 - 0.05).astype(int)  # a rim of 0.05 cells
    # Agent 0 has its head in cell (0, 1), and its target in (0, 3), drawn half as large.
    assert set(zip(row.tolist(), column.tolist(), strict=True)) == {(0, 1), (0, 3)}


def test_pictures_leave_matplotlib_alone(board, monkeypatch):
    import matplotlib
    from matplotlib import pyplot

    monkeypatch.setitem(matplotlib.rcParams, "animation.html", "html5")
    figures = pyplot.get_fignums()
    connector(**BOARD).draw(board.reset(KEY)[0])
    assert matplotlib.rcParams["animation.html"] == "html5"
    assert pyplot.get_fignums() == figures
