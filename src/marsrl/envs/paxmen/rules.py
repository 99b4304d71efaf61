"""The rules of PaxMen as pure functions of arrays.

Positions are (..., 2) int32, row and column. The 5x5 window of an agent is handled as 25 bits of
one integer and the world state as a few such words: no step touches a grid.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.paxmen.layout import DOTS_PER_ROOM, NUM_LAYOUTS, ROOM_SIZE, VIEW, WINDOW, Layouts
from marsrl.types import Array, Key

EAT = 4
MOVES = np.array([[-1, 0], [1, 0], [0, 1], [0, -1], [0, 0]], np.int32)
"""Row and column change of each action: up, down, right, left, eat."""
AGENT = 0.1
DOT = 1.0
WALL = -1.0
PENALTY = 0.025
"""What an agent that eats nothing costs the team in each step."""

_WORD = 32


class State(NamedTuple):
    """One game.

    Attributes:
        layout: () int32, which of the four layouts.
        agent_pos: (N, 2) int32, row and column.
        dot_pos: (3N, 2) int32, three in each room, in arm order.
        dot_active: (3N,) bool, False once eaten.
        step: () int32, steps taken in this episode.
    """

    layout: Array
    agent_pos: Array
    dot_pos: Array
    dot_active: Array
    step: Array


def initial_state(layouts: Layouts, key: Key) -> State:
    """Draws a layout, distinct hub cells for the agents and three dots in each room."""
    layout_key, agent_key, dot_key = jax.random.split(key, 3)
    layout = jax.random.randint(layout_key, (), 0, NUM_LAYOUTS, jnp.int32)
    # The places of the N highest of random numbers: distinct, and cheaper than a permutation.
    lots = jax.random.uniform(agent_key, (len(layouts.hub),), jnp.float32)
    agent_pos = jnp.asarray(layouts.hub)[jax.lax.top_k(lots, layouts.num_agents)[1]]
    return State(
        layout=layout,
        agent_pos=agent_pos,
        dot_pos=draw_dots(layouts, dot_key, layout),
        dot_active=jnp.ones(layouts.num_agents * DOTS_PER_ROOM, bool),
        step=jnp.zeros((), jnp.int32),
    )


def transition(layouts: Layouts, key: Key, state: State, action: Array) -> tuple[State, Array]:
    """Moves, eats and respawns; returns the next state and the team's reward, () float32."""
    agent_pos = move(layouts, state.layout, state.agent_pos, action)
    dot_active, reward = eat(agent_pos, state.dot_pos, state.dot_active, action)
    empty = ~dot_active.any()
    dot_pos = jnp.where(empty, draw_dots(layouts, key, state.layout), state.dot_pos)
    return State(state.layout, agent_pos, dot_pos, dot_active | empty, state.step + 1), reward


def move(layouts: Layouts, layout: Array, agent_pos: Array, action: Array) -> Array:
    """Moves every agent at once, to (N, 2); walls block, agents do not."""
    delta = jnp.asarray(MOVES)[action]
    target_bit = (delta[:, 0] + VIEW) * WINDOW + delta[:, 1] + VIEW
    blocked = (_lookup(layouts.wall_bits, layout, agent_pos) >> target_bit) & 1
    return agent_pos + jnp.where(blocked[:, None] == 1, 0, delta)


def eat(agent_pos: Array, dot_pos: Array, dot_active: Array, action: Array) -> tuple[Array, Array]:
    """Removes the dots under agents that eat.

    `k` agents on one dot get `1 / k` each and every other agent `-0.025`; the team's reward, which
    all of them receive, is the sum: `dots eaten - 0.025 * (N - eaters)`.

    Returns:
        The dots left, (3N,) bool, and the team's reward, () float32.
    """
    same_cell = (agent_pos[:, None] == dot_pos[None]).all(-1)
    bites = same_cell & dot_active[None] & (action == EAT)[:, None]
    eaten = bites.any(0)
    idle = ~bites.any(1)
    return dot_active & ~eaten, eaten.sum(dtype=jnp.float32) - PENALTY * idle.sum(dtype=jnp.float32)


def draw_dots(layouts: Layouts, key: Key, layout: Array) -> Array:
    """Draws three distinct cells in every room, uniformly: (3N, 2) int32 in arm order."""
    choices = ROOM_SIZE * (ROOM_SIZE - 1) * (ROOM_SIZE - 2)
    # 32 random bits modulo 2730 favour no triple by more than one part in a million.
    draw = jax.random.bits(key, (layouts.num_agents,), jnp.uint32) % choices
    cell = ordered_triple(draw.astype(jnp.int32))
    room = np.arange(layouts.num_agents)[:, None]
    return jnp.asarray(layouts.rooms)[layout, room, cell].reshape(-1, 2)


def ordered_triple(draw: Array) -> Array:
    """Maps (...) int32 in `[0, 15 * 14 * 13)` one to one on three distinct cells, (..., 3)."""
    first = draw % ROOM_SIZE
    second = _skip(draw // ROOM_SIZE % (ROOM_SIZE - 1), first)
    third = draw // (ROOM_SIZE * (ROOM_SIZE - 1))
    third = _skip(_skip(third, jnp.minimum(first, second)), jnp.maximum(first, second))
    return jnp.stack([first, second, third], -1)


def observe(layouts: Layouts, state: State) -> Array:
    """Shows every agent the 5x5 window around it, row by row: (N, 25) float32.

    Wall -1, floor 0, dot 1; another agent is 0.1 and hides what it stands on, also in the
    observer's own cell. The observer itself is not drawn.
    """
    dots = _window_index(state.agent_pos, state.dot_pos)
    dots = jnp.where(state.dot_active[None], dots, -1)
    agents = _window_index(state.agent_pos, state.agent_pos)
    agents = jnp.where(np.eye(layouts.num_agents, dtype=bool), -1, agents)
    walls = _unpack(_lookup(layouts.wall_bits, state.layout, state.agent_pos)[:, None], WINDOW**2)
    return _paint(jnp.where(walls, jnp.float32(WALL), 0.0), dots, agents)


def world_state(layouts: Layouts, state: State) -> Array:
    """Lists every carved cell in the order of `Layouts.cells`: (H*H + 23N,) float32.

    Floor 0, dot 1; an agent is 0.1 and hides what it stands on.
    """
    dots = _lookup(layouts.world_index, state.layout, state.dot_pos)
    dots = jnp.where(state.dot_active, dots, -1)
    agents = _lookup(layouts.world_index, state.layout, state.agent_pos)
    return _paint(jnp.zeros(layouts.world_size, jnp.float32), dots, agents)


def _skip(number: Array, taken: Array) -> Array:
    """Counts past `taken`, which leaves that number out."""
    return jnp.where(number >= taken, number + 1, number)


def _lookup(table: np.ndarray, layout: Array, pos: Array) -> Array:
    """Reads `table` (4, G, G) at positions (..., 2)."""
    return jnp.asarray(table)[layout, pos[..., 0], pos[..., 1]]


def _window_index(observer: Array, pos: Array) -> Array:
    """Places positions (M, 2) in the windows of observers (N, 2): (N, M), -1 if out of sight."""
    offset = pos[None] - observer[:, None] + VIEW
    visible = ((offset >= 0) & (offset < WINDOW)).all(-1)
    return jnp.where(visible, offset[..., 0] * WINDOW + offset[..., 1], -1)


def _paint(ground: Array, dots: Array, agents: Array) -> Array:
    """Draws dots, then agents, on `ground` (..., size) at the listed indices (..., M)."""
    size = ground.shape[-1]
    drawn = jnp.where(_occupied(dots, size), DOT, ground)
    return jnp.where(_occupied(agents, size), AGENT, drawn)


def _occupied(index: Array, size: int) -> Array:
    """Marks the listed indices (..., M) in (..., size) bool; negative ones are nowhere.

    Same as `(index[..., None] == arange(size)).any(-2)`, with 32 comparisons in one.
    """
    word = jnp.arange(-(-size // _WORD), dtype=jnp.int32)[:, None]
    index = index[..., None, :]
    bits = jnp.where(index // _WORD == word, 1 << (index % _WORD), 0)
    return _unpack(jax.lax.reduce_or(bits, (bits.ndim - 1,)), size)


def _unpack(words: Array, size: int) -> Array:
    """Spreads the bits of (..., words) int32 into (..., size) bool."""
    bits = (words[..., None] >> jnp.arange(_WORD, dtype=jnp.int32)) & 1
    return bits.reshape(*words.shape[:-1], -1)[..., :size] == 1
