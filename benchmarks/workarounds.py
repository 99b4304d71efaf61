"""Measures what each workaround for XLA's compiler gains: training without one of them at a time.

    python benchmarks/workarounds.py --json workarounds.json

`marsrl.compiler` has them. Each row is trained by one program as it is and by one for each
workaround left out, which all begin with the same state. Each program is compiled once with nothing
cached, and again as a second start does, which finds it in the cache and only traces; compilations
and updates are timed in turn, so that other work on the machine meets all of them. The table has
medians and, in brackets, their ratio to those with everything: above 1, the workaround saves that
share.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import jax
import tyro
from jax.experimental.compilation_cache import compilation_cache

from marsrl.compiler import compiler_options
from marsrl.config import Config
from marsrl.devices import sharding
from marsrl.envs.registry import make
from marsrl.errors import UserError, check_choice
from marsrl.learner import program
from timing import circumstances, fresh, in_turn, row_by_row, start_jax, table
from training_speed import ROWS, compile_and_start, updating


def without_option(name: str, platform: str, once: bool = False) -> dict[str, Any] | None:
    """`compiler_options` but for one of them."""
    options = compiler_options(platform, once) or {}
    return {key: value for key, value in options.items() if key != name} or None


EVERYTHING = "nothing"
"""Left out: the programs as they are."""
WORKAROUNDS = {
    "no_garbage_collection": (program, "no_garbage_collection", nullcontext),
} | {
    option: (sharding, "compiler_options", partial(without_option, option))
    for option in compiler_options("cpu") or {}
}
"""For each: who uses it, under which name, and what would stand in its place."""


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        rows: what to train, of `training_speed.py`.
        names: workarounds to leave out.
        starts: of each program after the first, with a cache.
        repetitions: timed updates of each program.
        devices: that share the work; default: one per core.
        json: where to write the results, after every row; a Markdown table goes beside it.
    """

    rows: tuple[str, ...] = ("mpe", "smax", "default", "lbf")
    names: tuple[str, ...] = tuple(WORKAROUNDS)
    starts: int = 3
    repetitions: int = 11
    devices: int | None = None
    json: Path | None = None

    def __post_init__(self):
        for row in self.rows:
            check_choice("rows", row, ROWS)
        for name in self.names:
            check_choice("names", name, WORKAROUNDS)


def measure(
    config: Config, names: tuple[str, ...], starts: int, repetitions: int, cache: Path
) -> dict[str, Any]:
    """Seconds of every compilation and update, in a process that is fresh.

    Every program has a folder of its own in `cache`: two may differ in nothing that is compiled.
    """
    start_jax(config.devices)
    env = make(config.task, **config.task_settings)
    taken: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
    calls = {}
    for start in range(1 + starts):
        for name in (EVERYTHING, *names):
            jax.clear_caches()  # what was traced with another workaround left out
            compilation_cache.reset_cache()  # else it stays with the first folder
            jax.config.update("jax_compilation_cache_dir", str(cache / name))
            plain = nullcontext() if name == EVERYTHING else patch.object(*WORKAROUNDS[name])
            with plain:
                made = program.Program(config, env)
                seconds, state = compile_and_start(made)
            taken["warm" if start else "cold"].setdefault(name, []).append(seconds)
            calls[name] = updating(lambda state, step=made.step: step(state)[0], state)
    update = {name: seconds.wall for name, seconds in in_turn(calls, repetitions).items()}
    return {**taken, "update": update, "circumstances": circumstances()}


def measure_row(row: str, args: Args) -> dict[str, Any]:
    """One row, in a process of its own."""
    config = dataclasses.replace(ROWS[row], seeds=(0,), devices=args.devices)
    with tempfile.TemporaryDirectory() as cache:
        return fresh(measure, config, args.names, args.starts, args.repetitions, Path(cache))


def markdown(results: Mapping[str, dict[str, Any]]) -> str:
    """A line for each row and workaround."""

    def cell(of: Mapping[str, list[float]], name: str, form: str, unit: float = 1.0) -> str:
        ratio = "" if name == EVERYTHING else f" ({median(of[name]) / median(of[EVERYTHING]):.2f})"
        return f"{median(of[name]) * unit:{form}}{ratio}"

    lines = [
        (
            row,
            name,
            cell(result["update"], name, ".0f", 1e3),
            cell(result["cold"], name, ".1f"),
            cell(result["warm"], name, ".1f"),
        )
        for row, result in results.items()
        for name in result["update"]
    ]
    return table(("row", "without", "ms an update", "s to compile, cold", "warm"), lines)


def run(args: Args) -> dict[str, Any]:
    """Measures row by row."""
    return row_by_row(args.rows, lambda row: measure_row(row, args), markdown, args.json)


def main() -> None:
    """Prints a table."""
    try:
        print(markdown(run(tyro.cli(Args, description=__doc__))))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
