"""The actors of a checkpoint in a file by themselves, for whoever only wants to play.

A NumPy archive of their weights, (S, ...) each, by name. It is read without the training program,
and outlives changes of the training state around it.
"""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.errors import reason
from marsrl.learner.networks import Weights
from marsrl.runs.checkpoint import CheckpointError

FILE = "actors.npz"
"""Its name in the folder of a checkpoint."""


def pack(actors: Weights) -> bytes:
    """The content of the file for the actors of all seeds, (S, ...)."""
    leaves = jax.tree_util.tree_leaves_with_path(actors)
    buffer = io.BytesIO()
    arrays = {_name(path): np.asarray(leaf) for path, leaf in leaves}
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(content: bytes, template: Weights, index: int) -> Weights:
    """The actor of one seed.

    Args:
        content: from `pack`.
        template: arrays, or `jax.ShapeDtypeStruct`, of the actor that is expected.
        index: of the seed.

    Raises:
        CheckpointError: it is no such file, or an array is missing or of another shape or type.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise CheckpointError(f"{FILE} is no archive of NumPy arrays: {reason(error)}") from error

    def find(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name, expected = _name(path), f"{leaf.dtype}{list(leaf.shape)}"
        found = arrays.get(name)
        if found is None or found.ndim == 0 or index >= len(found):
            raise CheckpointError(f"{FILE}: {name} is missing, expected {expected}")
        if (found.shape[1:], found.dtype) != (leaf.shape, leaf.dtype):
            raise CheckpointError(
                f"{FILE}: {name} is {found.dtype}{list(found.shape[1:])}, expected {expected}"
            )
        return jnp.asarray(found[index])

    return jax.tree_util.tree_map_with_path(find, template)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
