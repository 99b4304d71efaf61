"""What settings of the learner do: short trainings of ten tasks, with and without each of them.

    python benchmarks/settings.py --out runs/settings

Three maps of SMAX and one task of every other family, each with its family's preset and the budget
below, MAPPO, three seeds; a row for each task, a column for each variant. Runs that are finished
are kept and interrupted ones resumed; `--tasks` and `--variants` train some of them only, so that
several processes can share the work. The table shows what is finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from marsrl.config import Config
from marsrl.devices.startup import configure_jax
from marsrl.envs.tasks import TASKS
from marsrl.presets import preset
from timing import table
from trainings import ensure_trained, finished, folder

VARIANTS: dict[str, dict] = {
    "preset": {},
    "normal": {"kernel_init": "normal"},
    "orthogonal": {"kernel_init": "orthogonal"},
    "none": {"actor_norm": "none", "critic_norm": "none"},
    "both": {"actor_norm": "running", "critic_norm": "running"},
    "critic": {"actor_norm": "none", "critic_norm": "running"},
    "actor": {"actor_norm": "running", "critic_norm": "none"},
    "layer": {"actor_norm": "layer", "critic_norm": "layer"},
    "value": {"actor_norm": "none", "critic_norm": "none", "value_norm": True},
    "both-value": {"actor_norm": "running", "critic_norm": "running", "value_norm": True},
    "floor-0.01": {"advantage_floor": 0.01},
    "floor-0.1": {"advantage_floor": 0.1},
    "both-huber": {"actor_norm": "running", "critic_norm": "running", "huber_delta": 1.0},
}
"""What differs between the columns."""

STEPS = {
    "smax/2s3z": 250_000,
    "smax/5m_vs_6m": 250_000,
    "smax/3s_vs_5z": 250_000,
    "lbf/8x8-2p-2f-coop": 400_000,
    "connector/5x5x3a": 400_000,
    "mpe/simple_spread_v3-3ag": 600_000,
    "mabrax/hopper_3x1": 200_000,
    "aerojax/track-3ag": 250_000,
    "paxmen/4ag": 600_000,
    "rware/tiny-2ag": 2_000_000,
}
"""Environment steps per seed: enough to leave the random policy clearly."""


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        out: folder for the runs and the table.
        tasks: what to train.
        variants: with which settings.
        objective: of all runs.
        seeds: of every run.
    """

    out: Path = Path("runs/settings")
    tasks: tuple[str, ...] = tuple(STEPS)
    variants: tuple[str, ...] = tuple(VARIANTS)
    objective: str = "mappo"
    seeds: tuple[int, ...] = (0, 1, 2)


def config_of(args: Args, task: str, variant: str) -> Config:
    """Of the run of one task with one variant."""
    return preset(
        task,
        **VARIANTS[variant],
        objective=args.objective,
        seeds=args.seeds,
        total_steps=STEPS[task],
        num_evaluations=5,
        eval_episodes=8 if task.startswith("mabrax") else 32,
    )


def markdown(args: Args) -> str:
    """Mean of the seeds' last evaluations, and the lowest and highest of them."""
    rows = []
    for task in STEPS:
        cells = []
        for variant in VARIANTS:
            run = finished(folder(args.out / variant, task))
            last = None if run is None else run.eval_return[:, -1]
            cells.append(
                "-" if last is None else f"{last.mean():.3g} ({last.min():.3g} to {last.max():.3g})"
            )
        rows.append((f"`{task}`", f"{STEPS[task]:,}", f"{TASKS[task].low:.3g}", *cells))
    return table(("task", "steps", "random", *VARIANTS), rows)


def main() -> None:
    """Trains what is missing, then tabulates what is there."""
    args = tyro.cli(Args, description=__doc__)
    configure_jax()
    for variant in args.variants:
        for task in args.tasks:
            ensure_trained(config_of(args, task, variant), folder(args.out / variant, task))
            (args.out / "settings.md").write_text(markdown(args))
    print(markdown(args))


if __name__ == "__main__":
    main()
