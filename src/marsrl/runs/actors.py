"""The actors of a checkpoint in a file by themselves, for whoever only wants to play.

A NumPy archive of their weights, (S, ...) each, by name, and of what they read and put out. It is
read without the training program and the environment, and outlives changes of the training state
around it.
"""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from marsrl.envs.base import Environment
from marsrl.envs.check.members import in_spec
from marsrl.errors import reason
from marsrl.learner.networks import Weights
from marsrl.runs.checkpoint import CheckpointError
from marsrl.types import EnvSpec, TimeStep, leaf_name

FILE = "actors.npz"
"""Its name in the folder of a checkpoint."""

_LAYOUT = "layout"  # no name of a weight: those have slashes


class Layout(NamedTuple):
    """What actors read and put out.

    Attributes:
        spec: of the environment that they were trained on.
        obs_dtype: of its observations, as NumPy names it.
    """

    spec: EnvSpec
    obs_dtype: str = "float32"

    def reads_alike(self, dtype: Any) -> bool:
        """Whether numbers of this type mean to the networks what they meant in training.

        It is all the same to them (see `as_float`), but for uint8.
        """
        return (np.dtype(dtype) == np.uint8) == (np.dtype(self.obs_dtype) == np.uint8)


def layout_of(spec: EnvSpec, time_step: TimeStep) -> Layout:
    """The layout of actors that see such time steps."""
    return Layout(spec, np.dtype(time_step.obs.dtype).name)


def layout_for(env: Environment) -> Layout:
    """The layout of actors that play in an environment, whose `reset` is traced."""
    now = jax.eval_shape(env.reset, jax.eval_shape(lambda: jax.random.key(0)))[1]
    return layout_of(env.spec, now)


def pack(actors: Weights, layout: Layout) -> bytes:
    """The content of the file for the actors of all seeds, (S, ...)."""
    leaves = jax.tree_util.tree_leaves_with_path(actors)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}
    arrays[_LAYOUT] = json.dumps({"spec": layout.spec.to_dict(), "obs_dtype": layout.obs_dtype})
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def layout(content: bytes) -> Layout | None:
    """What the actors read and put out; None if the file, of an old version, does not tell.

    Raises:
        CheckpointError: it is no such file.
    """
    text = _arrays(content).get(_LAYOUT)
    if text is None:
        return None
    try:
        found = json.loads(str(text))
        spec, dtype = EnvSpec.from_dict(found["spec"]), np.dtype(found["obs_dtype"]).name
    except Exception as error:  # whatever else stands there
        raise CheckpointError(f"{FILE}: {_LAYOUT} is none: {reason(error)}") from error
    if faults := tuple(in_spec(spec)):
        raise CheckpointError(f"{FILE}: {faults[0]}")
    return Layout(spec, dtype)


def unpack(content: bytes, template: Weights, index: int) -> Weights:
    """The actor of one seed.

    Args:
        content: from `pack`.
        template: arrays, or `jax.ShapeDtypeStruct`, of the actor that is expected.
        index: of the seed.

    Raises:
        CheckpointError: it is no such file, or an array is missing or of another shape or type.
    """
    arrays = _arrays(content)

    def find(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name, expected = leaf_name(path), f"{leaf.dtype}{list(leaf.shape)}"
        found = arrays.get(name)
        if found is None or found.ndim == 0 or index >= len(found):
            raise CheckpointError(f"{FILE}: {name} is missing, expected {expected}")
        if (found.shape[1:], found.dtype) != (leaf.shape, leaf.dtype):
            raise CheckpointError(
                f"{FILE}: {name} is {found.dtype}{list(found.shape[1:])}, expected {expected}"
            )
        return jnp.asarray(found[index])

    return jax.tree_util.tree_map_with_path(find, template)


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise CheckpointError(f"{FILE} is no archive of NumPy arrays: {reason(error)}") from error
