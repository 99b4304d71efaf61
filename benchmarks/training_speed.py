"""Measures whole training loops: environment steps per second, compilation, share of the peak.

    python benchmarks/training_speed.py --json speed.json

Each row runs in a process of its own, whose devices are the cores that it may use (`taskset` and
`--devices` limit them); one seed's environments are spread over them. Three calls are timed in
turn, so that other work on the machine meets all of them, and medians count: our update, the same
update of the plain trainer (`plain.py`, rows `mpe` and `smax`) on one device, and a large product
of float32 matrices.

- steps/s: transitions of one environment, of all seeds together, whatever the number of agents.
- cores: processor time over wall time of our update.
- compile: tracing and compiling all programs of a run, as `marsrl train` does before it starts;
  with an empty cache, and in later processes with the same cache (the median of three).
- memory: the most that the process had before anything but our own update ran in it.
- GFLOP/s: the arithmetic of the model alone. A forward pass takes two operations per parameter,
  of the actor for each agent, of a team's critic once; a step takes one forward pass in the rollout
  and three (one forward, two for the backward) in every epoch.
- of peak: that, over the matrix product's.
"""

from __future__ import annotations

import dataclasses
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from marsrl.config import Config
from marsrl.envs.registry import make
from marsrl.errors import UserError, near_misses
from marsrl.learner.program import Program
from marsrl.presets import preset
from plain import Plain
from timing import (
    circumstances,
    fresh,
    in_turn,
    matmul,
    median_rate,
    row_by_row,
    start_jax,
    table,
)

PEER = {
    "rollout_length": 128, "width": 128, "update_epochs": 4, "ent_coef": 0.01, "objective": "mappo",
}  # fmt: skip
ROWS = {
    "mpe": Config(task="jaxmarl:MPE_simple_spread_v3", num_envs=16, **PEER),
    "smax": preset("smax/2s3z", **PEER | {"num_envs": 128}),
    "default": preset("paxmen/4ag"),
    "recurrent": preset("paxmen/4ag", core="gru", update_epochs=4),
    "lbf": preset("lbf/15x15-4p-5f", core="ff"),
    "aerojax": preset("aerojax/track-3ag"),
    "many": preset("mpe/simple_spread_v3-10ag"),
}
WITH_PEER = ("mpe", "smax")
WARM_STARTS = 3


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        rows: what to measure.
        seeds: trained in one program.
        devices: that share the work; default: one per core.
        repetitions: timed updates, at least 5; the median counts.
        json: where to write the results, after every row; a Markdown table goes beside it.
        settings: of `Config` in place of a row's, as NAME VALUE pairs.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    seeds: int = 1
    devices: int | None = None
    repetitions: int = 7
    json: Path | None = None
    settings: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for row in self.rows:
            if row not in ROWS:
                raise UserError(f"unknown row {row!r}{near_misses(row, ROWS)}")
        if self.repetitions < 5:
            raise UserError(f"repetitions is {self.repetitions}, expected at least 5")

    def config(self, row: str) -> Config:
        """What a row trains."""
        settings = {"seeds": tuple(range(self.seeds)), "devices": self.devices, **self.settings}
        return dataclasses.replace(ROWS[row], **settings)


def compile_and_start(program: Program) -> tuple[float, Any]:
    """Seconds of compilation, and the state after an update."""
    started = time.perf_counter()
    program.compile()
    seconds = time.perf_counter() - started
    return seconds, jax.block_until_ready(program.step(program.init())[0])


def updating(step: Callable[[Any], Any], state: Any) -> Callable[[int], Any]:
    """An update to time: each call goes on from where the last one came."""

    def call(_: int) -> Any:
        nonlocal state
        state = step(state)
        return state

    return call


def forward_flops(program: Program) -> int:
    """Of one step of one environment, see the module's docstring; one set of parameters for all."""
    spec, networks = program.env.spec, program.algorithm.networks
    actor, critic = (
        sum(leaf.size for leaf in jax.tree.leaves(weights.params))
        for weights in jax.eval_shape(networks.init, jax.random.key(0))
    )
    critics = 1 if networks.critic_view == "state" else spec.num_agents
    return 2 * (spec.num_agents * actor + critics * critic)


def plain_update(config: Config) -> Callable[[int], Any]:
    """The same work as one update of ours, by the plain trainer, to time."""
    trainer = Plain(config, make(config.task, **config.task_settings))
    keys = jax.vmap(jax.random.key)(jax.numpy.asarray(config.seeds))
    step = jax.jit(jax.vmap(trainer.step), donate_argnums=0)
    return updating(step, jax.jit(jax.vmap(trainer.init))(keys))


def measure(
    config: Config, repetitions: int, peer: bool = False, cache: Path | None = None
) -> dict[str, Any]:
    """Everything about the training of one configuration, in a process that is fresh.

    Args:
        config: what to train; as many devices as it asks for are made up.
        repetitions: timed updates.
        peer: whether to time the plain trainer too.
        cache: of compiled programs; default: none.
    """
    start_jax(config.devices, cache)
    program = Program(config, make(config.task, **config.task_settings))
    compile_seconds, state = compile_and_start(program)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    product, product_gflop = matmul()
    calls = {"marsrl": updating(lambda state: program.step(state)[0], state), "matmul": product}
    if peer:
        calls["plain"] = plain_update(config)
    seconds = in_turn(calls, repetitions)
    steps = config.steps_per_update * len(config.seeds)
    rate = median_rate(steps, seconds["marsrl"].wall)
    peak = median_rate(product_gflop, seconds["matmul"].wall)
    gflops = rate * forward_flops(program) * (1 + 3 * config.update_epochs) / 1e9
    result = {
        "steps_per_second": rate,
        "cores": sum(seconds["marsrl"].cpu) / sum(seconds["marsrl"].wall),
        "compile_seconds": compile_seconds,
        "peak_memory_mb": memory,
        "gflops": gflops,
        "matmul_gflops": peak,
        "share_of_peak": gflops / peak,
    }
    if peer:
        plain = median_rate(steps, seconds["plain"].wall)
        result |= {"plain_steps_per_second": plain, "ratio": rate / plain}
    return result | {
        "seconds": {name: list(taken.wall) for name, taken in seconds.items()},
        "config": config.to_dict(),
        "circumstances": circumstances(),
    }


def measure_warm(config: Config, cache: Path) -> float:
    """Seconds of compilation in a process that is fresh, with the cache of another."""
    start_jax(config.devices, cache)
    return compile_and_start(Program(config, make(config.task, **config.task_settings)))[0]


def measure_row(row: str, args: Args) -> dict[str, Any]:
    """One row, in processes of its own."""
    config = args.config(row)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        result = fresh(measure, config, args.repetitions, row in WITH_PEER, cache)
        warm = [fresh(measure_warm, config, cache) for _ in range(WARM_STARTS)]
        return result | {"warm_compile_seconds": statistics.median(warm)}


def markdown(results: Mapping[str, dict[str, Any]]) -> str:
    """The results as a table."""
    columns = ("row", "task", "core", "steps/s", "cores", "compile s, cold", "warm")
    columns += ("memory MB", "GFLOP/s", "of peak", "plain steps/s", "ratio")
    rows = [
        (
            row,
            f"`{result['config']['task']}`",
            result["config"]["core"],
            f"{result['steps_per_second']:,.0f}",
            f"{result['cores']:.1f}",
            f"{result['compile_seconds']:.1f}",
            f"{result['warm_compile_seconds']:.1f}",
            f"{result['peak_memory_mb']:,.0f}",
            f"{result['gflops']:.1f}",
            f"{result['share_of_peak']:.0%} of {result['matmul_gflops']:.0f}",
            f"{result['plain_steps_per_second']:,.0f}" if "ratio" in result else "",
            f"{result['ratio']:.2f}" if "ratio" in result else "",
        )
        for row, result in results.items()
    ]
    return table(columns, rows)


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
