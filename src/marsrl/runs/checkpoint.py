"""Exact save and restore of the whole training state, by orbax, with checksums of our own.

All the processes of a run save and restore together, each its part of the arrays; process 0 writes
and verifies the checksums, and decides what is kept.

A checkpoint is a folder `checkpoints/<update>/`. It is written under another name and renamed once
it is complete and on the disk, and renamed again before it is deleted: so what has the name of an
update is whole, or was damaged later. Its `checksums.json` also holds what the run must not lose:
the scores of the evaluation, and the configuration; its copy of `metrics.jsonl` is the log so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from marsrl.devices.distributed import from_first
from marsrl.errors import UserError, reason
from marsrl.files import TEMPORARY, remove, remove_leftovers, sync
from marsrl.runs.records import DamagedError, Row, from_file, to_file
from marsrl.runs.scores import Scores, kept_updates
from marsrl.types import PyTree, leaf_name

_CHECKSUMS = "checksums.json"
_STATE = "default"  # orbax's own part
_REPLACED = f".replaced{TEMPORARY}"


class CheckpointError(UserError):
    """A checkpoint that cannot be restored; names the file or leaf that is wrong."""


class Checkpoints:
    """The checkpoints of one run, to read: nothing is written or deleted.

    Args:
        folder: where they are; may be missing.
    """

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every file it touches
        self.folder = folder.absolute()

    def steps(self) -> list[int]:
        """The updates of which a complete checkpoint exists, ascending; for all processes."""
        return from_first(self.complete)

    def complete(self) -> list[int]:
        """What `steps` returns, on one process alone."""
        return [u for u in self.updates() if (self.path(u) / _CHECKSUMS).exists()]

    def updates(self) -> list[int]:
        """The updates that have a folder, complete or not, ascending."""
        names = [path.name for path in self.folder.glob("*")]
        return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]{0,17}", name))

    def path(self, update: int) -> Path:
        """The folder of a checkpoint."""
        return self.folder / str(update)

    def about(self, update: int) -> Row:
        """What was saved besides the state: `scores`, `config`, `diverged`, and the `files`.

        Raises:
            CheckpointError: its checksums.json is damaged.
        """
        path = self.path(update) / _CHECKSUMS
        try:
            about = from_file(path)
        except DamagedError as error:
            raise CheckpointError(str(error)) from error
        files = about.get("files")
        if not isinstance(files, dict) or not all(map(_is_inside, files)):
            raise CheckpointError(f"{path} does not list the files of a checkpoint")
        return about

    def scores(self) -> Scores:
        """The scores of every complete checkpoint that was evaluated and can tell them."""
        found: Scores = {}
        for update in self.complete():
            with contextlib.suppress(CheckpointError):
                scores = self.about(update).get("scores")
                if isinstance(scores, dict):
                    found[update] = {int(s): _number(x) for s, x in scores.items() if s.isdecimal()}
        return found

    def file(self, update: int, name: str) -> bytes | None:
        """A file that was saved beside the state; None if the checkpoint has none of that name.

        Raises:
            CheckpointError: it is damaged.
        """
        digest = self.about(update)["files"].get(name)
        if digest is None:
            return None
        content = _read(self.path(update) / name)
        if _sha256(content) != digest:
            raise CheckpointError(f"checkpoint file {self.path(update) / name} is corrupt")
        return content

    def fault(self, update: int) -> str | None:
        """What is wrong with the files of a checkpoint, in one line."""
        try:
            for name, digest in self.about(update)["files"].items():
                path = self.path(update) / name
                if not path.is_file():
                    return f"checkpoint file {path} is missing"
                if _sha256(_read(path)) != digest:
                    return f"checkpoint file {path} is corrupt (checksum differs)"
        except CheckpointError as error:
            return str(error)
        return None

    def restore(self, update: int, template: PyTree) -> PyTree:
        """Restores the state after `update`.

        Args:
            update: one of `steps()`.
            template: arrays, or `jax.ShapeDtypeStruct`, of the state that is expected.

        Raises:
            CheckpointError: a file has changed or is missing, or a leaf is missing, unknown, or of
                another shape or type than the template's.
        """
        try:
            with _plain(self.path(update)) as path, _checkpointer() as orbax:
                fault = from_first(
                    lambda: self.fault(update) or self._leaf_fault(orbax, path, update, template)
                )
                if fault:
                    raise CheckpointError(fault)
                kept = orbax.restore(
                    path / _STATE, args=ocp.args.StandardRestore(_without_empty(template))
                )
                return _with_empty(kept, template)
        except UserError:
            raise
        except Exception as error:  # orbax raises many kinds; each means the same to the caller
            raise CheckpointError(f"checkpoint {self.path(update)}: {reason(error)}") from error

    def part(self, update: int, where: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The arrays of a part of the state as they were saved, whatever was trained.

        Args:
            update: one of `complete()`.
            where: names that lead to the part, such as ("learner", "weights").

        Returns:
            Name -> array, with its leading axis of seeds.

        Raises:
            CheckpointError: a file has changed or is missing, or there is no such part.
        """
        if fault := self.fault(update):
            raise CheckpointError(fault)
        try:
            with _plain(self.path(update)) as path, _checkpointer() as orbax:
                metadata: Any = orbax.metadata(path / _STATE).item_metadata
                # without a target, orbax wants the very devices that it was trained on
                target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), metadata.tree)
                tree: Any = orbax.restore(path / _STATE, args=ocp.args.StandardRestore(target))
            for name in where:
                tree = tree[name]
        except Exception as error:  # orbax raises many kinds; each means the same to the caller
            raise CheckpointError(f"checkpoint {self.path(update)}: {reason(error)}") from error
        return {
            leaf_name(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    def restore_newest(self, template: PyTree) -> tuple[int, PyTree, list[str]]:
        """Restores the newest checkpoint that is sound.

        Returns:
            Its update, the state, and why newer ones were refused.

        Raises:
            CheckpointError: none is sound.
        """
        refused: list[str] = []
        for update in reversed(self.steps()):
            try:
                return update, self.restore(update, template), refused
            except CheckpointError as error:
                refused.append(str(error))
        raise CheckpointError("; ".join(refused) or f"no complete checkpoint in {self.folder}")

    def _leaf_fault(
        self, orbax: ocp.Checkpointer, path: Path, update: int, template: PyTree
    ) -> str | None:
        metadata: Any = orbax.metadata(path / _STATE).item_metadata
        saved, expected = _describe(metadata.tree), _describe(_without_empty(template))
        for name in sorted(saved.keys() | expected.keys()):
            if saved.get(name) != expected.get(name):
                return (
                    f"checkpoint {self.path(update)}: leaf {name} is "
                    f"{saved.get(name, 'missing')}, expected {expected.get(name, 'none')}"
                )
        return None


def clear(folder: Path) -> None:
    """Deletes what an interruption left unfinished, and puts back what was about to be replaced."""
    for old in folder.glob(f"*{_REPLACED}"):
        own = folder / old.name.removesuffix(_REPLACED)
        if not own.exists():
            old.rename(own)
    remove_leftovers(folder)


class CheckpointWriter(Checkpoints):
    """The checkpoints of the run that this process trains.

    Args:
        folder: where they are; created with the first.
        keep: how many of the newest evaluated ones are kept, besides the best of each seed.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        super().__init__(folder)
        self._keep = keep

    def save(
        self,
        update: int,
        state: PyTree,
        scores: dict[int, float] | None,
        notes: Row,
        files: dict[str, bytes],
    ) -> None:
        """Saves the state after `update`, then deletes the checkpoints that need not be kept.

        Args:
            update: of which there is no checkpoint yet, or one that was not evaluated, which it
                replaces.
            state: arrays.
            scores: the evaluation return of each seed that has not diverged; None if it was not
                evaluated: such a checkpoint is to go on from, and is deleted once there is a newer
                one.
            notes: JSON values to keep with it.
            files: more files of it.

        Raises:
            UserError: it cannot be written, because the disk is full, say; older ones are kept.
        """
        partial = self.folder / f"{update}{TEMPORARY}"
        from_first(lambda: _make_empty(partial))
        try:
            with _plain(partial) as path, _checkpointer() as orbax:
                orbax.save(path / _STATE, args=ocp.args.StandardSave(_without_empty(state)))
        except Exception as error:  # orbax raises many kinds; each means the same to the caller
            raise UserError(f"cannot write the checkpoint {partial}: {reason(error)}") from error
        named = scores and {
            str(seed): x if math.isfinite(x) else None for seed, x in scores.items()
        }
        from_first(lambda: self._complete(partial, update, {"scores": named} | notes, files))

    def _complete(self, partial: Path, update: int, about: Row, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        paths = sorted(path for path in partial.rglob("*") if path.is_file())
        digests = {str(p.relative_to(partial).as_posix()): _sha256(p.read_bytes()) for p in paths}
        (partial / _CHECKSUMS).write_bytes(to_file({"files": digests} | about))
        for path in (*partial.rglob("*"), partial):
            sync(path)
        replaced = self.folder / f"{update}{_REPLACED}"
        if self.path(update).exists():
            self.path(update).rename(replaced)
        partial.rename(self.path(update))
        sync(self.folder)
        remove(replaced)
        self._prune()

    def _prune(self) -> None:
        complete = self.complete()
        kept = kept_updates(self.scores(), self._keep) | {complete[-1]}
        for update in complete:
            if update not in kept and self._can_tell(update):
                self._delete(self.path(update))

    def _can_tell(self, update: int) -> bool:
        """Whether it is known what a checkpoint is worth; its checksums.json may be damaged."""
        try:
            return bool(self.about(update))
        except CheckpointError:
            return False

    def clean(self) -> None:
        """Deletes what an interruption left unfinished."""
        from_first(partial(clear, self.folder))

    def go_back_to(self, update: int) -> None:
        """Deletes what a run that has just saved `update` does not have.

        That is newer checkpoints, which it will make again, and those that were about to be deleted
        when it was interrupted.
        """
        from_first(lambda: self._go_back_to(update))

    def _go_back_to(self, update: int) -> None:
        for newer in self.updates():
            if newer > update:
                self._delete(self.path(newer))
        self._prune()

    def _delete(self, path: Path) -> None:
        doomed = path.with_name(path.name + TEMPORARY)
        remove(doomed)
        path.rename(doomed)  # at once, and what follows takes time
        remove(doomed)


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """The same folder by a path that orbax understands.

    It takes brackets for a pattern, and TensorStore a backslash for a slash.
    """
    if not re.search(r"[\[\]\\]", str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / path.name
        link.symlink_to(path, target_is_directory=True)
        yield link


def _make_empty(path: Path) -> None:
    remove(path)
    path.mkdir(parents=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _number(value: object) -> float:
    """A score; the worst if it is none."""
    return float(value) if isinstance(value, int | float) else -math.inf


def _describe(tree: PyTree) -> dict[str, str]:
    """Path -> dtype and shape of every array leaf; PRNG keys as the words they are saved as."""

    def describe(leaf: Any) -> str:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return f"{leaf.dtype}{list(leaf.shape)}"

    # Orbax reports the tree with dicts in place of NamedTuples: the simple names are the same.
    return {
        leaf_name(path): describe(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _without_empty(tree: PyTree) -> PyTree:
    """The tree with None for arrays of size 0, which orbax cannot write and nothing can change."""
    return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _with_empty(kept: PyTree, template: PyTree) -> PyTree:
    """The inverse of `_without_empty`; the template has arrays, or shapes and placements."""

    def filled(leaf: Any, found: Any) -> Any:
        return found if leaf.size else jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding)

    return jax.tree.map(filled, template, kept)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
