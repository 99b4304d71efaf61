"""Spreading the seeds of a run, and the environments of a seed, over devices.

The devices are those of all processes, see `marsrl.devices.distributed`; one process is the plain
case.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from marsrl.compiler import compiler_options
from marsrl.config import Config, Layout
from marsrl.errors import UserError
from marsrl.system import available_memory
from marsrl.types import PyTree

EVERYWHERE = jax.P()
"""All of the array is on every device, for all seeds."""
SEEDS = jax.P("seeds")
"""The first axis of an array holds seeds."""
ENVS = jax.P("envs")
"""The first axis of an array, one for all seeds, holds environments."""
SEEDS_AND_ENVS = jax.P("seeds", "envs")
"""The first axis holds seeds, the second environments, or blocks of them."""


def make_mesh(layout: Layout) -> jax.sharding.Mesh:
    """A mesh ("seeds", "envs") of the devices that are asked for, or of as many as can be used.

    Seeds are spread first, since they need not talk to each other. Every process gives equally
    many devices, and neighbours in the mesh are of one process where possible.

    Raises:
        UserError: there are fewer devices than asked for, or the processes cannot share the work.
    """
    sizes = _usable_sizes(layout)
    if layout.devices not in (None, *sizes):
        raise UserError(
            f"devices = {layout.devices}, but {jax.process_count()} process(es) offer "
            f"{jax.device_count()}; usable here: {', '.join(map(str, sizes)) or 'none'}"
        )
    if not sizes:
        raise UserError(
            f"{jax.process_count()} processes cannot share {layout.num_seeds} seeds and "
            f"{layout.env_blocks} blocks of environments evenly"
        )
    size = layout.devices or max(sizes)
    share = size // jax.process_count()
    devices = np.asarray([device for group in _device_groups() for device in group[:share]])
    return jax.sharding.Mesh(devices.reshape(layout.shapes[size]), ("seeds", "envs"))


def fit_devices(config: Config) -> Config:
    """The configuration itself if its devices are here, else with as many as can be used."""
    here = config.devices in (None, *_usable_sizes(config.layout))
    return config if here else dataclasses.replace(config, devices=None)


def _device_groups() -> list[list[Any]]:
    """The devices of each process, in an order that is the same on all of them."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    groups = itertools.groupby(devices, lambda device: device.process_index)
    return [list(group) for _, group in groups]


def _usable_sizes(layout: Layout) -> list[int]:
    """How many devices a mesh may have here, ascending."""
    groups = _device_groups()
    most = len(groups) * min(map(len, groups))
    return sorted(n for n in layout.shapes if n <= most and n % len(groups) == 0)


def spread(
    mesh: jax.sharding.Mesh,
    program: Callable[..., Any],
    in_specs: tuple[Any, ...],
    out_specs: Any,
    donate: bool = False,
    once: bool = False,
) -> jax.stages.Wrapped:
    """Compiles a one-seed program for stacked seeds (S, ...), split over the mesh.

    Args:
        mesh: from `make_mesh`.
        program: of one seed and the environments that are here.
        in_specs: a (tree of) `SEEDS`, `ENVS`, `SEEDS_AND_ENVS` or `EVERYWHERE` for each argument;
            the first has seeds.
        out_specs: likewise for the result; the first axis is always the seeds'.
        donate: reuse the first argument's memory for the result.
        once: compile quickly rather than well, for a program that runs once.
    """
    per_seed = [None if spec in (ENVS, EVERYWHERE) else 0 for spec in in_specs]

    def stacked(*args: Any) -> Any:
        """`vmap` over the seeds that are here; over one it would only trace everything again."""
        if len(jax.tree.leaves(args[0])[0]) > 1:
            return jax.vmap(program, per_seed)(*args)
        alone = [
            arg if axis is None else jax.tree.map(partial(jnp.squeeze, axis=0), arg)
            for arg, axis in zip(args, per_seed, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], program(*alone))

    mapped = jax.shard_map(
        stacked,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=False,
    )
    shardings = jax.tree.map(partial(jax.NamedSharding, mesh), in_specs)
    return jax.jit(
        mapped,
        in_shardings=shardings,
        donate_argnums=(0,) if donate else (),
        compiler_options=compiler_options(mesh.devices.flat[0].platform, once),
    )


def free_memory(mesh: jax.sharding.Mesh) -> int | None:
    """Bytes that the device of the mesh with the least memory can still give; None if unknown.

    Devices that are CPU cores share the machine's memory evenly.
    """
    devices = mesh.local_devices
    if devices[0].platform == "cpu":
        available = available_memory()
        return None if available is None else available // len(devices)
    stats = [device.memory_stats() for device in devices]
    return min((s["bytes_limit"] - s["bytes_in_use"] for s in stats if s), default=None)


def put(mesh: jax.sharding.Mesh, array: np.ndarray, spec: jax.P) -> jax.Array:
    """Puts an array, which every process holds whole, where `spread` expects it."""
    sharding = jax.NamedSharding(mesh, spec)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def gather(tree: PyTree) -> PyTree:
    """NumPy copies of arrays that are spread over the processes, the same on each of them."""
    return multihost_utils.process_allgather(tree, tiled=True)


def place(mesh: jax.sharding.Mesh, shapes: PyTree, specs: PyTree) -> PyTree:
    """Adds to a tree of `jax.ShapeDtypeStruct` where `spread` puts arrays with these specs."""

    def of_part(spec: jax.P, part: PyTree) -> PyTree:
        sharding = jax.NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part
        )

    return jax.tree.map(of_part, specs, shapes)
