"""Metrics of updates since the last row of the log, which a checkpoint in between has to keep."""

from __future__ import annotations

import io
from typing import Any

import jax
import numpy as np

from marsrl.learner.metrics import Metrics, Tally

FILE = "pending.npz"
"""Its name in the folder of a checkpoint."""


def num_updates(metrics: Metrics) -> int:
    """Of how many updates these are."""
    return jax.tree.leaves(metrics)[0].shape[1]


def joined(pending: list[Metrics]) -> Metrics:
    """The metrics of successive updates, (S, n) each, as those of all of them."""
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pending)


def pack(pending: list[Metrics]) -> bytes:
    """The metrics of successive updates as the content of a file."""
    arrays: dict[str, Any] = {}
    for name, x in joined(pending).items():
        parts = x._asdict() if isinstance(x, Tally) else {"": x}
        arrays |= {f"{name}:{part}": array for part, array in parts.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(content: bytes | None) -> list[Metrics]:
    """The inverse of `pack`; no updates for no file."""
    if content is None:
        return []
    parts: dict[str, dict[str, Any]] = {}
    with np.load(io.BytesIO(content)) as arrays:
        for key in arrays.files:
            name, _, part = key.rpartition(":")
            parts.setdefault(name, {})[part] = arrays[key]
    return [{name: x[""] if "" in x else Tally(**x) for name, x in parts.items()}]


def not_finite(metrics: Metrics, seed: int) -> str:
    """The names of the metrics (S, n) that are not finite for the seed of this index."""
    sums = {name: x.total if isinstance(x, Tally) else x for name, x in metrics.items()}
    names = [name for name, x in sums.items() if not np.isfinite(x[seed]).all()]
    return ", ".join(sorted(names)) or "parameters"
