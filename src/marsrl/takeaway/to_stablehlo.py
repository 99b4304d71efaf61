"""Any actor as StableHLO, by `jax.export`: for JAX without marsrl, and for compilers of MLIR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jax import export

from marsrl.extras import require
from marsrl.runs.policy import Policy
from marsrl.takeaway.actor import actor_of, inputs_of

FILE, PORTABLE = "actor.jax", "actor.stablehlo"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write(policy: Policy, folder: Path, batch: int | None = None) -> None:
    """Writes `actor.jax` (`jax.export.deserialize` reads it) and `actor.stablehlo` (MLIR bytecode).

    Args:
        policy: the team.
        folder: where.
        batch: environments that it is for; default: any number, by a symbolic shape.
    """
    require("flatbuffers", "stablehlo")  # which jax.export writes with
    exported = export.export(jax.jit(actor_of(policy)), platforms=PLATFORMS)(
        *_arguments(policy, batch)
    )
    (folder / FILE).write_bytes(exported.serialize())
    (folder / PORTABLE).write_bytes(exported.mlir_module_serialized)


def _arguments(policy: Policy, batch: int | None) -> list[Any]:
    size = export.symbolic_shape("batch") if batch is None else (batch,)
    return [
        jax.ShapeDtypeStruct((*size, *shape), dtype) for shape, dtype in inputs_of(policy).values()
    ]
