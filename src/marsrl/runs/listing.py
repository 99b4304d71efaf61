"""What runs there are, and what has become of them; only looks, and reads what can be read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.runs.folder import CONFIG, METRICS, STATUS, RunFolder
from marsrl.runs.lock import writer_of
from marsrl.runs.records import Row, read_or_empty

_DEEPEST = 6  # folders in folders: a store has four


class Overview(NamedTuple):
    """A run at a glance.

    Attributes:
        path: its folder.
        config: of it; None if its file is damaged.
        status: running, stopped, dead (no process writes it, and it did not stop in order),
            finished, diverged or damaged.
        step: environment steps per seed so far.
        returns: seed -> mean return of the best checkpoint, or else of the latest evaluation.
        final: whether it is the former.
        diverged: seed, as status.json writes it -> what it says of one that diverged.
        seconds: since something was last written.
    """

    path: Path
    config: Config | None
    status: str
    step: int
    returns: dict[int, float]
    final: bool
    diverged: dict[str, Row]
    seconds: float

    @property
    def mean_return(self) -> float | None:
        """Over the seeds; None if nothing was evaluated yet."""
        return sum(self.returns.values()) / len(self.returns) if self.returns else None


def find_runs(folder: Path) -> Iterator[Path]:
    """The run folders in a folder, those in its folders too, or the folder itself.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; marsrl train makes one, or: marsrl runs FOLDER")
    seen: set[Path] = set()  # by links a folder may be met twice, or lead back to itself
    for parent, folders, files in os.walk(folder, followlinks=True):
        depth = len(Path(parent).relative_to(folder).parts)
        real = Path(parent).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if CONFIG in files:
            folders.clear()
            yield Path(parent)
        folders[:] = sorted(x for x in folders if not x.startswith(".")) if depth < _DEEPEST else []


def overview(path: Path) -> Overview:
    """Reads a run; what is damaged in it is left out."""
    folder = RunFolder(path)
    try:
        config = folder.config()
    except UserError:
        config = None
    status = read_or_empty(path / STATUS)
    diverged = _diverged(status)
    final: dict[int, float] = {}
    latest: dict[int, float] = {}
    try:
        for row in folder.rows():
            if row["kind"] != "train" and isinstance(row.get("return"), float):
                (final if row["kind"] == "final" else latest)[row["seed"]] = row["return"]
    except UserError:  # it cannot be read
        pass
    return Overview(
        path=path,
        config=config,
        status="damaged" if config is None else _status(path, status),
        step=_reached(status, diverged),
        returns=final or latest,
        final=bool(final),
        diverged=diverged,
        seconds=max(0.0, time.time() - _written(path)),
    )


def _diverged(status: Row) -> dict[str, Row]:
    seeds = status.get("seeds")
    return {
        seed: state
        for seed, state in (seeds.items() if isinstance(seeds, dict) else ())
        if isinstance(state, dict) and state.get("status") == "diverged"
    }


def _reached(status: Row, diverged: dict[str, Row]) -> int:
    """The step of a run; where all seeds have diverged, that at which the last one did."""
    of_seeds = diverged.values() if status.get("status") == "diverged" else ()
    ended = [seed["step"] for seed in of_seeds if "step" in seed]
    steps = [step for step in (ended or [status.get("step")]) if isinstance(step, int)]
    return max(steps, default=0)


def _status(path: Path, status: Row) -> str:
    named = status.get("status")
    if writer_of(path):
        return "running"
    if named == "running":
        return "dead"
    return named if named in ("stopped", "finished", "diverged") else "damaged"


def _written(path: Path) -> float:
    times = [file.stat().st_mtime for name in (METRICS, STATUS) if (file := path / name).exists()]
    return max(times, default=path.stat().st_mtime)


def age(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `3 min`, `5 h`, `12 d`."""
    for unit, size, most in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86_400)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
