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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import tyro
from jax.experimental.compilation_cache import compilation_cache

from marsrl import compiler
from marsrl.config import Config
from marsrl.envs.registry import make
from marsrl.errors import UserError, check_choice
from marsrl.learner.program import Program
from timing import circumstances, fresh, headline, in_turn, start_jax, table, write_json
from training_speed import ROWS, compile_and_start, updating


def _options_without(name: str) -> Callable[..., dict[str, Any] | None]:
    """`compiler_options` but for one of them."""

    def options(platform: str, once: bool = False) -> dict[str, Any] | None:
        rest = dict(compiler.compiler_options(platform, once) or {})
        rest.pop(name, None)
        return rest or None

    return options


_PLAIN: dict[str, Any] = {
    "take": lambda x, index: jnp.asarray(x)[index],
    "add_bias": lambda x, bias: x + bias,
    "sum_rows": lambda rows: rows.sum(0),
    "in_memory": lambda x: x,
    "no_garbage_collection": nullcontext,
}
"""What would stand in the place of each function."""
_OPTIONS = (
    "xla_backend_optimization_level",
    "xla_cpu_experimental_ynn_fusion_type",
    "xla_cpu_use_fusion_emitters",
)
WORKAROUNDS = (*_PLAIN, *_OPTIONS)
EVERYTHING = "nothing"
"""Left out: the programs as they are."""


@contextmanager
def without(name: str) -> Iterator[None]:
    """Programs compiled meanwhile do without a workaround."""
    function, plain = name, _PLAIN.get(name)
    if name in _OPTIONS:
        function, plain = "compiler_options", _options_without(name)
    with ExitStack() as patches:
        # every module has its own reference to what it imported
        for key, module in list(sys.modules.items()):
            theirs = key.startswith("marsrl.") and module is not compiler
            if theirs and getattr(module, function, None) is getattr(compiler, function, compiler):
                patches.enter_context(patch.object(module, function, plain))
        yield


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
    names: tuple[str, ...] = WORKAROUNDS
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
            with without(name):
                program = Program(config, env)
                seconds, state = compile_and_start(program)
            taken["warm" if start else "cold"].setdefault(name, []).append(seconds)
            calls[name] = updating(lambda state, step=program.step: step(state)[0], state)
    update = {name: seconds.wall for name, seconds in in_turn(calls, repetitions).items()}
    return {**taken, "update": update, "circumstances": circumstances()}


def measure_row(row: str, args: Args) -> dict[str, Any]:
    """One row, in a process of its own."""
    config = dataclasses.replace(ROWS[row], seeds=(0,), devices=args.devices)
    with tempfile.TemporaryDirectory() as cache:
        return fresh(measure, config, args.names, args.starts, args.repetitions, Path(cache))


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
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
    """Measures row by row, and writes what is there after each."""
    results = {}
    for row in args.rows:
        results[row] = measure_row(row, args)
        print(f"{row}: {headline(results[row]['circumstances'])}", flush=True)
        if args.json is not None:
            write_json(args.json, results)
            args.json.with_suffix(".md").write_text(markdown(results))
    return results


def main() -> None:
    """Prints a table."""
    try:
        print(markdown(run(tyro.cli(Args, description=__doc__))))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
