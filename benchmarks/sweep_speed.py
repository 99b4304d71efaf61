"""Compares a sweep in one program with as many seeds of one setting, and with a program for each.

    taskset -c 0 python benchmarks/sweep_speed.py

Three ways to train the same number of seeds, updates timed in turn, so that other work on the
machine meets all of them; each has its own states and goes on from where it came.

- `seeds`: all of them with the same trust region, in one program;
- `sweep`: each trust region with its share of the seeds, in one program;
- `apart`: each trust region with its share of the seeds, in a program of its own, in turn.

Compilation is of an empty cache; `apart` compiles as often as there are trust regions.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from marsrl.config import Config
from marsrl.envs.registry import make
from marsrl.errors import UserError
from marsrl.learner.program import Program
from marsrl.presets import preset
from timing import circumstances, headline, in_turn, median_rate, start_jax, table, write_json


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        task: what to train, by its preset.
        eps: trust regions of the sweep.
        seeds: of each trust region.
        repetitions: timed updates, at least 5; the median counts.
        json: where to write the result as JSON.
    """

    task: str = "lbf/8x8-2p-2f-coop"
    eps: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    seeds: int = 3
    repetitions: int = 7
    json: Path | None = None

    def __post_init__(self):
        if self.repetitions < 5:
            raise UserError(f"repetitions is {self.repetitions}, expected at least 5")

    def ways(self) -> dict[str, list[tuple[Config, ...]]]:
        """The programs of each way: what each trains side by side."""
        config = preset(self.task)
        number = self.seeds * len(self.eps)
        points = [
            dataclasses.replace(config, eps=eps, seeds=tuple(range(self.seeds))) for eps in self.eps
        ]
        return {
            "seeds": [(dataclasses.replace(config, seeds=tuple(range(number))),)],
            "sweep": [tuple(points)],
            "apart": [(point,) for point in points],
        }


class Trained:
    """Programs with their states."""

    def __init__(self, programs: list[tuple[Config, ...]]) -> None:
        """Compiles them, which `seconds` tells of, and trains one update."""
        first = programs[0][0]
        env = make(first.task, **first.task_settings)
        self.seconds = 0.0
        self.programs: list[Program] = []
        for config, *others in programs:
            program = Program(config, env, None, others)
            started = time.perf_counter()
            program.compile()
            self.seconds += time.perf_counter() - started
            self.programs.append(program)
        self.states = [program.step(program.init())[0] for program in self.programs]

    def update(self, _: int) -> Any:
        """One update of all seeds."""
        for i, program in enumerate(self.programs):
            self.states[i] = jax.block_until_ready(program.step(self.states[i])[0])
        return self.states


def run(args: Args) -> dict[str, Any]:
    """Measures all ways."""
    start_jax()
    ways = {name: Trained(programs) for name, programs in args.ways().items()}
    seconds = in_turn({name: way.update for name, way in ways.items()}, args.repetitions)
    steps = preset(args.task).steps_per_update * args.seeds * len(args.eps)
    base = statistics.median(seconds["seeds"].wall)
    return {
        "circumstances": circumstances(),
        "args": dataclasses.asdict(args) | {"json": None},
        "ways": {
            name: {
                "steps_per_second": median_rate(steps, taken.wall),
                "time": statistics.median(taken.wall) / base,
                "compile_seconds": ways[name].seconds,
                "seconds": taken.wall,
            }
            for name, taken in seconds.items()
        },
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    rows = [
        (
            name,
            f"{way['steps_per_second']:,.0f}",
            f"{way['time']:.2f}",
            f"{way['compile_seconds']:.1f}",
        )
        for name, way in result["ways"].items()
    ]
    return table(("trained", "steps/s", "time, seeds = 1", "compile s"), rows)


def main() -> None:
    """Prints a table."""
    try:
        args = tyro.cli(Args, description=__doc__)
        result = run(args)
    except UserError as error:
        sys.exit(str(error))
    if args.json is not None:
        write_json(args.json, result)
    print(f"{headline(result['circumstances'])}\n\n{markdown(result)}")


if __name__ == "__main__":
    main()
