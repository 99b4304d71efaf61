"""Measures how speed and compilation grow with the work, each as a curve.

    python benchmarks/scaling.py --out runs/scaling

Every point trains the default task with one seed and on all cores, but for what the curve changes,
in a process of its own (see `training_speed.py` for what is measured). Points that are in the
results already are kept; the figure and the table show all of them.

- devices-seeds: eight seeds over so many virtual devices; devices-envs: one seed's environments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from matplotlib.ticker import EngFormatter

from marsrl.config import Config
from marsrl.errors import UserError, near_misses
from marsrl.presets import preset
from marsrl.report import figures
from timing import fresh, headline, table, write_json
from training_speed import measure
from trainings import panels


class Curve(NamedTuple):
    """What one curve varies.

    Attributes:
        title: of its panel, with the unit of x.
        xs: where it is measured, in order.
        config: what is trained there.
    """

    title: str
    xs: tuple[int, ...]
    config: Callable[[int], Config]


def default(seeds: int = 1, **settings: Any) -> Config:
    """The default task with a GRU and seeds 0, 1, ..."""
    recurrent = {"core": "gru", "update_epochs": 4}
    return preset("paxmen/4ag", seeds=tuple(range(seeds)), **recurrent | settings)


def mpe(agents: int) -> Config:
    """Simple spread with so many agents."""
    return preset(f"mpe/simple_spread_v3-{agents}ag", seeds=(0,))


def connector(agents: int) -> Config:
    """Connector with so many agents, on the board of the benchmark."""
    size = {3: 5, 5: 7, 10: 10, 23: 15}[agents]
    return preset(f"connector/{size}x{size}x{agents}a", seeds=(0,))


def powers(first: int, last: int, by: int = 2) -> tuple[int, ...]:
    """The first, and each next `by` times as large."""
    return tuple(first * by**k for k in range(last) if first * by**k <= last)


CURVES = {
    "envs": Curve("environments", powers(16, 4096, by=4), lambda x: default(num_envs=x)),
    "rollout": Curve("rollout length", powers(8, 512, by=4), lambda x: default(rollout_length=x)),
    "width": Curve("GRU width", powers(32, 512), lambda x: default(width=x)),
    "seeds": Curve("seeds in one program", powers(1, 32), default),
    "agents-mpe": Curve("agents, simple spread", (3, 5, 10), mpe),
    "agents-connector": Curve("agents, Connector (ff)", (3, 5, 10, 23), connector),
    "devices-seeds": Curve("devices, 8 seeds", powers(1, 8), lambda x: default(8, devices=x)),
    "devices-envs": Curve("devices, 1 seed", powers(1, 8), lambda x: default(devices=x)),
}
KEPT = ("steps_per_second", "cores", "compile_seconds", "gflops", "share_of_peak")


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for scaling.json, scaling.md and scaling.png.
        only: the curves to measure; default: all.
        quick: measure the first two points of each curve only.
        repetitions: timed updates, at least 5; the median counts.
    """

    out: Path = Path("runs/scaling")
    only: tuple[str, ...] = tuple(CURVES)
    quick: bool = False
    repetitions: int = 5

    def __post_init__(self):
        for name in self.only:
            if name not in CURVES:
                raise UserError(f"unknown curve {name!r}{near_misses(name, CURVES)}")
        if self.repetitions < 5:
            raise UserError(f"repetitions is {self.repetitions}, expected at least 5")


def point(config: Config, repetitions: int) -> dict[str, Any]:
    """One point of a curve, or why there is none."""
    try:
        result = fresh(measure, config, repetitions)
    except BrokenProcessPool:
        return {"failed": "the process was killed: not enough memory?"}
    where = headline(result["circumstances"])
    return {name: result[name] for name in KEPT} | {"config": config.to_dict(), "where": where}


def run(args: Args) -> dict[str, Any]:
    """Measures the points that are missing, and writes what is there after each."""
    path = args.out / "scaling.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in args.only:
        curve = CURVES[name]
        for x in curve.xs[:2] if args.quick else curve.xs:
            points, config = results.setdefault(name, {}), curve.config(x)
            if points.get(str(x), {}).get("config") == config.to_dict():
                continue
            points[str(x)] = point(config, args.repetitions)
            told = (
                points[str(x)].get("failed") or f"{points[str(x)]['steps_per_second']:,.0f} steps/s"
            )
            print(f"{name} {x}: {told}", flush=True)
            write_json(path, results)
    (args.out / "scaling.md").write_text(markdown(results))
    draw(results, args.out / "scaling.png")
    return results


def measured(points: dict[str, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The points that did not fail, in order."""
    return {x: points[f"{x}"] for x in sorted(map(int, points)) if "failed" not in points[f"{x}"]}


def markdown(results: dict[str, Any]) -> str:
    """All points as a table."""
    rows = [
        (
            CURVES[name].title,
            f"{x}",
            f"{point['steps_per_second']:,.0f}",
            f"{point['cores']:.1f}",
            f"{point['share_of_peak']:.0%}",
            f"{point['compile_seconds']:.1f}",
        )
        for name, points in results.items()
        for x, point in measured(points).items()
    ]
    columns = ("curve", "x", "steps/s", "cores", "of matmul peak", "compile s")
    return table(columns, rows)


def draw(results: dict[str, Any], path: Path) -> None:
    """Steps per second over what each curve varies."""
    figure, axes = panels(len(results), columns=4, width=3)
    for ax, (name, points) in zip(axes, results.items(), strict=True):
        known = measured(points)
        rates = np.array([point["steps_per_second"] for point in known.values()])
        figures.dress_numbers(ax, CURVES[name].title)
        figures.line(ax, np.array(list(known)), rates, figures.COLORS[0])
        ax.set_xscale("log", base=2)
        ticks = list(known)[:: 2 if len(known) > 7 else 1]
        ax.set_xticks(ticks, list(map(str, ticks)))
        ax.set_ylim(0, 1.15 * rates.max())
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    figure.supylabel("environment steps per second", fontsize=9, color=figures.INK)
    figures.save(figure, path)


def main() -> None:
    """Prints the table."""
    try:
        args = tyro.cli(Args, description=__doc__)
        args.out.mkdir(parents=True, exist_ok=True)
        print(markdown(run(args)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
