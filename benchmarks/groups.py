"""Who shares parameters: all agents, those of a type, or none, on one task with types of agents.

    python benchmarks/groups.py --out runs/groups
    python benchmarks/groups.py --out runs/groups --task aerojax/hetero-8ag --total-steps 2e6

Trains the same configuration, the task's preset but for the seeds, three times. Writes the runs and
`groups.png`, their returns over training; prints the final returns of every seed. Runs that are
finished are kept, interrupted ones resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from marsrl.config import SHARED
from marsrl.devices.startup import configure_jax
from marsrl.presets import preset
from trainings import side_by_side


@dataclass(frozen=True)
class Groups:
    """Train with parameters shared by all, by groups and by none."""

    out: Path
    """Folder of the three runs and the figure."""
    task: str = "smax/2s3z"
    """A task whose agents are of several types."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Trainings of each kind, in one program."""
    total_steps: int | None = None
    """Environment steps per seed; default: the preset's."""

    def __call__(self) -> None:
        """Trains, draws and prints."""
        steps = {} if self.total_steps is None else {"total_steps": self.total_steps}
        configure_jax()
        configs = {
            who: preset(self.task, seeds=self.seeds, share_parameters=who, **steps)
            for who in SHARED
        }
        print(side_by_side("shared by", configs, self.out, "groups.png"))


if __name__ == "__main__":
    tyro.cli(Groups)()
