"""What the jobs of a plan will take: from jobs that ended in the store, else from a short trial."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from marsrl.bench.damage import status_faults
from marsrl.bench.plan import Job
from marsrl.bench.process import claim_gpus, on_gpu, start_worker
from marsrl.bench.progress import has_ended
from marsrl.bench.tables import is_amount
from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.files import write_beside
from marsrl.runs.folder import STATUS
from marsrl.runs.records import read_or_empty, to_file


class Cost(NamedTuple):
    """What one job takes from its start to its end.

    Attributes:
        seconds: wall time on one core or GPU.
        peak_memory_mb: of its process.
    """

    seconds: float
    peak_memory_mb: float


def costs(
    jobs: Sequence[Job], store: Path, measure: bool, tell: Callable[[str], None]
) -> dict[Job, Cost]:
    """Estimates what jobs take; all objectives of a task are taken to cost the same.

    Args:
        jobs: of one plan.
        store: where trials are kept, in measurements.json.
        measure: whether to try the tasks of which no job has ended yet.
        tell: called with what is being tried.

    Returns:
        The estimates; without those of tasks of which nothing is known.

    Raises:
        UserError: a trial fails, or other launchers have all GPUs.
    """
    ended: dict[tuple[str, int], list[Cost]] = {}
    for job in jobs:
        if has_ended(job):
            ended.setdefault(_kind(job), []).append(_taken(job))
    known = {
        kind: Cost(sum(c.seconds for c in cs) / len(cs), max(c.peak_memory_mb for c in cs))
        for kind, cs in ended.items()
    }
    for job in jobs:
        if measure and _kind(job) not in known:
            known[_kind(job)] = _tried(job.config, store, tell)
    return {job: known[_kind(job)] for job in jobs if _kind(job) in known}


def seconds_left(job: Job, cost: Cost) -> float:
    """What is left of a job that may have come some way."""
    step = read_or_empty(job.folder / STATUS).get("step", 0)
    return 0.0 if has_ended(job) else cost.seconds * max(0.0, 1 - step / job.config.total_steps)


def _taken(job: Job) -> Cost:
    """What an ended job took, as its status tells."""
    for fault in status_faults(job.folder, job.config.seeds):
        raise UserError(f"{fault}; see what can be mended with: marsrl doctor STORE")
    status = read_or_empty(job.folder / STATUS)
    return Cost(sum(status.get("seconds", {}).values()), status.get("peak_memory_mb", 0))


def _kind(job: Job) -> tuple[str, int]:
    return job.config.task, len(job.config.seeds)


def _tried(config: Config, store: Path, tell: Callable[[str], None]) -> Cost:
    """The cost that a trial tells, or told last time."""
    path = store / "measurements.json"
    kept = read_or_empty(path)
    key = f"{config.task} {config.hash} {len(config.seeds)}"
    found = kept.get(key)
    if not isinstance(found, dict) or not all(is_amount(found.get(x)) for x in Cost._fields):
        tell(f"trying {config.task} ...")
        kept[key] = found = _try(config)
        store.mkdir(parents=True, exist_ok=True)
        write_beside(path, to_file(kept))
    return Cost(*(found[name] for name in Cost._fields))


def _try(config: Config) -> dict[str, float]:
    """A trial where a job would run: on one GPU if there are any, else on one core."""
    with claim_gpus(1) as devices:
        place = on_gpu(devices[0], 1.0) if devices else {}
        words = [json.dumps(config.to_dict())]
        process = start_worker(words, str(Path.cwd()), place, subprocess.PIPE)
        output, _ = process.communicate()
    lines = output.splitlines() or [""]
    if process.returncode:
        raise UserError(f"the trial of {config.task} failed: {lines[-1]}")
    return json.loads(lines[-1])
