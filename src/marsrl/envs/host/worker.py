"""A process that plays some of the environments of a crew; needs no JAX.

It reads its orders, then one byte for each command, and answers with a byte. When the one who
commands it is gone, for whatever reason, it reads the end of the pipe, and ends too.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

import numpy as np

from marsrl.envs.host.game import Game
from marsrl.envs.host.layout import Layout, Parts
from marsrl.envs.host.memory import STARTS, arrays
from marsrl.envs.host.source import Source
from marsrl.envs.limits import LONGEST_STAGGER
from marsrl.errors import UserError, raised

DONE, FAILED = b".", b"!"
RESET, STEP, STEP_AND_RESTART, PLAY_ON = b"r", b"s", b"a", b"p"


class Orders(NamedTuple):
    """What a worker must know.

    Attributes:
        source: of its environments.
        layout: theirs.
        rows: which of the crew's they are.
        file: descriptor of the shared memory.
        parts: what lies there.
    """

    source: Source
    layout: Layout
    rows: range
    file: int
    parts: Parts


class Worker:
    """Some environments of a crew, and the commands for them."""

    def __init__(self, orders: Orders) -> None:
        self.layout = orders.layout
        self.shared = arrays(orders.file, orders.parts)
        # some environments draw from the generators of all: the same numbers in every run
        random.seed(orders.rows.start)
        np.random.seed(orders.rows.start)  # noqa: NPY002 (it is theirs)
        self.games, self.now, self.start = {}, {}, {}
        for row in orders.rows:
            env = orders.source.open()
            self.games[row] = Game(orders.source.task, env, orders.layout)
            self.now[row] = {
                name: x[row] if x[row].ndim else x[row : row + 1] for name, x in self.shared.items()
            }
            self.start[row] = (
                self.now[row]
                | {name: self.now[row][f"start/{name}"] for name in STARTS if name in self.now[row]}
                | {name: np.zeros_like(self.now[row][name]) for name in _NOT_OF_STARTS}
            )
        self.commands: dict[bytes, Callable[[int], object]] = {
            RESET: self.reset,
            STEP: self.step,
            STEP_AND_RESTART: self.step_and_restart,
            PLAY_ON: self.play_on,
        }

    def obey(self, command: bytes) -> None:
        """Does what is asked in each environment that it is asked of."""
        do, go = self.commands[command], self.shared["go"]
        for row in self.games:
            if go[row]:
                do(row)

    def reset(self, row: int) -> None:
        """A fresh start."""
        self.games[row].reset(int(self.shared["seed"][row]), self.now[row])
        self.shared["length"][row] = 0

    def step(self, row: int) -> bool:
        """One step; whether the episode has ended."""
        self.shared["length"][row] += 1
        return self.games[row].step(self.shared["action"][row], self.now[row])

    def step_and_restart(self, row: int) -> None:
        """One step, and after an ending the fresh start beside it."""
        if self.step(row):
            self.games[row].reset(int(self.shared["seed"][row]), self.start[row])

    def play_on(self, row: int) -> None:
        """Random steps from a start to a random point of an episode; see `VectorEnv.stagger`."""
        rng = np.random.default_rng(int(self.shared["seed"][row]))
        game, now, length = self.games[row], self.now[row], self.shared["length"]
        target = rng.integers(min(self.layout.max_steps, LONGEST_STAGGER))
        while length[row] < target:
            length[row] += 1
            if game.step(game.random_action(rng, now["action_mask"]), now):
                target = rng.integers(length[row])
                game.reset(int(rng.integers(2**31)), now)
                length[row] = 0
        now["reward"][...] = 0.0


_NOT_OF_STARTS = ("reward", "terminated", "truncated")


def main() -> None:
    """Works until nobody commands any more."""
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    # what environments read and print must not meet the commands
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.path[:], orders = pickle.load(commands)
    try:
        worker = Worker(Orders(*pickle.loads(orders)))
        replies.write(DONE)
        while command := commands.read(1):
            worker.obey(command)
            replies.write(DONE)
    except BrokenPipeError:
        return
    except BaseException as error:
        _report(replies, error)


def _report(replies: BinaryIO, error: BaseException) -> None:
    """Tells what went wrong: whether it is told by ourselves, and the line for the user."""
    ours = isinstance(error, UserError)
    replies.write(FAILED + pickle.dumps((ours, str(error) if ours else raised(error))))
