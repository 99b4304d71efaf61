"""The reference teams, the bound, and the tool that measures them."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import roles
import task_bounds
from marsrl.envs import registry
from marsrl.envs.paxmen import PaxMen
from marsrl.envs.paxmen.layout import build_layouts
from marsrl.envs.paxmen.rules import EAT, State
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError
from playing import play, scripted, trained
from references import connector, families, paxmen, rware, spread
from references.graphs import steps_to

UP, DOWN, RIGHT, LEFT = range(4)

# --- shortest paths -------------------------------------------------------------------------------


def test_steps_to_the_nearest_goal():
    # 0 -> 1 -> 2 -> 3 -> 3, a second move that leads back to 0, and 4, which nothing leaves.
    successor = np.array([[1, 2, 3, 3, 4], [0, 0, 0, 0, 4]])
    assert steps_to(successor, np.array([2])).tolist() == [2, 1, 0, 3, np.inf]
    assert steps_to(successor, np.array([1, 3])).tolist() == [1, 0, 1, 0, np.inf]


# --- PaxMen ---------------------------------------------------------------------------------------


def test_one_agent_per_room():
    # Layout 0 has its rooms in the north, south, east and west; (20, 20) is the middle of the hub.
    layouts = build_layouts(4)
    rooms = layouts.rooms[0]
    state = State(
        layout=np.int32(0),
        agent_pos=np.array([[20, 21], [20, 19], [19, 20], [21, 20]]),
        dot_pos=rooms[:, :3].reshape(-1, 2),
        dot_active=np.ones(12, bool),
        step=np.int32(0),
    )

    def batch(state):
        return State(*(np.asarray(leaf)[None] for leaf in state))

    def decide(agent_pos, dot_active):
        now = state._replace(agent_pos=agent_pos, dot_active=dot_active)
        return policy(batch(now))[0].tolist()

    policy = paxmen.script(layouts, batch(state))
    assert decide(state.agent_pos, [True] * 12) == [RIGHT, LEFT, UP, DOWN]
    # Everyone on the first dot of its room; the next one lies to the right of it.
    first = rooms[[2, 3, 0, 1], 0]
    assert decide(first, [True] * 12) == [EAT] * 4
    assert decide(first, [False, True, True] * 4) == [RIGHT] * 4
    # Room 0 is empty: its agent goes to the middle of the room and waits there.
    active = [False] * 3 + [True] * 9
    at_middle = np.array([*first[:2], rooms[0, 7], first[3]])
    assert decide(first, active)[2] in (DOWN, RIGHT)
    assert decide(at_middle, active) == [EAT] * 4


def test_return_of_one_agent_per_room():
    env = PaxMen(4)
    returns = play(env, scripted(partial(paxmen.script, env.layouts)), episodes=8, seed=0).returns
    assert returns.shape == (8,)
    assert 85 < returns.mean() < 98
    assert len(np.unique(returns)) > 4


# --- simple spread --------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0.3, 0.9, 1.6])
def test_drive_asks_for_the_velocity_that_still_brakes_in_time(wanted):
    distance, velocity = 0.0, wanted
    while velocity > 0:
        distance += spread.STEP * velocity
        velocity = max(spread.KEPT * velocity - spread.PUSH, 0.0)
    now = (wanted - 0.25) / spread.KEPT  # half the greatest force leads from here to `wanted`
    offset = np.array([distance + spread.STEP * now, -distance - spread.STEP * now])
    np.testing.assert_allclose(spread.drive(offset, np.array([now, -now])), [0.5, -0.5], rtol=1e-5)


def test_drive_comes_to_rest_at_the_goal():
    place, velocity = np.array([0.0, 1.0, -0.4, 0.05]), np.array([0.0, 1.2, -1.9, 0.3])
    for _ in range(16):
        force = spread.drive(0.7 - place, velocity)
        assert (np.abs(force) <= 1).all()
        place, velocity = (
            place + spread.STEP * velocity,
            spread.KEPT * velocity + spread.PUSH * force,
        )
    np.testing.assert_allclose(place, 0.7, atol=1e-6)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-5)


def test_places_move_apart_only_as_far_as_needed():
    places = np.array([[[0.0, 0.0], [0.1, 0.0], [1.0, 1.0]]])
    moved = spread.move_apart(places)[0]
    np.testing.assert_allclose(moved[:2], [[0.05 - 0.155, 0], [0.05 + 0.155, 0]], atol=1e-6)
    np.testing.assert_allclose(moved[2], [1, 1])


def test_spread_has_the_physics_of_the_library_and_covers_landmarks():
    env = registry.make("mpe/simple_spread_v3-3ag")
    library = env.library
    np.testing.assert_allclose(
        [library.dt, 1 - library.damping, float(library.accel[0]) * library.dt],
        [spread.STEP, spread.KEPT, spread.PUSH],
    )
    assert 2 * float(library.rad[0]) < spread.CLEARANCE
    returns = play(env, scripted(spread.script), episodes=16, seed=0).returns
    assert -8 < returns.mean() < -3  # random: -27


def test_the_same_landmarks_are_further_away_than_the_best():
    env = registry.make("mpe/simple_spread_v3-3ag")

    def played(team):
        returns, seen = play(env, team, 64, seed=0, watch=roles.distances)
        assert len(seen) == env.spec.max_steps + 1
        return returns, seen[0], seen[-1]

    best, same = (
        played(scripted(partial(spread.script, choose=choose)))
        for choose in (spread.best, spread.same)
    )
    np.testing.assert_array_equal(best[1], same[1])
    assert best[0].mean() > same[0].mean() + 1
    least, usual = roles.shares(*best[1:])
    assert least > 0.9 > 0.4 > usual
    least, usual = roles.shares(*same[1:])
    assert least < 0.4 < 0.9 < usual

    def act(carry, time_step, keys):  # counts its steps, and stands still
        assert time_step.obs.shape[:2] == (64, 3)
        return carry + 1, np.full((*keys.shape, 3, 5), 0.5)

    stood = played(trained(SimpleNamespace(initial_carry=np.zeros, act=act)))
    np.testing.assert_array_equal(stood[1], best[1])
    assert stood[0].mean() < same[0].mean() - 5


def test_whose_room_is_whose():
    env = PaxMen(4)
    _, seen = play(
        env, scripted(partial(paxmen.script, env.layouts)), 8, 0, partial(roles.in_rooms, env)
    )
    there = np.array(seen)
    assert there.shape == (101, 8, 4, 4)
    assert not there[0].any()  # all begin in the hub
    assert there[-1].sum() == 8 * 4  # and each ends in one room, which is no other's
    assert (there[-1].sum(1) == 1).all()
    time = np.array([[9, 1, 0, 0], [0, 5, 0, 0], [3, 7, 0, 0], [0, 0, 0, 0]])
    assert roles.rooms_of(time) == ("N 0.90, S 1.00, S 0.70, N 0.00", "EW")
    assert roles.rooms_of(np.eye(4))[1] == "none"


# --- Connector ------------------------------------------------------------------------------------


def test_connector_bound_goes_around_starts_and_targets():
    # a b A . .    From a around the start of b: 4 steps.
    # . . . . .    From b to B: 4 steps.
    # C . . . .    From c around the target of b: 4 steps.
    # B . . . .
    # c . . . .
    cells = {"a": (0, 0), "A": (0, 2), "b": (0, 1), "B": (3, 0), "c": (4, 0), "C": (2, 0)}
    grid = np.zeros((1, 5, 5), np.int32)
    for i, name in enumerate("abc"):
        grid[0][cells[name]], grid[0][cells[name.upper()]] = 3 * i + 2, 3 * i + 3
    position = np.array([[cells[name] for name in "abc"]])
    target = np.array([[cells[name] for name in "ABC"]])
    assert connector.shortest(grid, position, target).tolist() == [[4, 4, 4]]
    start = SimpleNamespace(grid=grid, agents=SimpleNamespace(position=position, target=target))
    np.testing.assert_allclose(connector.bound(start), [3 - 0.03 * 12])


def test_connector_target_out_of_reach():
    grid = np.array([[[2, 5, 3], [6, 0, 0], [0, 0, 0]]], np.int32)
    steps = connector.shortest(grid, np.array([[[0, 0]]]), np.array([[[0, 2]]]))
    assert steps.tolist() == [[np.inf]]


# --- RWARE ----------------------------------------------------------------------------------------


def test_routes_count_turns_and_keep_to_the_cells_allowed():
    # Three by three cells; the middle one can be left but not entered, say.
    anywhere, around = np.ones((3, 3), bool), np.ones((3, 3), bool)
    around[1, 1] = False

    def node(row, column, direction):
        return 4 * (3 * row + column) + direction

    up, right, down, left = range(4)
    forward, turn_left, turn_right, toggle = 1, 2, 3, 4
    goals = np.array([node(1, 2, direction) for direction in range(4)])
    free = rware.route(rware._successors(anywhere, anywhere), goals)
    bound = rware.route(rware._successors(anywhere, around), goals)
    start = node(1, 0, right)
    assert (free.steps[start], free.action[start]) == (2, forward)
    # Around: turn, forward, turn back, forward twice, turn, forward.
    assert bound.steps[start] == 7
    assert bound.action[start] in (turn_left, turn_right)
    assert (bound.steps[node(1, 1, down)], bound.action[node(1, 1, down)]) == (2, turn_left)
    assert (free.steps[node(0, 2, up)], free.steps[node(0, 2, down)]) == (3, 1)
    assert free.action[node(1, 2, left)] == toggle


def test_one_robot_serves_the_warehouse():
    # . . . . . . . . . .    One row of clusters, two cells high, of which the middle one is left
    # . S S . . . . S S .    out for the goals G in the last row.
    # . S S . . . . S S .
    # . . . . . . . . . .
    # . . . . G G . . . .
    env = registry.make(
        "rware/tiny-2ag", num_agents=1, column_height=2, request_queue_size=7, time_limit=90
    )
    assert env.game.grid_size == (5, 10)
    returns = play(env, scripted(partial(rware.script, env.game)), episodes=16, seed=0).returns
    # From a goal to a shelf and back: 5 to 7 cells each way, 2 to 4 turns and a toggle each; only
    # one of the eight shelves is not requested.
    assert (returns >= 90 // 24).all()
    assert (returns <= 1 + 90 // 14).all()


# --- what each family has -------------------------------------------------------------------------


def test_known_references():
    names = [task for task in TASKS if task.startswith("mabrax/")]
    assert sorted(families.PUBLISHED) == sorted(names)
    kind, returns = families.reference("smax/2s3z", episodes=4, seed=0)
    assert (kind, returns.tolist()) == ("bound", [2.0])
    kind, returns = families.reference("lbf/15x15-4p-5f", episodes=4, seed=0)
    assert (kind, returns.tolist()) == ("bound", [1.0])


# --- the tool -------------------------------------------------------------------------------------


def test_summary():
    result = task_bounds.summary(np.array([1.0, 2.0, 3.0]))
    assert (result["mean"], result["episodes"]) == (2.0, 3)
    assert result["stderr"] == pytest.approx(1 / np.sqrt(3))
    assert task_bounds.summary(np.array([7.0])) == {"mean": 7.0, "stderr": 0.0, "episodes": 1}


def test_random_play_and_its_line():
    low = task_bounds.random_play(PaxMen(4), episodes=8, seed=0)
    assert -10 <= low["mean"] < -6
    assert (low["length"], low["episodes"]) == (100.0, 8)
    assert low["steps_per_second"] > 0
    high = {"mean": 91.5, "stderr": 0.25, "episodes": 64, "kind": "scripted"}
    text = task_bounds.line("paxmen/4ag", {"low": low, "high": high})
    assert text.startswith("paxmen/4ag ")
    assert f"{low['mean']:.3f}" in text
    assert "scripted     91.500" in text


def test_mistakes_are_named():
    with pytest.raises(UserError, match="unknown task 'paxmen/4g'; did you mean paxmen/4ag"):
        task_bounds.Args(tasks=("paxmen/4g",))
    with pytest.raises(UserError, match="episodes is 1, expected at least 2"):
        task_bounds.Args(episodes=1)
    with pytest.raises(UserError, match="reference_episodes is 0, expected at least 2"):
        task_bounds.Args(reference_episodes=0)
