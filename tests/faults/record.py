"""A tiny run that is recorded: a copy of its folder before each system call that changes it.

`python record.py SCENARIO FOLDER COPIES`; the folder holds the run as `run`. With the shim in
LD_PRELOAD the copies are its work. Without, Python's own calls are caught here; what orbax writes
by itself, which is only ever in a folder with a temporary name, is then seen in larger steps.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from environments import Scripted
from marsrl.config import Config
from marsrl.runs.monitor import Silent

CONFIG = Config(
    task="passed:Scripted",
    eps=0.2,
    seeds=(3, 5),
    total_steps=5 * 32,
    num_envs=4,
    rollout_length=8,
    chunk_length=4,
    width=8,
    num_minibatches=2,
    update_epochs=2,
    num_evaluations=2,
    eval_episodes=4,
    log_interval=2,
    keep_checkpoints=1,
)
ENV = Scripted(terminates_at=3)
STOPPED = 3
"""The update at which the scenario "stop" is interrupted; not one that is logged or evaluated."""


class Stopper(Silent):
    """Sends this process a signal at an update."""

    def __init__(self, number: int) -> None:
        self._number = number

    def progress(self, step: int, rows: list[dict[str, Any]]) -> None:
        if step == STOPPED * CONFIG.steps_per_update:
            os.kill(os.getpid(), self._number)


def record(watch: Path, copies: Path) -> None:
    """Copies a folder before each call of Python's that changes it, from now on."""
    count, mutex, busy = itertools.count(), threading.Lock(), threading.local()

    def copy() -> None:
        if not getattr(busy, "now", False):
            busy.now = True
            with mutex:
                shutil.copytree(watch, copies / f"{next(count):06d}")
            busy.now = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        changes = (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_CREAT | os.O_TRUNC)
        )
        if changes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            paths = [os.fsdecode(x) for x in args[:2] if isinstance(x, str | bytes | os.PathLike)]
            if any(path.startswith(str(watch)) for path in paths):
                copy()

    def caught(name: str) -> None:
        real = getattr(os, name)

        def call(descriptor: int, *rest: Any) -> Any:
            copy()
            return real(descriptor, *rest)

        setattr(os, name, call)

    for name in ("write", "pwrite", "ftruncate", "fsync"):
        caught(name)
    sys.addaudithook(hook)


def main(scenario: str, folder: Path, copies: Path) -> None:
    from marsrl.errors import Interrupted
    from marsrl.runs import loop, runner

    loop.SECONDS_PER_CALL = 0.0  # one update a call, so that a signal can fall between two rows
    if not os.environ.get("LD_PRELOAD"):
        record(folder, copies)
    try:
        if scenario == "resume":
            runner.resume(folder / "run", env=ENV)
        else:
            stopper = Stopper(signal.SIGTERM) if scenario == "stop" else None
            runner.train(CONFIG, folder / "run", stopper, ENV)
    except Interrupted as stop:
        assert scenario == "stop"
        sys.exit(stop.code)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
