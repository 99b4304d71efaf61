"""Arrays that several processes share; needs no JAX."""

from __future__ import annotations

import math
import mmap
import os
import tempfile

import numpy as np

from marsrl.envs.host.layout import Layout, Parts

_ALIGNED = 64  # bytes, a cache line


def parts(layout: Layout, num_envs: int) -> Parts:
    """All that passes between a program and the environments that it plays, each (E, ...)."""
    step = layout.outputs
    of_one = {
        "go": ((), "bool"),  # which environments a command is for
        "seed": ((), "uint32"),  # of the next start
        "action": (layout.action_shape, layout.action_dtype),
        "length": ((), "int32"),  # steps of the episode so far
        **step,
        # the fresh start of an environment whose episode has just ended
        **{f"start/{name}": part for name, part in step.items() if name in STARTS},
    }
    return {name: ((num_envs, *shape), dtype) for name, (shape, dtype) in of_one.items()}


STARTS = ("obs", "global_state", "action_mask", "agent_mask")
"""What is not the same in every first time step."""


def new_file() -> int:
    """An empty file without a name, as a descriptor: it is gone with the last who holds it.

    So nothing is left behind by a process that is killed, unlike a segment of
    `multiprocessing.shared_memory`, and no container's limit on /dev/shm applies.
    """
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create("marsrl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def arrays(file: int, parts: Parts) -> dict[str, np.ndarray]:
    """The arrays in a file, which is made as long as they need; they keep it mapped."""
    starts, size = {}, 0
    for name, (shape, dtype) in parts.items():
        starts[name] = size
        num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        size += -(-num_bytes // _ALIGNED) * _ALIGNED
    if os.fstat(file).st_size < size:
        os.ftruncate(file, size)
    memory = mmap.mmap(file, size)
    return {
        name: np.ndarray(shape, dtype, memory, starts[name])
        for name, (shape, dtype) in parts.items()
    }
