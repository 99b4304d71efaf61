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

from marsrl.bench.launch import Outcome, train_job
from marsrl.bench.plan import Job
from marsrl.bench.process import on_gpu
from marsrl.config import Config
from marsrl.envs.adapters import require
from marsrl.errors import UserError, reason

_NODE_LOSSES = 3  # of one job, before it counts as failed
_PATIENCE = 120.0  # seconds until the lock of a lost node is gone, also on network file systems


def run_ray(
    jobs: Sequence[Job], address: str | None, gpus: float, report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Trains jobs as tasks of Ray, each with one CPU and a share of a GPU.

    Args:
        jobs: what to train, in this order; their folders must be absolute.
        address: of the cluster, as `ray.init` takes it; default: the running one, or one on this
            machine.
        gpus: GPUs per job; 0.5 lets two share one.
        report: called with each outcome as it comes.

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
    waiting = {task.remote(job.config.to_dict(), str(job.folder), path, gpus): job for job in jobs}
    outcomes: list[Outcome] = []
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        outcomes.append(_outcome(ray, ready, waiting.pop(ready)))
        report(outcomes[-1])
    return outcomes


def _train(config: dict[str, Any], folder: str, path: str, gpus: float) -> tuple[Any, ...]:
    """What a node does: the job again from plain values, in a process of its own."""
    sys.path.append(path)
    # Ray has shown this process its GPU
    environment = on_gpu(os.environ["CUDA_VISIBLE_DEVICES"], min(gpus, 1)) if gpus else {}
    job = Job(Config.from_dict(config), Path(folder))
    deadline = time.monotonic() + _PATIENCE
    while (outcome := train_job(job, path, environment)).status == "locked":
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    return outcome[1:]


def _outcome(ray: Any, result: Any, job: Job) -> Outcome:
    try:
        return Outcome(job, *ray.get(result))
    except ray.exceptions.RayError as error:
        return Outcome(job, "failed", reason=reason(error))
