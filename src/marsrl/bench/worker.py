"""The process of a batch of jobs: `python -m marsrl.bench.worker CONFIG_JSON RUN_FOLDER ...`.

With a single configuration and no folder it tries a few updates and prints what the whole training
would take. Started by `marsrl.bench.launch`; nothing else needs to know that it exists.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsrl.bench.process import OTHERS_TRAIN
from marsrl.errors import Interrupted, UserError, reason
from marsrl.files import numbered
from marsrl.runs.folder import CONFIG
from marsrl.runs.lock import HeldError
from marsrl.runs.records import read_or_empty
from marsrl.system import die_with, peak_memory_mb, stay_on

if TYPE_CHECKING:
    from marsrl.config import Config
    from marsrl.runs.monitor import Monitor

_MEASURED_UPDATES = 3


def main() -> None:
    """Trains new run folders, or goes on with those that exist; a user's error is one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+", metavar="CONFIG_JSON [RUN_FOLDER]")
    parser.add_argument("--parent", type=int, help="die with this process")
    parser.add_argument("--core", type=int, help="stay on this core, so that JAX sees one device")
    parser.add_argument("--path", help="where a user's modules are")
    args = parser.parse_args()
    if args.parent is not None:
        die_with(args.parent)
    if args.core is not None:
        stay_on(args.core)
    if args.path is not None:
        sys.path.append(args.path)
        with contextlib.suppress(OSError):  # another host, which need not have it
            os.chdir(args.path)
    try:
        from rich.console import Console

        from marsrl.config import Config
        from marsrl.devices.startup import configure_jax
        from marsrl.runs.monitor import ConsoleMonitor

        configure_jax(cores=None if args.core is None else 1)
        configs = [Config.from_dict(json.loads(word)) for word in args.words[::2]]
        folders = [Path(word) for word in args.words[1::2]]
        if folders:
            train_runs(configs, folders, ConsoleMonitor(Console(width=160)))
        else:
            print(json.dumps(_measure(configs[0])))  # noqa: T201 (what it was started for)
    except Interrupted as stop:
        print(f"marsrl: {stop}", file=sys.stderr)  # noqa: T201 (what the log is for)
        sys.exit(stop.code)
    except HeldError as error:
        print(f"marsrl: {error}", file=sys.stderr)  # noqa: T201 (what the log is for)
        sys.exit(OTHERS_TRAIN)
    except UserError as error:
        sys.exit(f"marsrl: {error}")
    except Exception as error:
        traceback.print_exc()
        sys.exit(reason(error))  # the last line: below the advice that JAX puts under a traceback


def train_runs(
    configs: Sequence[Config],
    folders: Sequence[Path],
    monitor: Monitor,
    followers: Sequence[str] | None = None,
) -> None:
    """Goes on with what has begun, one run after another, and then trains the others together.

    Args:
        configs: of the runs, which can share a program.
        folders: theirs.
        monitor: who watches.
        followers: names of those who are told the log; default: nobody, or those that a run has.

    Raises:
        UserError: see `marsrl.runs.runner.train_together` and `resume`.
    """
    from marsrl.runs.runner import train_together

    runs = zip(configs, folders, strict=True)
    new = [run for run in runs if not _resume(*run, monitor, followers)]
    if new:
        configs, folders = [config for config, _ in new], [folder for _, folder in new]
        train_together(configs, folders, monitor, followers=followers or ())


def _resume(
    config: Config, folder: Path, monitor: Monitor, followers: Sequence[str] | None
) -> bool:
    """Goes on with a run to its end; False if there is none, or nothing to go on from."""
    from marsrl.runs.checkpoint import CheckpointError
    from marsrl.runs.runner import resume

    begun = any((folder / "checkpoints").glob("*"))
    if folder.exists() and not begun and not read_or_empty(folder / CONFIG):
        _set_aside(folder, monitor, "it has no checkpoints, and no sound config.json")
    if not folder.exists():
        return False
    try:
        resume(folder, monitor, expected=config, followers=followers)
    except CheckpointError as error:  # no sound one
        _set_aside(folder, monitor, str(error))
        return False
    return True


def _measure(config: Config) -> dict[str, float]:
    """Seconds and memory of a whole training, from a few updates and one evaluation."""
    import jax

    from marsrl.envs.registry import make
    from marsrl.learner.program import FINAL_BATCHES, Program

    program = Program(config, make(config.task, **config.task_settings))

    def timed(call: Callable[..., Any], *args: Any) -> tuple[float, Any]:
        started = time.perf_counter()
        result = jax.block_until_ready(call(*args))
        return time.perf_counter() - started, result

    init, state = timed(program.init)
    first_update, (state, _) = timed(program.step, state)
    updates = []
    for _ in range(_MEASURED_UPDATES):
        seconds, (state, _) = timed(program.step, state)
        updates.append(seconds)
    first_evaluation, _ = timed(program.evaluate, state.learner.weights.actor)
    evaluation, _ = timed(program.evaluate, state.learner.weights.actor)
    evaluations = config.num_evaluations + 2 * FINAL_BATCHES  # of the last parameters and the best
    seconds = init + first_update + first_evaluation + evaluations * evaluation
    seconds += (config.num_updates - 1) * sum(updates) / len(updates)
    return {"seconds": seconds, "peak_memory_mb": peak_memory_mb()}


def _set_aside(folder: Path, monitor: Monitor, reason: str) -> None:
    """Renames a folder that nothing can go on from; nothing is ever deleted."""
    aside = numbered(folder.with_name(f"{folder.name}.broken"))
    folder.rename(aside)
    monitor.message(f"starts anew, the old folder is now {aside.name}: {reason}")


if __name__ == "__main__":
    main()
