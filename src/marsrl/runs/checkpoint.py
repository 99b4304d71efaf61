"""Exact save and restore of the whole training state, by orbax, with checksums of our own.

All the processes of a run save and restore together, each its part of the arrays; process 0 writes
and verifies the checksums.

A checkpoint is a folder `checkpoints/<update>/`. Orbax writes beside and renames; the checksums go
in last, so a folder without them was interrupted and does not count.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from marsrl.devices.distributed import from_first
from marsrl.errors import UserError, reason
from marsrl.files import write_beside
from marsrl.types import PyTree

_CHECKSUMS = "checksums.json"


class CheckpointError(UserError):
    """A checkpoint that cannot be restored; names the file or leaf that is wrong."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; created if missing.
        seeds: the run's seeds; the best checkpoint of each is kept.
        keep: how many of the newest are kept besides.
    """

    def __init__(self, folder: Path, seeds: tuple[int, ...], keep: int) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every file it touches
        best = [
            BestN(get_metric_fn=lambda scores, seed=seed: scores[str(seed)], n=1) for seed in seeds
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), *best]),
            enable_async_checkpointing=False,
            cleanup_tmp_directories=True,
        )
        self.folder = folder.absolute()
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def steps(self) -> list[int]:
        """The updates of which a complete checkpoint exists, ascending."""
        return from_first(
            lambda: [s for s in sorted(self._manager.all_steps()) if self._checksums(s).exists()]
        )

    def save(self, update: int, state: PyTree, scores: dict[int, float]) -> None:
        """Saves the state after `update` with each seed's evaluation return; prunes old ones."""
        if update in self._manager.all_steps():  # left by an interruption, without checksums
            self._manager.delete(update)
        named = {str(seed): score for seed, score in scores.items()}
        self._manager.save(update, args=ocp.args.StandardSave(state), metrics=named)
        self._manager.wait_until_finished()
        from_first(lambda: self._write_checksums(update))

    def _write_checksums(self, update: int) -> None:
        folder = self.folder / str(update)
        content = {
            str(path.relative_to(folder)): _sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != _CHECKSUMS
        }
        write_beside(self._checksums(update), json.dumps(content).encode())

    def restore(self, update: int, template: PyTree) -> PyTree:
        """Restores the state after `update`.

        Args:
            update: one of `steps()`.
            template: arrays, or `jax.ShapeDtypeStruct`, of the state that is expected.

        Raises:
            CheckpointError: a file has changed or is missing, or a leaf is missing, unknown, or of
                another shape or type than the template's.
        """
        fault = from_first(lambda: self._file_fault(update) or self._leaf_fault(update, template))
        if fault:
            raise CheckpointError(fault)
        try:
            return self._manager.restore(update, args=ocp.args.StandardRestore(template))
        except Exception as error:  # orbax raises many kinds; each means the same to the caller
            raise UserError(f"checkpoint {self.folder / str(update)}: {reason(error)}") from error

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

    def drop_after(self, update: int) -> None:
        """Deletes checkpoints newer than `update`: refused ones, which the run will make again."""
        for step in self._manager.all_steps():
            if step > update:
                self._manager.delete(step)

    def close(self) -> None:
        """Ends orbax's threads."""
        self._manager.close()

    def _checksums(self, update: int) -> Path:
        return self.folder / str(update) / _CHECKSUMS

    def _file_fault(self, update: int) -> str | None:
        folder = self.folder / str(update)
        for name, digest in json.loads(self._checksums(update).read_text()).items():
            path = folder / name
            if not path.is_file():
                return f"checkpoint file {path} is missing"
            if _sha256(path) != digest:
                return f"checkpoint file {path} is corrupt (checksum differs)"
        return None

    def _leaf_fault(self, update: int, template: PyTree) -> str | None:
        metadata: Any = self._manager.item_metadata(update)
        saved, expected = _describe(metadata.tree), _describe(template)
        for name in sorted(saved.keys() | expected.keys()):
            if saved.get(name) != expected.get(name):
                return (
                    f"checkpoint {self.folder / str(update)}: leaf {name} is "
                    f"{saved.get(name, 'missing')}, expected {expected.get(name, 'none')}"
                )
        return None


def _describe(tree: PyTree) -> dict[str, str]:
    """Path -> dtype and shape of every array leaf; PRNG keys as the words they are saved as."""

    def describe(leaf: Any) -> str:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return f"{leaf.dtype}{list(leaf.shape)}"

    # Orbax reports the tree with dicts in place of NamedTuples: the simple names are the same.
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): describe(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
