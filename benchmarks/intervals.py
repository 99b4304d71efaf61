"""Times the intervals of a whole benchmark, and measures how often intervals hold the truth.

    taskset -c 0 python benchmarks/intervals.py

Speed: every statistic of `--tasks` x `--seeds` scores of three methods, by the wall clock and,
because that one misleads on a machine with other work, by processor time. The curve is an IQM at
122 evaluations with a fifth of the resamples.

Coverage: the share of `--datasets` simulated benchmarks whose nominal 95 % interval, plain and
widened, holds the value that infinitely many seeds would give. The tasks' levels are spread evenly
from 0.2 to 1. Two kinds of seeds: "alike", normal with standard deviation 0.2 around the level;
"some fail", where three seeds in ten stay at a quarter of it. The other method of an improvement is
a tenth worse.

Overall differences: the share of `--overall` simulated benchmarks of two methods that are alike, 8
tasks of normal scores, whose widened 95 % interval of the difference does not hold 0 (improvement:
one half), with the degrees of freedom that tasks of one variance have, and with their own. Standard
deviations: "alike" 0.2; "three vary" 0.35, 0.2 and 0.17, the others 0.03; "one varies" 0.35, the
others 0.02. Likewise of means over two families, of seven tasks and of one, where "some fail".

Verdicts: the share of simulated benchmarks of two methods with the same means in which any single
task is claimed to differ, corrected by Holm's rule, by the permutation test and by Welch's t.
"Reliable": one method always reaches the mean of another of which some fail.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tyro
from scipy.stats import ttest_ind

from marsrl.report.bootstrap import (
    bootstrap,
    degrees_of_freedom,
    percentiles,
    stratified_interval,
    widened,
)
from marsrl.report.factorial import factorial
from marsrl.report.permutation import holm, shifts
from marsrl.report.stats import (
    Floats,
    family_mean,
    iqm,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from marsrl.report.verdict import LEVEL


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: of the timed benchmark.
        seeds: of the timed benchmark.
        resamples: of the timed intervals.
        datasets: simulated benchmarks per coverage; 0 leaves coverage out.
        simulated_resamples: of each of their intervals.
        overall: simulated benchmarks per rate of false overall differences; 0 leaves them out.
        overall_resamples: of each of their intervals, more since they all share theirs.
        verdicts: simulated benchmarks of one task for the rate of false verdicts; 8 tasks take a
            seventh of them and 47 tasks a thirtieth. 0 leaves them out.
    """

    tasks: int = 47
    seeds: int = 10
    resamples: int = 10_000
    datasets: int = 1000
    simulated_resamples: int = 500
    overall: int = 2000
    overall_resamples: int = 2000
    verdicts: int = 2000


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
    curves, cells = rng.normal(size=(3, *grid, 122)), rng.normal(size=(6, *grid))
    work: dict[str, Callable[[], object]] = {
        "IQM of 3": lambda: [stratified_interval(iqm, a, **points) for a in (x, y, z)],
        "gap of 3": lambda: [stratified_interval(optimality_gap, a, **points) for a in (x, y, z)],
        "profile of 3": lambda: [stratified_interval(profile, a, **points) for a in (x, y, z)],
        "improvement on 2": lambda: [
            stratified_interval(probability_of_improvement, x, a, **points) for a in (y, z)
        ],
        "factorial 3 x 2": lambda: factorial(cells, **points),
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


def coverage(
    draw: Callable, statistic: Callable, tasks: int, seeds: int, args: Args, widen: bool
) -> float:
    """The share of simulated intervals that hold the truth."""
    rng = np.random.default_rng([tasks, seeds])
    level = np.linspace(0.2, 1, tasks)[:, None, None]
    levels = [level, 0.9 * level] if statistic is probability_of_improvement else [level]
    # as many tasks with one seed each, the mean over pairs of seeds is one over seeds
    truth = statistic(*(draw(rng, a, (tasks, 50_000, 1)).reshape(-1, 1) for a in levels))
    scores = [draw(rng, a, (tasks, seeds, args.datasets)) for a in levels]
    resamples = args.simulated_resamples
    low, high = stratified_interval(statistic, *scores, resamples=resamples, widen=widen)
    return float(np.mean((low <= truth) & (truth <= high)))


def measure_coverage(args: Args) -> None:
    """Prints the coverage of the statistics for both kinds of seeds, plain and widened."""
    print(f"\ncoverage of nominal 95 % intervals, {args.datasets} simulations each: plain, widened")
    print(f"{'':28} {'seeds':>8}" + "".join(f"{seeds:>14}" for seeds in (3, 5, 10)))
    for kind, draw in {"alike": alike, "some fail": some_fail}.items():
        for name, statistic, tasks in (
            ("mean, 1 task", mean, 1),
            ("family mean, 8 tasks", mean, 8),
            ("IQM, 8 tasks", iqm, 8),
            ("IQM, 47 tasks", iqm, 47),
            ("improvement, 1 task", probability_of_improvement, 1),
            ("improvement, 8 tasks", probability_of_improvement, 8),
            ("improvement, 47 tasks", probability_of_improvement, 47),
        ):
            shares = [
                [coverage(draw, statistic, tasks, seeds, args, widen) for widen in (False, True)]
                for seeds in (3, 5, 10)
            ]
            print(f"{name:26} {kind:>10}" + "".join(f"{p:7.0%}{w:7.0%}" for p, w in shares))


SPREADS = {
    "alike": (0.2,) * 8,
    "three vary": (0.35, 0.2, 0.17) + (0.03,) * 5,
    "one varies": (0.35,) + (0.02,) * 7,
}
"""Standard deviations of tasks."""
uneven = partial(family_mean, families=(*("other",) * 7, "one"))
DIFFERENCES: dict[str, tuple[Callable[..., Floats], float, tuple[str, ...]]] = {
    "mean": (lambda x, y: mean(x) - mean(y), 0.0, tuple(SPREADS)),
    "IQM": (lambda x, y: iqm(x) - iqm(y), 0.0, tuple(SPREADS)),
    "improvement": (probability_of_improvement, 0.5, ("alike",)),  # scales of tasks do not matter
    "families of 7, 1": (lambda x, y: uneven(x) - uneven(y), 0.0, ("some fail",)),
}
"""Statistics of two methods, what they are of two that are the same, and for which scores."""


def false_differences(name: str, kind: str, seeds: int, args: Args) -> Floats:
    """The shares of intervals without the truth: of tasks taken for alike, and as they are."""
    rng = np.random.default_rng(seeds)
    level, shape = np.linspace(0.2, 1, 8)[:, None, None], (2, 8, seeds, args.overall)
    if kind in SPREADS:
        x, y = level + np.array(SPREADS[kind])[:, None, None] * rng.normal(size=shape)
    else:
        x, y = some_fail(rng, level, shape)
    statistic, truth, _ = DIFFERENCES[name]
    values = bootstrap(statistic, x, y, resamples=args.overall_resamples)
    shapes = (8, seeds), (8, seeds)
    wrong = []
    for known in (None, degrees_of_freedom(statistic, x, y)):
        low, high = percentiles(widened(values, statistic(x, y), *shapes, freedom=known))
        wrong.append(np.mean((low > truth) | (high < truth)))
    return np.array(wrong)


def measure_differences(args: Args) -> None:
    """Prints how often an overall difference is found that is not there."""
    print("\nfalse overall differences, 5 % promised: tasks taken for alike, and as they are")
    print(f"{'':18} {'seeds':>12}" + "".join(f"{seeds:>14}" for seeds in (2, 3, 5, 10)))
    for name, (_, _, kinds) in DIFFERENCES.items():
        for kind in kinds:
            rates = [false_differences(name, kind, seeds, args) for seeds in (2, 3, 5, 10)]
            print(f"{name:18} {kind:>12}" + "".join(f"{p:7.1%}{w:7.1%}" for p, w in rates))


def reliable(rng: np.random.Generator, level: Floats, shape: tuple[int, ...]) -> Floats:
    """Scores (T, S, D) that are all the mean of `some_fail`."""
    return 0.775 * level + 0.02 * rng.normal(size=shape)


def false_verdicts(pair: tuple[Callable, Callable], tasks: int, seeds: int, count: int) -> Floats:
    """The shares of benchmarks with a false verdict by the permutation test, and by Welch's t."""
    rng = np.random.default_rng([tasks, seeds])
    level = np.linspace(0.2, 1, tasks)[:, None, None]
    x, y = (np.moveaxis(draw(rng, level, (tasks, seeds, count)), 2, 0) for draw in pair)
    wrong = np.zeros(2)
    for one, other in zip(x, y, strict=True):
        found = [shifts(*scores) for scores in zip(one, other, strict=True)]
        exact = [[each.p_above(0) for each in found], [each.p_below(0) for each in found]]
        above = ttest_ind(one, other, axis=1, equal_var=False, alternative="greater").pvalue
        for rule, sides in enumerate((exact, [above.tolist(), (1 - above).tolist()])):
            wrong[rule] += any(min(holm(p)) <= LEVEL for p in sides)
    return wrong / count


def measure_verdicts(args: Args) -> None:
    """Prints how often single tasks are called different that are not."""
    print("\nbenchmarks with a false verdict on a task, 5 % promised: permutation, Welch")
    print(f"{'':18} {'seeds':>8}" + "".join(f"{seeds:>14}" for seeds in (3, 5, 10)))
    kinds = {
        "alike": (alike, alike),
        "some fail": (some_fail, some_fail),
        "reliable": (reliable, some_fail),
    }
    for tasks, share in ((1, 1), (8, 7), (47, 33)):
        for kind, pair in kinds.items():
            count = max(1, args.verdicts // share)
            rates = [false_verdicts(pair, tasks, seeds, count) for seeds in (3, 5, 10)]
            print(f"{tasks:4} tasks {kind:>16}" + "".join(f"{p:7.1%}{w:7.1%}" for p, w in rates))


def main() -> None:
    """Prints the tables."""
    args = tyro.cli(Args, description=__doc__)
    time_intervals(args)
    if args.datasets:
        measure_coverage(args)
    if args.overall:
        measure_differences(args)
    if args.verdicts:
        measure_verdicts(args)


if __name__ == "__main__":
    main()
