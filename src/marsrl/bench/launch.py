"""Training the jobs of a plan in processes of this machine, each on a core or a GPU of its own.

Nothing but files says who trains what, so any number of launchers may share a store: whoever holds
the lock of a job trains it. The lock belongs to the launcher and to the process that trains, and
ends with them; it names its holder, so that it also ends where the file system has no such locks.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from marsrl.bench.locks import FileLock
from marsrl.bench.plan import Job, batches, rival_locks
from marsrl.bench.process import OTHERS_TRAIN, claim_gpus, places, start_worker
from marsrl.bench.progress import has_ended
from marsrl.bench.sources import check_sources, note_source
from marsrl.digest import read_digest
from marsrl.errors import UserError
from marsrl.files import write_beside
from marsrl.runs.lock import HeldError, is_held

_GRACE = 10.0  # seconds between asking a process to end and killing it
_LISTEN = 0.5  # seconds between two looks for a signal

T = TypeVar("T")


class Outcome(NamedTuple):
    """What became of a job.

    Attributes:
        job: the job.
        status: done; failed, after two crashes; locked, somebody else trains it, or some of its
            seeds in another job; or stopped.
        minutes: how long it took here.
        reason: why it failed, or who trains it, in one line.
    """

    job: Job
    status: Literal["done", "failed", "locked", "stopped"]
    minutes: float = 0.0
    reason: str = ""


def run_local(
    jobs: Sequence[Job],
    workers: int | None,
    report: Callable[[Outcome], None],
    points_per_job: int = 1,
) -> list[Outcome]:
    """Trains jobs in processes of this machine, as many at a time as there are workers.

    An exception in the meantime, such as Ctrl-C, ends the processes.

    Args:
        jobs: what to train, in this order.
        workers: how many processes at a time, which share the GPUs that no other launcher has, if
            there are any; default: one for each of these GPUs, or each core.
        report: called with each outcome as it comes.
        points_per_job: how many jobs may share a process, if they can train side by side.

    Raises:
        UserError: other launchers have all GPUs.
    """
    with claim_gpus(workers) as devices:
        return _train_all(batches(jobs, points_per_job), places(devices, workers), report)


def completed(futures: Collection[Future[T]]) -> Iterator[T]:
    """Their results as they come; signals are handled meanwhile.

    Python calls a signal's handler in the main thread alone, and does not wake it for a signal that
    another thread received or that came just before it went to sleep: it must wake by itself.
    """
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, _LISTEN, FIRST_COMPLETED)
        for future in done:
            yield future.result()


def train_here(job: Job, train: Callable[[], None]) -> None:
    """Trains a job in this process, as its only trainer; one that has ended is left as it is.

    Args:
        job: what to train.
        train: does it.

    Raises:
        UserError: somebody else trains it, or some of its seeds.
    """
    with ExitStack() as held:
        taken = _take(job, held)
        if isinstance(taken, FileLock):
            note_source(job, Path.cwd())
            train()
        elif taken.status != "done":
            raise UserError(f"{job.name}: {taken.reason or 'some of its seeds are in another job'}")


def _train_all(
    batches: Sequence[Sequence[Job]],
    places: Sequence[dict[str, str]],
    report: Callable[[Outcome], None],
) -> list[Outcome]:
    """Trains one batch at a time in each place, which is a process's variables."""
    stop, jobs = threading.Event(), [job for batch in batches for job in batch]
    code = read_digest()
    free: queue.Queue[dict[str, str]] = queue.Queue()
    for place in places:
        free.put(place)

    def train(batch: Sequence[Job]) -> list[Outcome]:
        environment = free.get()
        try:
            _check_unchanged(jobs, code)
            return train_batch(batch, str(Path.cwd()), environment, stop)
        except UserError as error:
            return [Outcome(job, "failed", reason=str(error)) for job in batch]
        finally:
            free.put(environment)

    outcomes: list[Outcome] = []
    with ThreadPoolExecutor(len(places)) as pool:
        try:
            for ended in completed([pool.submit(train, batch) for batch in batches]):
                for outcome in ended:
                    outcomes.append(outcome)
                    report(outcome)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _check_unchanged(jobs: Iterable[Job], code: str) -> None:
    """Refuses to train with other code than when this launcher began.

    Args:
        jobs: all of its.
        code: the digest of marsrl's code at that time.

    Raises:
        UserError: marsrl itself has been edited or updated, or something that a job names.
    """
    check_sources(jobs, Path.cwd())
    if (now := read_digest()) != code:
        raise UserError(
            f"marsrl's code was changed while its benchmark ran ({code}, now {now}): what would be "
            "trained now could not be compared; go on with the former, or choose another folder"
        )


def train_batch(
    batch: Sequence[Job],
    path: str,
    environment: dict[str, str],
    stop: threading.Event | None = None,
) -> list[Outcome]:
    """Trains jobs to their end in one process, which dies with this thread.

    If it crashes, each job that it leaves is tried once more, in a process of its own: one that
    fails takes no other with it.

    Args:
        batch: what to train; whatever a job has reached already is kept.
        path: where a user's modules are.
        environment: variables of the process besides this one's, such as its GPU.
        stop: once set, the process is ended.
    """
    started = time.monotonic()
    stop = stop or threading.Event()
    outcomes: list[Outcome] = []
    with ExitStack() as held:
        locks: dict[Job, FileLock] = {}
        for job in batch:
            taken = _take(job, held)
            if isinstance(taken, Outcome):
                outcomes.append(taken)
            else:
                note_source(job, Path(path))
                locks[job] = taken
        codes = dict.fromkeys(locks, _attempt(locks, path, environment, stop) if locks else 0)
        for job, code in codes.items():
            if code and not stop.is_set() and not has_ended(job):
                codes[job] = _attempt({job: locks[job]}, path, environment, stop)
        minutes = (time.monotonic() - started) / 60
        return outcomes + [_outcome(job, code, minutes, stop) for job, code in codes.items()]


def _take(job: Job, held: ExitStack) -> FileLock | Outcome:
    """The lock of a job, until the stack ends; or why there is nothing to do."""
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.lock)
    try:
        lock.take()
    except HeldError as error:
        return Outcome(job, "locked", reason=str(error))
    except UserError as error:  # nobody can have it
        return Outcome(job, "failed", reason=str(error))
    held.callback(lock.release)
    job.failure.unlink(missing_ok=True)
    if has_ended(job):  # since the plan was made
        return Outcome(job, "done")
    if any(map(is_taken, rival_locks(job))):
        return Outcome(job, "locked")
    return lock


def _outcome(job: Job, code: int, minutes: float, stop: threading.Event) -> Outcome:
    """What became of a job whose last process ended with this code."""
    if code == 0 or has_ended(job):
        return Outcome(job, "done", minutes)
    if stop.is_set():
        return Outcome(job, "stopped", minutes)
    reason = _reason(job, code)
    if code == OTHERS_TRAIN:  # by hand, which needs no lock of the job
        return Outcome(job, "locked", minutes, reason)
    write_beside(job.failure, f"{reason}\n".encode())
    return Outcome(job, "failed", minutes, reason)


def is_taken(path: Path) -> bool:
    """Whether the job of this lock has begun, or somebody is about to begin it."""
    return path.with_suffix("").exists() or is_held(path)


def _attempt(
    locks: dict[Job, FileLock], path: str, environment: dict[str, str], stop: threading.Event
) -> int:
    """Runs a process for these jobs once; returns its exit code, minus the signal if one killed it.

    The log of the first job has its output, those of the others say so.
    """
    first, *others = locks
    head = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}"
    for job in others:
        with job.log.open("a") as log:
            log.write(f"{head}\ntrains beside {first.name}: see {first.log}\n")
    with first.log.open("a") as log:
        log.write(f"{head}\n")
        log.flush()
        runs = [(json.dumps(job.config.to_dict()), str(job.folder)) for job in locks]
        held = tuple(lock.descriptor for lock in locks.values())
        words = [word for run in runs for word in run]
        return _wait(start_worker(words, path, environment, log, held), stop)


def _wait(process: subprocess.Popen[str], stop: threading.Event) -> int:
    try:
        while process.poll() is None and not stop.wait(0.2):
            pass
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()  # nothing, if it has ended
    return process.wait()


def _reason(job: Job, code: int) -> str:
    lines = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    ended = f"killed by {signal.Signals(-code).name}; last line: " if code < 0 else ""
    return f"{ended}{lines[-1].strip()} ({job.log})"
