"""What the tests of faults look at in a run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from faults.record import CONFIG
from marsrl.learner.trainer import Program
from marsrl.runs.checkpoint import Checkpoints
from marsrl.runs.folder import RunFolder
from marsrl.runs.lock import NAME

LAST = CONFIG.num_updates
TIMING = ("seconds", "steps_per_second")


def rows(path: Path) -> list[dict]:
    """The log without what a clock measured."""
    return [{k: v for k, v in row.items() if k not in TIMING} for row in RunFolder(path).rows()]


def files(path: Path) -> list[str]:
    """The names in a run folder; orbax names its data at random."""
    return sorted(
        str(p.relative_to(path)) for p in path.rglob("*") if p.parent.name not in ("d", "default")
    )


def assert_same_run(path: Path, whole: Path, program: Program) -> None:
    """Parameters, rows, what is kept, and nothing else."""

    def words(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    def same(x, y):
        np.testing.assert_array_equal(words(x), words(y))

    mine, theirs = Checkpoints(path / "checkpoints"), Checkpoints(whole / "checkpoints")
    assert mine.steps() == theirs.steps()
    states = (x.restore(LAST, program.template) for x in (mine, theirs))
    jax.tree.map(same, *states)
    assert mine.scores() == theirs.scores()
    assert rows(path) == rows(whole)
    assert RunFolder(path).status()["status"] == RunFolder(whole).status()["status"]
    assert files(path) == files(whole)


def digest(path: Path) -> str:
    """Names and contents of a folder, but for the lock, which no copy of it is bound by."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.name != NAME:
            found.update(str(file.relative_to(path)).encode() + b"\0")
            found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target, symlinks=True))
