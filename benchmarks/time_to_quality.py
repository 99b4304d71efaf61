"""Measures what a user waits for: seconds from typing the command until a team is good.

    python benchmarks/time_to_quality.py --out runs/time-to-quality

Two processes are started in turn for each task and seed, each with an empty cache of compiled
programs and alone on the machine: `marsrl train` with the task's preset, and the plain trainer
(`plain.py`) with the settings of JaxMARL's scripts. The clock starts with the process, so that
imports and compilation count, and stops when the mean return of the last 100 training episodes
(and the rest of the oldest one's update) passes the level. The level of simple spread is what the
plain trainer comes to within a million steps. What is finished is kept.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from matplotlib.ticker import LogLocator

from marsrl.config import Config
from marsrl.errors import UserError, near_misses
from marsrl.presets import preset
from marsrl.report import figures
from timing import circumstances, headline, table, write_json
from training_speed import PEER, ROWS

EPISODES = 100
_LOOK = 0.05  # seconds between two looks at what a trainer has written


class Goal(NamedTuple):
    """What is to be learned.

    Attributes:
        level: the return to pass; None: where the peer's settings come to.
        ours: trained by marsrl.
        peer: trained by the plain trainer.
    """

    level: float | None
    ours: Config
    peer: Config


def _goal(task: str, level: float, total_steps: int) -> Goal:
    ours = preset(task, total_steps=total_steps)
    return Goal(level, ours, preset(task, **PEER | {"num_envs": 128, "total_steps": total_steps}))


GOALS = {
    "mpe": Goal(
        None,
        Config(task="jaxmarl:MPE_simple_spread_v3", core="ff", total_steps=2_000_000),
        replace(ROWS["mpe"], total_steps=1_000_000),
    ),
    "smax": _goal("smax/2s3z", 1.8, 3_000_000),
    "lbf": _goal("lbf/8x8-2p-2f-coop", 0.95, 3_000_000),
    "paxmen": _goal("paxmen/4ag", 80.0, 5_000_000),
}


class Update(NamedTuple):
    """What is known after some updates: the clock, and the episodes that ended in them."""

    seconds: float
    step: int
    count: float
    total: float


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for what was measured, the table and the figure.
        tasks: what to learn.
        seeds: one training each.
    """

    out: Path = Path("runs/time-to-quality")
    tasks: tuple[str, ...] = tuple(GOALS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self):
        for task in self.tasks:
            if task not in GOALS:
                raise UserError(f"unknown task {task!r}{near_misses(task, GOALS)}")


def last_mean(updates: Sequence[Update]) -> float:
    """The mean return of the last episodes; NaN before there are enough."""
    count = total = 0.0
    for update in reversed(updates):
        count, total = count + update.count, total + update.total
        if count >= EPISODES:
            return total / count
    return math.nan


def reached(updates: Sequence[Update], level: float) -> Update | None:
    """The first update after which the level is passed."""
    passed = (u for i, u in enumerate(updates) if last_mean(updates[: i + 1]) >= level)
    return next(passed, None)


def command(plain: bool, settings: Path, folder: Path) -> tuple[list[str], Path]:
    """What trains a configuration in a file, and the file that tells of its updates."""
    if plain:
        script = Path(__file__).with_name("plain.py")
        return [sys.executable, str(script), str(settings)], folder / "output"
    words = ["train", "--config", str(settings), "--out", str(folder / "run")]
    return [sys.executable, "-m", "marsrl", *words], folder / "run" / "metrics.jsonl"


def updates_in(lines: Iterator[str]) -> Iterator[tuple[int, float, float]]:
    """Steps, and the number and sum of returns, of the updates that lines tell of."""
    for line in lines:
        row = json.loads(line)
        if "sum" in row:
            yield row["step"], row["count"], row["sum"]
        elif row.get("kind") == "train":
            count = row["episode/count"]
            yield row["step"], count, count * row["episode/return"] if count else 0.0


def measure(config: Config, plain: bool, level: float | None) -> list[Update]:
    """Trains one seed until the level is passed, or to the end.

    Raises:
        UserError: the trainer fails.
    """
    updates: list[Update] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = folder / "config.json"
        settings.write_text(json.dumps(config.to_dict()))
        words, log = command(plain, settings, folder)
        environment = os.environ | {"MARSRL_CACHE": str(folder / "cache")}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        with (folder / "output").open("w") as output, (folder / "errors").open("w") as errors:
            started = time.monotonic()
            process = subprocess.Popen(words, stdout=output, stderr=errors, env=environment)
            read = 0
            while True:
                ended = process.poll() is not None
                written = log.read_bytes() if log.exists() else b""
                whole = written[: written.rfind(b"\n") + 1]
                now, lines = time.monotonic() - started, whole[read:].decode().splitlines()
                updates += [Update(now, *rest) for rest in updates_in(iter(lines))]
                read = len(whole)
                if ended or (level is not None and last_mean(updates) >= level):
                    break
                time.sleep(_LOOK)
            process.kill()
            if process.wait() > 0:
                raise UserError(f"{' '.join(words)}: {(folder / 'errors').read_text()[-500:]}")
    return updates


def ensure(args: Args, task: str, plain: bool, level: float | None) -> list[list[Update]]:
    """What was measured of each seed, or is now."""
    goal, found = GOALS[task], []
    config = goal.peer if plain else goal.ours
    for seed in args.seeds:
        path = args.out / f"{task}-{'plain' if plain else 'marsrl'}-{seed}.json"
        own = replace(config, seeds=(seed,))
        if not path.exists():
            updates = measure(own, plain, level)
            where = circumstances()
            write_json(path, {"hash": own.hash, "updates": updates, "where": where})
        content = json.loads(path.read_text())
        if content["hash"] != own.hash:
            raise UserError(f"{path} is of another configuration; choose another --out")
        found.append([Update(*row) for row in content["updates"]])
    return found


def run(args: Args) -> dict[str, dict[str, Any]]:
    """Measures what is missing: for each task its level, and what each trainer and seed took."""
    results = {}
    for task in args.tasks:
        level = GOALS[task].level
        plain = ensure(args, task, True, level)
        if level is None:
            level = statistics.mean(map(last_mean, plain))
        ours = ensure(args, task, False, level)
        results[task] = {
            "level": level,
            "marsrl": [reached(updates, level) for updates in ours],
            "plain": [reached(updates, level) for updates in plain],
        }
    return results


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """Median and range of the seconds, those that never came there counted as infinite."""
    rows = []
    for task, result in results.items():
        for name in ("marsrl", "plain"):
            times = [u.seconds if u else math.inf for u in result[name]]
            steps = [u.step if u else math.inf for u in result[name]]
            there = sum(map(math.isfinite, times))
            rows.append((
                f"`{GOALS[task].ours.task}`",
                f"{result['level']:.4g}",
                name,
                f"{there} of {len(times)}",
                f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})",
                f"{statistics.median(steps):,.0f}",
            ))  # fmt: skip
    return table(("task", "return", "trainer", "seeds", "seconds", "steps"), rows)


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """A point for each seed that came there."""
    figure = figures.new_figure(7, 1.2 + 0.7 * len(results))
    ax = figure.add_subplot()
    for shift, color, name in zip((-0.12, 0.12), figures.COLORS, ("marsrl", "plain"), strict=False):
        points = [
            (update.seconds, row + shift)
            for row, result in enumerate(results.values())
            for update in result[name]
            if update
        ]
        x, y = np.reshape(points, (-1, 2)).T
        ax.plot(x, y, "o", color=color, label=name, alpha=0.7)
    figures.dress(ax, "Seconds until the last 100 episodes return enough")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))  # labels of more touch each other
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.set_xlabel("seconds from typing the command")
    labels = [f"{GOALS[task].ours.task}: {x['level']:.3g}" for task, x in results.items()]
    ax.set_yticks(range(len(results)), labels)
    ax.set_ylim(len(results) - 0.5, -0.5)  # the first on top
    figures.legend(ax)
    figures.save(figure, path)


def main() -> None:
    """Prints a table, and writes it and the figure beside what was measured."""
    try:
        args = tyro.cli(Args, description=__doc__)
        results = run(args)
    except UserError as error:
        sys.exit(str(error))
    text = f"{headline(circumstances())}\n\n{markdown(results)}"
    (args.out / "time-to-quality.md").write_text(text)
    draw(results, args.out / "time-to-quality.png")
    print(text)


if __name__ == "__main__":
    main()
