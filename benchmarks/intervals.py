"""Times the intervals of a whole benchmark, and measures how often intervals hold the truth.

    taskset -c 0 python benchmarks/intervals.py

Speed: every statistic of `--tasks` x `--seeds` scores of three methods, by the wall clock and,
because that one misleads on a machine with other work, by processor time. The curve is an IQM at
122 evaluations with a fifth of the resamples.

Coverage: the share of `--datasets` simulated benchmarks whose nominal 95 % interval holds the value
that infinitely many seeds would give. The tasks' levels are spread evenly from 0.2 to 1. Two kinds
of seeds: "alike", normal with standard deviation 0.2 around the level; "some fail", where three
seeds in ten stay at a quarter of it. The other method of an improvement is a tenth worse.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro

from marsrl.report.bootstrap import stratified_interval
from marsrl.report.factorial import factorial_effects
from marsrl.report.stats import (
    Floats,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: of the timed benchmark.
        seeds: of the timed benchmark.
        resamples: of the timed intervals.
        datasets: simulated benchmarks per coverage; 0 leaves coverage out.
        simulated_resamples: of each of their intervals.
    """

    tasks: int = 47
    seeds: int = 10
    resamples: int = 10_000
    datasets: int = 1000
    simulated_resamples: int = 500


def mean(x: Floats) -> Floats:
    """The plain mean over tasks and seeds."""
    return x.mean(axis=(0, 1))


def profile(x: Floats) -> Floats:
    """The performance profile at the thresholds of a figure."""
    return performance_profile(x, np.linspace(0, 1, 101))


def time_intervals(args: Args) -> None:
    """Prints how long each statistic takes, and the peak memory."""
    rng = np.random.default_rng(0)
    grid, points = (args.tasks, args.seeds), {"resamples": args.resamples}
    x, y, z = rng.normal(size=(3, *grid))
    curves, cells = rng.normal(size=(3, *grid, 122)), rng.normal(size=(3, 2, *grid))
    work: dict[str, Callable[[], object]] = {
        "IQM of 3": lambda: [stratified_interval(iqm, a, **points) for a in (x, y, z)],
        "gap of 3": lambda: [stratified_interval(optimality_gap, a, **points) for a in (x, y, z)],
        "profile of 3": lambda: [stratified_interval(profile, a, **points) for a in (x, y, z)],
        "improvement on 2": lambda: [
            stratified_interval(probability_of_improvement, x, a, **points) for a in (y, z)
        ],
        "factorial 3 x 2": lambda: factorial_effects(cells, **points),
        "IQM of 3 curves": lambda: [
            stratified_interval(iqm, a, resamples=args.resamples // 5) for a in curves
        ],
    }
    print(f"{args.tasks} tasks x {args.seeds} seeds x 3 methods, {args.resamples} resamples")
    print(f"{'':24} {'wall s':>8} {'cpu s':>8}")
    for name, run in work.items():
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name:24} {wall:8.2f} {cpu:8.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def alike(rng: np.random.Generator, level: Floats, shape: tuple[int, ...]) -> Floats:
    """Scores (T, S, D) that are normal around the tasks' levels (T, 1, 1)."""
    return level + 0.2 * rng.normal(size=shape)


def some_fail(rng: np.random.Generator, level: Floats, shape: tuple[int, ...]) -> Floats:
    """Scores (T, S, D), three in ten of which are a quarter of the task's level (T, 1, 1)."""
    learned = np.where(rng.random(shape) < 0.3, 0.25, 1.0)
    return level * learned + 0.02 * rng.normal(size=shape)


def coverage(draw: Callable, statistic: Callable, tasks: int, seeds: int, args: Args) -> float:
    """The share of simulated intervals that hold the truth."""
    rng = np.random.default_rng([tasks, seeds])
    level = np.linspace(0.2, 1, tasks)[:, None, None]
    levels = [level, 0.9 * level] if statistic is probability_of_improvement else [level]
    # as many tasks with one seed each, the mean over pairs of seeds is one over seeds
    truth = statistic(*(draw(rng, a, (tasks, 50_000, 1)).reshape(-1, 1) for a in levels))
    scores = [draw(rng, a, (tasks, seeds, args.datasets)) for a in levels]
    low, high = stratified_interval(statistic, *scores, resamples=args.simulated_resamples)
    return float(np.mean((low <= truth) & (truth <= high)))


def measure_coverage(args: Args) -> None:
    """Prints the coverage of the statistics for both kinds of seeds."""
    print(f"\ncoverage of nominal 95 % intervals, {args.datasets} simulations each")
    print(f"{'':28} {'seeds':>8}" + "".join(f"{seeds:>8}" for seeds in (3, 5, 10)))
    for kind, draw in {"alike": alike, "some fail": some_fail}.items():
        for name, statistic, tasks in (
            ("mean, 1 task", mean, 1),
            ("IQM, 8 tasks", iqm, 8),
            ("IQM, 47 tasks", iqm, 47),
            ("improvement, 1 task", probability_of_improvement, 1),
            ("improvement, 8 tasks", probability_of_improvement, 8),
            ("improvement, 47 tasks", probability_of_improvement, 47),
        ):
            shares = [coverage(draw, statistic, tasks, seeds, args) for seeds in (3, 5, 10)]
            print(f"{name:26} {kind:>10}" + "".join(f"{share:8.1%}" for share in shares))


def main() -> None:
    """Prints both tables."""
    args = tyro.cli(Args, description=__doc__)
    time_intervals(args)
    if args.datasets:
        measure_coverage(args)


if __name__ == "__main__":
    main()
