"""PaxMen against hand-drawn states, and against a slow second implementation of its rules."""

import itertools
import re
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marsrl.envs.paxmen import PaxMen, State
from marsrl.envs.paxmen.layout import build_layouts
from marsrl.envs.paxmen.rules import draw_dots, ordered_triple
from marsrl.errors import UserError

UP, DOWN, RIGHT, LEFT, EAT = range(5)
TEAMS = [4, 5, 6]
HORIZON = {4: 100, 5: 115, 6: 130}
CENTRE = {4: 20, 5: 21, 6: 22}
WORLD = {4: 101, 5: 140, 6: 187}

# Side, offset from the middle of the hub, length of the corridor.
ARMS = {
    4: [
        [("N", 0, 12), ("S", 0, 4), ("E", 0, 8), ("W", 0, 8)],
        [("N", 0, 4), ("S", 0, 12), ("E", 0, 8), ("W", 0, 8)],
        [("N", 0, 8), ("S", 0, 8), ("E", 0, 12), ("W", 0, 4)],
        [("N", 0, 8), ("S", 0, 8), ("E", 0, 4), ("W", 0, 12)],
    ],
    5: [
        [("N", -2, 12), ("N", 2, 4), ("S", 0, 8), ("E", 0, 8), ("W", 0, 8)],
        [("S", -2, 12), ("S", 2, 4), ("N", 0, 8), ("E", 0, 8), ("W", 0, 8)],
        [("E", -2, 12), ("E", 2, 4), ("N", 0, 8), ("S", 0, 8), ("W", 0, 8)],
        [("W", -2, 12), ("W", 2, 4), ("N", 0, 8), ("S", 0, 8), ("E", 0, 8)],
    ],
    6: [
        [("N", -2, 12), ("N", 2, 8), ("S", -2, 12), ("S", 2, 8), ("E", 0, 4), ("W", 0, 4)],
        [("E", -2, 12), ("E", 2, 8), ("W", -2, 12), ("W", 2, 8), ("N", 0, 4), ("S", 0, 4)],
        [("N", -2, 12), ("N", 2, 8), ("E", -2, 12), ("E", 2, 8), ("S", 0, 4), ("W", 0, 4)],
        [("S", -2, 12), ("S", 2, 8), ("W", -2, 12), ("W", 2, 8), ("N", 0, 4), ("E", 0, 4)],
    ],
}


# --- a second implementation: a full grid and plain loops -----------------------------------------


class SlowMap(NamedTuple):
    """One layout: what is carved, and the rooms' and the world state's cells in order."""

    carved: set
    rooms: list
    order: list


def slow_map(num_agents, layout):
    centre, half = CENTRE[num_agents], num_agents - 3
    span = range(centre - half, centre + half + 1)
    order = [(r, c) for r in span for c in span]
    rooms = []
    for side, offset, length in ARMS[num_agents][layout]:
        line = centre + offset
        # Cells by distance from the hub (1, 2, ...) and place across the arm, then by row, column.
        away = {
            "N": lambda d, x, line=line: (centre - half - d, line + x),
            "S": lambda d, x, line=line: (centre + half + d, line + x),
            "E": lambda d, x, line=line: (line + x, centre + half + d),
            "W": lambda d, x, line=line: (line + x, centre - half - d),
        }[side]
        corridor = sorted(away(d, 0) for d in range(1, length + 1))
        room = sorted(away(length + d, x) for d in range(1, 6) for x in (-1, 0, 1))
        order += corridor + room
        rooms.append(room)
    return SlowMap(set(order), rooms, order)


def slow_grid(num_agents, game, dot_pos, dot_active):
    grid = np.full((2 * CENTRE[num_agents] + 1,) * 2, -1.0)
    for cell in game.carved:
        grid[cell] = 0.0
    for cell, active in zip(dot_pos, dot_active, strict=True):
        if active:
            grid[tuple(cell)] = 1.0
    return grid


def slow_views(num_agents, game, agent_pos, dot_pos, dot_active):
    """Observations and world state."""
    plain = slow_grid(num_agents, game, dot_pos, dot_active)
    obs = []
    for i, (row, column) in enumerate(agent_pos):
        grid = plain.copy()
        for j, other in enumerate(agent_pos):
            if j != i:
                grid[tuple(other)] = 0.1
        window = grid[row - 2 : row + 3, column - 2 : column + 3]
        obs.append(window.reshape(25))
    grid = plain.copy()
    for cell in agent_pos:
        grid[tuple(cell)] = 0.1
    return np.array(obs, np.float32), np.array([grid[c] for c in game.order], np.float32)


def slow_step(game, agent_pos, dot_pos, dot_active, action):
    """New positions, dots left and the team's reward; does not respawn."""
    delta = {UP: (-1, 0), DOWN: (1, 0), RIGHT: (0, 1), LEFT: (0, -1), EAT: (0, 0)}
    moved = []
    for (row, column), a in zip(agent_pos, action, strict=True):
        target = (row + delta[int(a)][0], column + delta[int(a)][1])
        moved.append(target if target in game.carved else (row, column))
    value = [0.0] * len(moved)
    left = list(dot_active)
    for d, cell in enumerate(dot_pos):
        eaters = [i for i, p in enumerate(moved) if action[i] == EAT and tuple(p) == tuple(cell)]
        if dot_active[d] and eaters:
            left[d] = False
            for i in eaters:
                value[i] += 1 / len(eaters)
    return moved, left, sum(v if v > 0 else -0.025 for v in value)


# --- fixtures: everything that compiles, once -----------------------------------------------------


@pytest.fixture(scope="module")
def step():
    """One step of a game of four."""
    env, key = PaxMen(), jax.random.key(3)
    compiled = jax.jit(env.step)

    def run(state, action, key=key):
        return compiled(key, state, jnp.array(action, jnp.int32))

    return run


@pytest.fixture(scope="module")
def reset():
    """64 starts for each team size."""
    keys = jax.random.split(jax.random.key(0), 64)
    return {n: jax.jit(jax.vmap(PaxMen(n).reset))(keys) for n in TEAMS}


@pytest.fixture(scope="module")
def play():
    """Whole episodes of eight games: `(states, actions (T, 8, N)) -> (states, time steps)`."""

    def build(env):
        def run(states, actions):
            def body(states, x):
                action, key = x
                keys = jax.random.split(key, 8)
                states, time_step = jax.vmap(env.step)(keys, states, action)
                return states, (states, time_step)

            keys = jax.random.split(jax.random.key(7), env.spec.max_steps)
            return jax.lax.scan(body, states, (actions, keys))[1]

        return jax.jit(run)

    return {n: build(PaxMen(n)) for n in TEAMS}


# --- hand-drawn states ----------------------------------------------------------------------------
#
# Layout 0 for four agents, not to scale (# wall, . floor, d dot); arms in the order N, S, E, W.
#
#            c19 c20 c21
#       r2    d   .   .            N room: rows 2..6, columns 19..21; corridor: rows 7..18
#       r3    .   .   .
#       r4    .   d   .
#       r5    .   .   .
#       r6    .   .   d
#       r7    #   .   #
#                ...                             c22 ... c29  c30 c31 c32 c33 c34
#       r19   .   .   .                      r19  #  ###  #    d   .   .   .   .
#  W .. r20   .   .   .  .. E                r20  .  ...  .    .   .   d   .   .     E
#       r21   .   .   .                      r21  #  ###  #    .   .   .   .   d
#                ...
#       r25   #   .   #
#       r26   d   .   .            S room: rows 26..30; corridor: rows 22..25
#       r27   .   .   .
#       r28   .   d   .
#       r29   .   .   .            W room: rows 19..21, columns 6..10 as in E; corridor: 11..18
#       r30   .   .   d

DOTS = [
    *[(2, 19), (4, 20), (6, 21)],
    *[(26, 19), (28, 20), (30, 21)],
    *[(19, 30), (20, 32), (21, 34)],
    *[(19, 6), (20, 8), (21, 10)],
]
HUB = [(19, 19), (19, 21), (21, 19), (21, 21)]


def game(agents, active=range(12), step=0, dots=DOTS, layout=0):
    return State(
        layout=jnp.int32(layout),
        agent_pos=jnp.array(agents, jnp.int32),
        dot_pos=jnp.array(dots, jnp.int32),
        dot_active=jnp.isin(jnp.arange(len(dots)), jnp.array(list(active))),
        step=jnp.int32(step),
    )


@pytest.mark.parametrize(
    ("eaters", "reward"),
    [(0, -0.1), (1, 1 - 0.075), (2, 1 - 0.05), (3, 1 - 0.025), (4, 1.0)],
    ids=["nobody", "solo", "two", "three", "four"],
)
def test_eaters_share_one_dot(step, eaters, reward):
    # Everyone stands on the dot at (28, 20); the first `eaters` eat, the others walk away.
    state, time_step = step(game([(28, 20)] * 4), [EAT] * eaters + [UP] * (4 - eaters))
    np.testing.assert_allclose(time_step.reward, [reward] * 4, rtol=1e-6)
    assert bool(state.dot_active[4]) == (eaters == 0)
    assert state.dot_active.sum() == 12 - (eaters > 0)
    assert (state.agent_pos[:eaters] == jnp.array([28, 20])).all()
    assert (state.agent_pos[eaters:] == jnp.array([27, 20])).all()


def test_different_dots_in_one_step(step):
    # (2, 19), (28, 20) and (20, 32) are eaten at once; the fourth agent waits in the hub.
    state, time_step = step(game([(2, 19), (28, 20), (20, 32), (20, 20)]), [EAT, EAT, EAT, UP])
    np.testing.assert_allclose(time_step.reward, [3 - 0.025] * 4, rtol=1e-6)
    assert np.flatnonzero(~state.dot_active).tolist() == [0, 4, 7]


@pytest.mark.parametrize("action", [UP, DOWN, RIGHT, LEFT])
def test_only_the_eat_action_eats(step, action):
    # From (28, 20) every neighbour is floor, and so is the way from there onto (28, 20).
    state, time_step = step(game([(28, 20), *HUB[:3]]), [action, UP, UP, UP])
    assert state.dot_active.all()
    np.testing.assert_allclose(time_step.reward, [-0.1] * 4, rtol=1e-6)


def test_walking_onto_a_dot_leaves_it(step):
    state, time_step = step(game([(27, 20), *HUB[:3]]), [DOWN, UP, UP, UP])
    assert state.agent_pos[0].tolist() == [28, 20]
    assert state.dot_active.all()
    np.testing.assert_allclose(time_step.reward, [-0.1] * 4, rtol=1e-6)


def test_eating_nothing_costs(step):
    _, time_step = step(game(HUB), [EAT] * 4)
    np.testing.assert_allclose(time_step.reward, [-0.1] * 4, rtol=1e-6)


def test_no_reward_twice_for_one_dot(step):
    state, first = step(game([(28, 20), *HUB[:3]]), [EAT, UP, UP, UP])
    state, second = step(state, [EAT, UP, UP, UP])
    np.testing.assert_allclose([first.reward[0], second.reward[0]], [0.925, -0.1], rtol=1e-6)
    assert state.dot_active.sum() == 11


def test_moving_on_after_eating(step):
    state, _ = step(game([(28, 20), *HUB[:3]]), [EAT, UP, UP, UP])
    state, _ = step(state, [RIGHT, UP, UP, UP])
    assert state.agent_pos[0].tolist() == [28, 21]


def test_walls_stop_agents(step):
    # Corners of the hub have walls on two sides; in a corridor there is only along.
    #        c18 c19 c20 c21 c22
    #   r18   #   #   .   #   #
    #   r19   #   0   .   1   #
    #   r20   .   .   .   .   .
    state, _ = step(game([(19, 19), (19, 21), (10, 20), (2, 19)]), [UP, RIGHT, LEFT, UP])
    assert state.agent_pos.tolist() == [[19, 19], [19, 21], [10, 20], [2, 19]]
    state, _ = step(state, [LEFT, UP, RIGHT, LEFT])
    assert state.agent_pos.tolist() == [[19, 19], [19, 21], [10, 20], [2, 19]]
    state, _ = step(state, [RIGHT, DOWN, UP, RIGHT])
    assert state.agent_pos.tolist() == [[19, 20], [20, 21], [9, 20], [2, 20]]


def test_agents_swap_and_share_cells(step):
    #   r20   0   1   .   2   3      0 and 1 swap, 2 and 3 meet nobody's way
    state, _ = step(game([(20, 18), (20, 19), (20, 21), (20, 22)]), [RIGHT, LEFT, LEFT, LEFT])
    assert state.agent_pos.tolist() == [[20, 19], [20, 18], [20, 20], [20, 21]]
    state, _ = step(state, [RIGHT, RIGHT, EAT, LEFT])
    assert state.agent_pos.tolist() == [[20, 20], [20, 19], [20, 20], [20, 20]]


@pytest.mark.parametrize("last", [0, 4, 11])
def test_dots_reappear_in_the_step_that_eats_the_last(step, last):
    agents = [DOTS[last], *HUB[:3]]
    state, time_step = step(game(agents, active=[last]), [EAT, UP, UP, UP])
    np.testing.assert_allclose(time_step.reward, [0.925] * 4, rtol=1e-6)
    assert state.dot_active.all()
    assert (state.dot_pos != jnp.array(DOTS)).any()
    assert_three_dots_in_each_room(4, 0, state.dot_pos)
    # Both views already show the new dots.
    obs, world = slow_views(4, slow_map(4, 0), *map(np.asarray, state[1:4]))
    np.testing.assert_array_equal(time_step.obs, obs)
    np.testing.assert_array_equal(time_step.global_state, world)


def test_dots_do_not_reappear_while_one_is_left(step):
    state, _ = step(game([DOTS[4], *HUB[:3]], active=[4, 9]), [EAT, UP, UP, UP])
    assert np.flatnonzero(state.dot_active).tolist() == [9]
    assert state.dot_pos.tolist() == [list(dot) for dot in DOTS]


def test_respawn_depends_on_the_key_alone(step):
    state = game([DOTS[4], *HUB[:3]], active=[4])
    once, again, other = (
        step(state, [EAT] * 4, key=jax.random.key(k))[0].dot_pos for k in (1, 1, 2)
    )
    assert (once == again).all()
    assert (once != other).any()


def test_truncated_exactly_at_the_horizon(step):
    for before, ends in ((0, False), (98, False), (99, True)):
        state, time_step = step(game(HUB, step=before), [UP] * 4)
        assert state.step == before + 1
        assert bool(time_step.truncated) == ends
        assert not time_step.terminated
        assert bool(time_step.done) == ends


def test_observation_of_the_room_and_of_others(step):
    # Agent 0 steps down to (28, 20), onto the dot; 1 stands at (26, 19) on the dot, 2 at (30, 20),
    # 3 in the hub. The walls left and right of the room close the window.
    #        c18 c19 c20 c21 c22
    #   r26   #   1   .   .   #
    #   r27   #   .   .   .   #
    #   r28   #   .   0d  .   #
    #   r29   #   .   .   .   #
    #   r30   #   .   2   d   #
    _, time_step = step(game([(27, 20), (26, 19), (30, 20), (20, 20)]), [DOWN, EAT, DOWN, EAT])
    # Agent 1 ate the dot it stood on: it is hidden to 0 by the agent in any case.
    expected = [
        [-1, 0.1, 0, 0, -1],
        [-1, 0, 0, 0, -1],
        [-1, 0, 1, 0, -1],
        [-1, 0, 0, 0, -1],
        [-1, 0, 0.1, 1, -1],
    ]
    np.testing.assert_array_equal(time_step.obs[0].reshape(5, 5), np.float32(expected))
    # Seen by 2, from (30, 20): below the room is wall.
    expected = [
        [-1, 0, 0.1, 0, -1],
        [-1, 0, 0, 0, -1],
        [-1, 0, 0, 1, -1],
        [-1, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1],
    ]
    np.testing.assert_array_equal(time_step.obs[2].reshape(5, 5), np.float32(expected))


def test_an_eaten_dot_leaves_both_views(step):
    alone = [(28, 20), *HUB[:3]]
    _, before = step(game(alone), [LEFT, UP, UP, UP])  # seen from (28, 19)
    _, after = step(game(alone, active=[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]), [LEFT, UP, UP, UP])
    assert (before.obs[0][13], after.obs[0][13]) == (1, 0)
    room = 9 + 12 + 15 + 4  # hub, N corridor and room, S corridor
    assert (before.global_state[room + 7], after.global_state[room + 7]) == (1, 0)


def test_an_agent_hides_the_dot_in_a_shared_cell(step):
    _, time_step = step(game([(28, 20), (28, 20), (20, 20), (20, 20)]), [UP, EAT, EAT, EAT])
    assert time_step.obs[1][12] == 0  # it ate the dot itself and is not drawn
    state = game([(27, 20), (27, 20), (20, 20), (20, 20)])
    _, time_step = step(state, [DOWN, DOWN, EAT, EAT])
    # Both stand on an active dot: each sees the other, neither the dot, nor does the world state.
    np.testing.assert_allclose(time_step.obs[:, 12], [0.1] * 4)
    np.testing.assert_allclose(time_step.global_state[9 + 12 + 15 + 4 + 7], 0.1)
    _, time_step = step(state, [DOWN, UP, EAT, EAT])
    assert time_step.obs[0][12] == 1  # alone on the dot it sees it
    assert time_step.obs[1][22] == np.float32(0.1)  # the other, two rows up, does not


def test_world_state_size_values_and_counts(step):
    _, time_step = step(game(HUB), [EAT] * 4)
    world = np.asarray(time_step.global_state)
    assert world.shape == (101,)
    values, counts = np.unique(world, return_counts=True)
    np.testing.assert_array_equal(values, np.float32([0, 0.1, 1]))
    assert counts.tolist() == [101 - 16, 4, 12]


@pytest.mark.parametrize(
    ("num_agents", "layout", "cell", "index"),
    [
        # N=4, layout 0: hub 0-8; N 9-20, 21-35; S 36-39, 40-54; E 55-62, 63-77; W 78-85, 86-100.
        (4, 0, (19, 19), 0),
        (4, 0, (20, 19), 3),
        (4, 0, (7, 20), 9),
        (4, 0, (18, 20), 20),
        (4, 0, (2, 19), 21),
        (4, 0, (3, 20), 25),
        (4, 0, (22, 20), 36),
        (4, 0, (22 + 4, 19), 40),
        (4, 0, (20, 22), 55),
        (4, 0, (19, 30), 63),
        (4, 0, (20, 32), 70),
        (4, 0, (20, 11), 78),
        (4, 0, (20, 18), 85),
        (4, 0, (21, 10), 100),
        # N=5, layout 1: hub 25; S at column 19: 12 + 15; S at column 23: 4 + 15; then N, E, W.
        (5, 1, (24, 19), 25),
        (5, 1, (36, 18), 37),
        (5, 1, (24, 23), 52),
        (5, 1, (11, 21), 71),
        # N=6, layout 2: hub 49; N at 20: 12 + 15; N at 24: 8 + 15; E at row 20: 12 + 15, ...
        (6, 2, (7, 20), 49),
        (6, 2, (11, 24), 76),
        (6, 2, (20, 26), 99),
        (6, 2, (24, 26), 126),
        (6, 2, (26, 22), 149),
        (6, 2, (22, 15), 168),
        (6, 2, (23, 14), 186),
    ],
)
def test_declared_order_of_the_world_state(num_agents, layout, cell, index):
    layouts = build_layouts(num_agents)
    assert tuple(layouts.cells[layout, index]) == cell
    assert layouts.world_index[layout][cell] == index


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_agents", TEAMS)
def test_layouts(num_agents):
    layouts = build_layouts(num_agents)
    side = 2 * CENTRE[num_agents] + 1
    assert layouts.wall_bits.shape == (4, side, side)
    assert [[tuple(arm) for arm in arms] for arms in layouts.arms] == ARMS[num_agents]
    for layout, arms in enumerate(ARMS[num_agents]):
        assert sum(length for _, _, length in arms) == 8 * num_agents
        expected = slow_map(num_agents, layout)
        assert [tuple(c) for c in layouts.cells[layout].tolist()] == expected.order
        assert [[tuple(c) for c in r.tolist()] for r in layouts.rooms[layout]] == expected.rooms
        assert len(expected.carved) == WORLD[num_agents]
        assert reachable(expected.carved) == expected.carved
    maps = [frozenset(slow_map(num_agents, layout).carved) for layout in range(4)]
    assert len(set(maps)) == 4


def reachable(carved):
    found, frontier = set(), [min(carved)]
    while frontier:
        row, column = frontier.pop()
        if (row, column) in carved and (row, column) not in found:
            found.add((row, column))
            frontier += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return found


@pytest.mark.parametrize(
    ("num_agents", "message"),
    [
        (3, "is 3, expected 4 to 6; nearest: 4"),
        (7, "is 7, expected 4 to 6; nearest: 6"),
        (0, "is 0, expected 4 to 6; nearest: 4"),
        (4.0, "is 4.0, expected a whole number, 4 to 6; nearest: 4"),
        ("x", "is 'x', expected a whole number, 4 to 6"),
        ([4], "is [4], expected a whole number, 4 to 6"),
    ],
)
def test_unsupported_number_of_agents(num_agents, message):
    with pytest.raises(UserError, match=re.escape(f"num_agents {message}")):
        PaxMen(num_agents)


# --- starts ---------------------------------------------------------------------------------------


def assert_three_dots_in_each_room(num_agents, layout, dot_pos):
    rooms = slow_map(num_agents, layout).rooms
    dots = [tuple(dot) for dot in np.asarray(dot_pos).tolist()]
    assert len(set(dots)) == 3 * num_agents
    for room, three in zip(rooms, zip(*[iter(dots)] * 3, strict=True), strict=True):
        assert set(three) <= set(room)


@pytest.mark.parametrize("num_agents", TEAMS)
def test_start(reset, num_agents):
    states, time_steps = jax.tree.map(np.asarray, reset[num_agents])
    start = 19 + np.arange(2 * num_agents - 5)
    assert np.isin(states.agent_pos, start).all()
    assert np.unique(states.agent_pos.reshape(-1, 2), axis=0).shape[0] == start.size**2
    for i in range(64):
        assert len(np.unique(states.agent_pos[i], axis=0)) == num_agents
        assert_three_dots_in_each_room(num_agents, states.layout[i], states.dot_pos[i])
        level = slow_map(num_agents, int(states.layout[i]))
        obs, world = slow_views(num_agents, level, *(leaf[i] for leaf in states[1:4]))
        np.testing.assert_array_equal(time_steps.obs[i], obs)
        np.testing.assert_array_equal(time_steps.global_state[i], world)
    assert states.dot_active.all()
    assert not states.step.any()
    assert not time_steps.reward.any()
    assert not time_steps.done.any()


def test_layouts_are_uniform_at_reset():
    keys = jax.random.split(jax.random.key(5), 4000)
    layout = jax.jit(jax.vmap(lambda key: PaxMen().reset(key)[0].layout))(keys)
    counts = np.bincount(layout, minlength=4)
    assert counts.shape == (4,)
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_dot_cells_are_uniform_and_independent_between_rooms():
    def draw(key):
        return draw_dots(build_layouts(4), key, jnp.int32(0))

    dots = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(6), 6000)))
    place = build_layouts(4).world_index[0][dots[..., 0], dots[..., 1]]
    place = place - place.min(0)  # cell 0..14 of each dot's room
    for slot in range(12):
        counts = np.bincount(place[:, slot], minlength=15)
        assert np.abs(counts - 400).max() < 5 * np.sqrt(6000 / 15 * 14 / 15)
    correlation = np.corrcoef(place[:, ::3].T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(6000)


def test_every_ordered_triple_of_cells_has_one_number():
    triples = np.asarray(ordered_triple(jnp.arange(15 * 14 * 13)))
    assert set(map(tuple, triples.tolist())) == set(itertools.permutations(range(15), 3))


# --- whole episodes -------------------------------------------------------------------------------


def crowded(states):
    """Every agent on a dot and few dots left, so that random play eats and respawns."""
    agent_pos = np.array(states.dot_pos)[:, ::3]
    dot_active = np.zeros(states.dot_active.shape, bool)
    dot_active[:, ::9] = True
    return states._replace(agent_pos=jnp.array(agent_pos), dot_active=jnp.array(dot_active))


def starts(num_agents, reset):
    """Eight games: each layout once from the start, once crowded."""
    layout = np.asarray(reset[num_agents][0].layout)
    first = [int(np.flatnonzero(layout == i)[0]) for i in range(4)]
    states = jax.tree.map(lambda leaf: leaf[jnp.array(first)], reset[num_agents][0])
    both = (states, crowded(states))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *both)


@pytest.mark.parametrize("num_agents", TEAMS)
def test_random_play_equals_the_slow_implementation(reset, play, num_agents):
    horizon = HORIZON[num_agents]
    rng = np.random.default_rng(num_agents)
    first = starts(num_agents, reset)
    weights = [0.15, 0.15, 0.15, 0.15, 0.4]
    action = rng.choice(5, (horizon, 8, num_agents), p=weights).astype(np.int32)
    states, steps = jax.tree.map(np.asarray, play[num_agents](first, jnp.array(action)))
    eaten = respawned = 0
    for i in range(8):
        layout = int(first.layout[i])
        level = slow_map(num_agents, layout)
        before = [np.asarray(leaf[i]) for leaf in first]
        for t in range(horizon):
            now = [leaf[t, i] for leaf in states]
            pos, active, reward = slow_step(level, *before[1:4], action[t, i])
            dots = before[2]
            eaten += int(np.sum(before[3])) - int(np.sum(active))
            if not any(active):
                respawned += 1
                active = [True] * len(active)
                assert_three_dots_in_each_room(num_agents, layout, now[2])
                dots = now[2]
            obs, world = slow_views(num_agents, level, pos, dots, active)
            assert now[0] == layout
            np.testing.assert_array_equal(now[1], pos)
            np.testing.assert_array_equal(now[2], dots)
            np.testing.assert_array_equal(now[3], active)
            assert now[4] == t + 1
            np.testing.assert_array_equal(steps.obs[t, i], obs)
            np.testing.assert_array_equal(steps.global_state[t, i], world)
            np.testing.assert_allclose(steps.reward[t, i], [reward] * num_agents, atol=1e-6)
            assert steps.truncated[t, i] == (t == horizon - 1)
            assert not steps.terminated[t, i]
            before = now
    assert eaten > 20
    assert respawned >= 3  # or the loop above has not seen what it is for


@pytest.mark.parametrize(("num_agents", "expected"), [(4, -10.0), (5, -14.375), (6, -19.5)])
def test_return_of_never_eating(reset, play, num_agents, expected):
    action = jnp.zeros((HORIZON[num_agents], 8, num_agents), jnp.int32)
    _, steps = play[num_agents](starts(num_agents, reset), action)
    np.testing.assert_allclose(steps.reward.sum(0), expected, rtol=1e-5)
    assert steps.truncated.sum(0).tolist() == [1] * 8


# --- the interface --------------------------------------------------------------------------------


@pytest.mark.parametrize("num_agents", TEAMS)
def test_spec_and_types(num_agents):
    env = PaxMen(num_agents)
    spec = env.spec
    assert (spec.num_agents, spec.obs_shape) == (num_agents, (25,))
    assert (spec.state_shape, spec.max_steps) == ((WORLD[num_agents],), HORIZON[num_agents])
    assert (spec.action.size, spec.shared_reward, spec.metrics) == (5, True, ())

    def both(key):
        state, first = env.reset(key)
        return (state, first), env.step(key, state, jnp.zeros(num_agents, jnp.int32))

    with jax.numpy_dtype_promotion("strict"):
        start, after = jax.eval_shape(both, jax.random.key(0))
    with jax.enable_x64(True):
        wide, _ = jax.eval_shape(both, jax.random.key(0))
    state, time_step = start
    assert start == after == wide
    assert State._fields == ("layout", "agent_pos", "dot_pos", "dot_active", "step")
    assert [(leaf.shape, leaf.dtype.name) for leaf in state] == [
        ((), "int32"),
        ((num_agents, 2), "int32"),
        ((3 * num_agents, 2), "int32"),
        ((3 * num_agents,), "bool"),
        ((), "int32"),
    ]
    assert [(leaf.shape, leaf.dtype.name) for leaf in time_step[:-1]] == [
        ((num_agents, 25), "float32"),
        ((WORLD[num_agents],), "float32"),
        ((num_agents, 5), "bool"),
        ((num_agents,), "bool"),
        ((num_agents,), "float32"),
        ((), "bool"),
        ((), "bool"),
    ]
    assert time_step.metrics == {}


def test_masks_are_all_true(step):
    _, time_step = step(game(HUB), [UP] * 4)
    assert time_step.action_mask.all()
    assert time_step.agent_mask.all()


def test_reset_depends_on_the_key_alone(reset):
    keys = jax.random.split(jax.random.key(0), 64)
    single = jax.jit(PaxMen().reset)
    once, again = single(keys[9]), single(keys[9])
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), once, again)))
    batched = jax.tree.map(lambda leaf: leaf[9], reset[4])
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), once, batched)))
    starts = np.asarray(reset[4][0].dot_pos).reshape(64, -1)
    assert len(np.unique(starts, axis=0)) == 64


def test_jit_equals_eager_and_vmap(step):
    state, action = game([DOTS[4], *HUB[:3]], active=[4]), [EAT, UP, DOWN, LEFT]
    jitted = step(state, action, key=jax.random.key(11))
    eager = PaxMen().step(jax.random.key(11), state, jnp.array(action, jnp.int32))
    jax.tree.map(np.testing.assert_array_equal, jitted, eager)


# --- pictures and imports -------------------------------------------------------------------------


def test_picture_shows_active_dots_agents_and_walls():
    from marsrl.envs.paxmen.draw import AGENT_COLOURS, INK, ROOM, WALL

    # Agents 0 to 2 share (20, 20); of the dots only that at (30, 21) is not eaten.
    image = PaxMen().draw(game([(20, 20), (20, 20), (20, 20), (19, 19)], active=[5]), "caption")
    assert image.dtype == np.uint8
    assert image.shape == (41 * 12 + 24, 41 * 12, 3)

    def cell(row, column):
        return image[24 + 12 * row : 36 + 12 * row, 12 * column : 12 * column + 12]

    def shows(row, column, colour):
        return (cell(row, column) == np.array(colour)).all(-1).any()

    assert shows(30, 21, INK)
    assert not shows(26, 19, INK)
    assert shows(26, 19, ROOM)
    assert shows(22, 19, WALL)
    assert [shows(20, 20, colour) for colour in AGENT_COLOURS[:6]] == [True] * 3 + [False] * 3
    assert shows(19, 19, AGENT_COLOURS[3])
    blank = PaxMen().draw(game(HUB))
    assert (image[:24, 250:] != blank[:24, 250:]).any()  # the caption


def test_import_is_light_and_starts_no_backend():
    code = (
        "import sys\n"
        "from marsrl.envs.paxmen import PaxMen\n"
        "PaxMen(6).spec\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()\n"
        "loaded = {'jaxmarl', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "import marsrl.envs.paxmen.draw\n"
        "assert not {'jaxmarl', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
