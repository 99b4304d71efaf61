"""Training the jobs of a plan on a Ray cluster, whose nodes all see the store at the same path.

Ray places the jobs and starts them again when their node is lost; what a lost one had reached is
in the store. The lock of a job sees to it that two nodes never train it at a time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from marsrl.bench.launch import Outcome, train_batch
from marsrl.bench.plan import Job, batches
from marsrl.bench.process import on_gpu
from marsrl.config import Config
from marsrl.errors import UserError, reason
from marsrl.extras import require
from marsrl.runs.lock import GONE_AFTER, TOUCH_EVERY

_NODE_LOSSES = 3  # of one job, before it counts as failed
_PATIENCE = GONE_AFTER + TOUCH_EVERY  # seconds until the lock of a lost node counts as gone


def run_ray(
    jobs: Sequence[Job],
    address: str | None,
    gpus: float,
    report: Callable[[Outcome], None],
    points_per_job: int = 1,
) -> list[Outcome]:
    """Trains jobs as tasks of Ray, each process with one CPU and a share of a GPU.

    Args:
        jobs: what to train, in this order; their folders must be absolute.
        address: of the cluster, as `ray.init` takes it; default: the running one, or one on this
            machine.
        gpus: GPUs per job; 0.5 lets two share one.
        report: called with each outcome as it comes.
        points_per_job: how many jobs may share a process, if they can train side by side.

    Raises:
        UserError: Ray is not installed, or there is no such cluster.
    """
    ray: Any = require("ray", "ray")
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except Exception as error:  # Ray raises many kinds, each for a cluster that it cannot reach
        raise UserError(
            f"cannot reach Ray at {address or 'its default'}: {reason(error)}"
        ) from error
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_NODE_LOSSES, retry_exceptions=False)(
        _train
    )
    path = str(Path.cwd())
    waiting = {}
    for batch in batches(jobs, points_per_job):
        plain = [(job.config.to_dict(), str(job.folder), job.label) for job in batch]
        waiting[task.remote(plain, path, gpus)] = batch
    outcomes: list[Outcome] = []
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        for outcome in _outcomes(ray, ready, waiting.pop(ready)):
            outcomes.append(outcome)
            report(outcome)
    return outcomes


def _train(plain: list[tuple[dict[str, Any], str, str]], path: str, gpus: float) -> list[Any]:
    """What a node does: the jobs again from plain values, in a process of their own.

    Returns:
        Of each job its folder, and what else its outcome has.
    """
    sys.path.append(path)
    # Ray has shown this process its GPU
    environment = on_gpu(os.environ["CUDA_VISIBLE_DEVICES"], min(gpus, 1)) if gpus else {}
    left = [Job(Config.from_dict(config), Path(folder), label) for config, folder, label in plain]
    deadline = time.monotonic() + _PATIENCE
    ended: list[Outcome] = []
    while True:
        outcomes = train_batch(left, path, environment)
        ended += [outcome for outcome in outcomes if outcome.status != "locked"]
        locked = [outcome for outcome in outcomes if outcome.status == "locked"]
        left = [outcome.job for outcome in locked]
        if not left or time.monotonic() > deadline:
            return [(str(outcome.job.folder), *outcome[1:]) for outcome in (*ended, *locked)]
        time.sleep(1)


def _outcomes(ray: Any, result: Any, batch: Sequence[Job]) -> list[Outcome]:
    try:
        rest = {folder: values for folder, *values in ray.get(result)}
    except ray.exceptions.RayError as error:
        return [Outcome(job, "failed", reason=reason(error)) for job in batch]
    return [Outcome(job, *rest[str(job.folder)]) for job in batch]
