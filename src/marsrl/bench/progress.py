"""How far the jobs of a store have come, as their files tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from marsrl.bench.plan import Job, cell_folder, seeds_of, task_folder
from marsrl.bench.suite import Suite
from marsrl.runs.folder import STATUS
from marsrl.runs.records import read_or_empty

RunStatus = Literal["done", "running", "failed", "diverged", "missing"]


class State(NamedTuple):
    """How far one seed has come.

    Attributes:
        status: running if it was started and has not ended, whether or not a process is alive.
        step: environment steps at its last evaluation, or at its end.
        diverged_step: the step at which it diverged, if it did.
    """

    status: RunStatus
    step: int = 0
    diverged_step: int | None = None


def has_ended(job: Job) -> bool:
    """Whether every seed of the job has finished or diverged."""
    return read_or_empty(job.folder / STATUS).get("status") in ("finished", "diverged")


def seed_states(job: Job) -> dict[int, State]:
    """How far each seed of a job has come."""
    status = read_or_empty(job.folder / STATUS)
    return {seed: _state(job, status, str(seed)) for seed in job.config.seeds}


def unplanned(suite: Suite, store: Path) -> list[Path]:
    """Folders of a suite's tasks with runs that the suite does not plan: another configuration."""
    planned = {
        cell_folder(store, label, suite.config(task, label))
        for task in suite.tasks
        for label in suite.objectives
    }
    return [
        cell
        for task in suite.tasks
        for cell in sorted(task_folder(store, task).glob("*"))
        if cell not in planned and any(map(seeds_of, cell.glob("seeds-*")))
    ]


def _state(job: Job, status: dict[str, Any], seed: str) -> State:
    seeds = status.get("seeds")
    of_seed = seeds.get(seed) if isinstance(seeds, dict) else None
    of_seed = of_seed if isinstance(of_seed, dict) else {}
    step = of_seed.get("step")
    step = step if type(step) is int else 0
    match of_seed.get("status"):
        case "diverged":
            return State("diverged", step, step)
        case "finished":
            return State("done", step)
    if job.failure.exists():
        return State("failed", step)
    return State("running" if job.folder.exists() else "missing", step)
