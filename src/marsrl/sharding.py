"""Spreading the seeds of a run over devices."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from marsrl.errors import UserError
from marsrl.types import PyTree


def use_cpu_cores() -> None:
    """Lets JAX see each CPU core as a device; call it before anything touches a device.

    One training program keeps about one core busy, so two seeds on two cores take as long as one.
    """
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def seed_mesh(num_seeds: int, num_devices: int | None) -> jax.sharding.Mesh:
    """A one-axis mesh over `num_devices`; by default the most that divide the seeds evenly.

    Raises:
        UserError: there are fewer devices than asked for.
    """
    available = jax.local_device_count()
    if num_devices is None:
        num_devices = max(d for d in range(1, available + 1) if num_seeds % d == 0)
    if num_devices > available:
        raise UserError(f"devices = {num_devices}, but this machine offers {available}")
    return jax.sharding.Mesh(np.asarray(jax.local_devices()[:num_devices]), ("seeds",))


def over_seeds(
    mesh: jax.sharding.Mesh, program: Callable[..., Any], donate: bool = False
) -> Callable[..., Any]:
    """Compiles a one-seed program for stacked seeds (S, ...), split over the mesh."""
    seeds = jax.P("seeds")
    sharding = jax.NamedSharding(mesh, seeds)
    mapped = jax.shard_map(
        jax.vmap(program), mesh=mesh, in_specs=seeds, out_specs=seeds, check_vma=False
    )
    return jax.jit(mapped, in_shardings=sharding, donate_argnums=(0,) if donate else ())


def place(mesh: jax.sharding.Mesh, shapes: PyTree) -> PyTree:
    """Adds to a tree of `jax.ShapeDtypeStruct` (S, ...) where `over_seeds` puts its arrays."""
    sharding = jax.NamedSharding(mesh, jax.P("seeds"))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
