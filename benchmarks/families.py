"""Trains MARS with its preset on one task of each family, and draws the eight learning curves.

    python benchmarks/families.py --out runs/families

Runs that are finished are kept, interrupted ones resumed; `--tasks` trains some of them only, so
that several processes can share the work. The figure shows what is finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from marsrl.bench.suite import read_suite
from marsrl.devices.startup import configure_jax
from marsrl.envs.tasks import TASKS
from marsrl.presets import preset
from marsrl.report import figures
from marsrl.report.bootstrap import mean_band
from marsrl.report.runs import Run
from marsrl.runs.folder import RunFolder
from trainings import ensure_trained, finished, folder, panels

ONE_OF_EACH = read_suite("nano").tasks


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for the runs and the figure.
        tasks: what to train.
        seeds: of every run.
    """

    out: Path = Path("runs/families")
    tasks: tuple[str, ...] = ONE_OF_EACH
    seeds: tuple[int, ...] = (0, 1, 2)


def draw(runs: dict[str, Run], path: Path) -> None:
    """One panel per task: evaluation returns, the random policy and the reference as lines."""
    figure, axes = panels(len(runs), columns=4)
    for ax, (task, run) in zip(axes, runs.items(), strict=True):
        figures.seed_curves(ax, run.eval_step, run.eval_return, figures.COLORS[0])
        figures.curve(
            ax, run.eval_step, *mean_band(run.eval_return), "mean, 95 %", figures.COLORS[0]
        )
        ax.axhline(TASKS[task].low, color="#999999", linestyle=":", label="random policy")
        ax.axhline(TASKS[task].high, color="#999999", linestyle="--", label="reference")
        figures.dress(ax, f"{task}, N = {TASKS[task].num_agents}", small=True)
    figures.legend(axes[0])
    figures.save(figure, path)


def table(runs: dict[str, Run]) -> str:
    """Budget, time and returns as Markdown."""
    lines = [
        "| task | core | steps per seed | minutes | random | first | last | reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, run in runs.items():
        seconds = sum(RunFolder(run.path).status()["seconds"].values())
        first, last = run.eval_return[:, 0].mean(), run.eval_return[:, -1]
        lines.append(
            f"| `{task}` | {run.config.core} | {run.eval_step[-1]:,.0f} | {seconds / 60:.1f} | "
            f"{TASKS[task].low:.4g} | {first:.4g} | {last.mean():.4g} "
            f"({last.min():.4g} to {last.max():.4g}) | {TASKS[task].high:.4g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is missing, then draws what is there."""
    args = tyro.cli(Args, description=__doc__)
    configure_jax()
    for task in args.tasks:
        ensure_trained(preset(task, seeds=args.seeds), folder(args.out, task))
    found = {task: finished(folder(args.out, task)) for task in ONE_OF_EACH}
    runs = {task: run for task, run in found.items() if run}
    draw(runs, args.out / "families.png")
    (args.out / "families.md").write_text(table(runs))
    print(table(runs))


if __name__ == "__main__":
    main()
