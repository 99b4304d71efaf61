"""Copies of a foreign environment in processes of their own; needs no JAX."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import weakref
from typing import IO, NamedTuple

import numpy as np

from marsrl.envs.host.layout import Layout
from marsrl.envs.host.memory import arrays, new_file, parts
from marsrl.envs.host.source import Source
from marsrl.envs.host.worker import (
    DONE,
    FAILED,
    PLAY_ON,
    RESET,
    STEP,
    STEP_AND_RESTART,
    Orders,
)
from marsrl.errors import UserError, check_int, keep_traceback
from marsrl.system import num_cores

VARIABLE = "MARSRL_WORKERS"
"""Environment variable: how many processes step the environments; by default as many as cores."""
_PATIENCE = 5.0  # seconds for a process to end by itself
_QUIET = {
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_VIDEODRIVER": "dummy",  # no windows
    "OMP_NUM_THREADS": "1",  # the processes are the threads
    "OPENBLAS_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",  # an environment's own JAX must not take the learner's GPU
}


class _Process(NamedTuple):
    process: subprocess.Popen[bytes]
    commands: IO[bytes]
    replies: IO[bytes]
    errors: IO[bytes]
    rows: slice


class Crew:
    """Environments that are played together, each by one of several processes.

    The processes are started anew and never forked, since JAX's threads do not survive that. They
    share memory with this one; a byte through a pipe says what to do. They end with this object, or
    with its process, however that ends.

    Attributes:
        shared: what passes between here and there, see `memory.parts`.
    """

    def __init__(self, source: Source, layout: Layout, num_envs: int) -> None:
        """Starts the processes and makes the environments.

        Raises:
            UserError: one of them fails.
        """
        self.source = source
        self.num_envs = num_envs
        described = parts(layout, num_envs)
        file = new_file()
        try:
            self.shared = arrays(file, described)
            self._processes: list[_Process] = []
            self._end = weakref.finalize(self, _end, self._processes)
            num = min(num_workers(), num_envs)
            edges = np.linspace(0, num_envs, num + 1).round().astype(int).tolist()
            for first, last in itertools.pairwise(edges):
                orders = Orders(source, layout, range(first, last), file, described)
                self._processes.append(_start(orders))
        finally:
            os.close(file)
        self._wait(self._processes)

    def reset(self, seed: np.ndarray) -> None:
        """A fresh start of every environment; seeds (E,)."""
        self.shared["go"][:] = True
        self.shared["seed"][:] = seed
        self._command(RESET)

    def step(self, go: np.ndarray, action: np.ndarray, seed: np.ndarray | None = None) -> None:
        """Moves some environments one step on, (E,) bool; with seeds (E,), restarts what ended."""
        self.shared["go"][:] = go
        self.shared["action"][:] = action
        if seed is not None:
            self.shared["seed"][:] = seed
        self._command(STEP if seed is None else STEP_AND_RESTART)

    def play_on(self, seed: np.ndarray) -> None:
        """Random steps of every environment; see `VectorEnv.stagger`."""
        self.shared["go"][:] = True
        self.shared["seed"][:] = seed
        self._command(PLAY_ON)

    def close(self) -> None:
        """Ends the processes."""
        self._end()

    def _command(self, command: bytes) -> None:
        go = self.shared["go"]
        asked = [process for process in self._processes if go[process.rows].any()]
        for process in asked:
            with contextlib.suppress(OSError):  # it has died; its reply says so
                process.commands.write(command)
        self._wait(asked)

    def _wait(self, processes: list[_Process]) -> None:
        replies = [process.replies.read(1) for process in processes]  # of all, then the faults
        for process, reply in zip(processes, replies, strict=True):
            if reply != DONE:
                raise self._failure(process, reply)

    def _failure(self, process: _Process, reply: bytes) -> UserError:
        """What a process says of its end, or what can be seen of it."""
        if reply == FAILED:
            ours, what = pickle.loads(process.replies.read())
            return UserError(what if ours else f"{self.source.task} {what}")
        code = process.process.wait()
        process.errors.seek(0)
        text = process.errors.read().decode(errors="replace")
        told = f"; {keep_traceback(text)}" if text else ""
        return UserError(f"{self.source.task}: its process ended with exit code {code}{told}")


def num_workers() -> int:
    """How many processes step the environments of a crew."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return num_cores()
    number = int(asked) if asked.isdecimal() else asked
    check_int(VARIABLE, number, 1, most=1024)
    return int(number)


def _start(orders: Orders) -> _Process:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (it is the process's)
    path = os.pathsep.join(path or os.curdir for path in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "from marsrl.envs.host.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=os.environ | _QUIET | {"PYTHONPATH": path},
        pass_fds=(orders.file,),
        bufsize=0,
        start_new_session=True,  # Ctrl-C is for the training, which then ends in order
    )
    assert process.stdin is not None
    assert process.stdout is not None
    rows = slice(orders.rows.start, orders.rows.stop)
    # the path first: what the orders are made of may lie on it
    process.stdin.write(pickle.dumps((sys.path, pickle.dumps(tuple(orders)))))
    return _Process(process, process.stdin, process.stdout, errors, rows)


def _end(processes: list[_Process]) -> None:
    """Lets the processes read the end of their pipes, and ends those that do not."""
    for process in processes:
        process.commands.close()
    for process in processes:
        try:
            process.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.process.kill()
            process.process.wait()
        process.replies.close()
        process.errors.close()
    processes.clear()
