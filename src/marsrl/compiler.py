"""What the code does for the sake of XLA's compiler, on CPUs above all; elsewhere it is plain JAX.

What is here was measured on 2026-11-30 with jax 0.10.2 on two cores (`benchmarks/workarounds.py`,
docs/speed.md), so that it can go once a compiler needs it no more. Beside these, with what each
gained when it came: gradients and Adam work on one flat vector (`learner.update`; an update of the
MPE row 14 % faster on two devices), a device that holds one seed runs it without `vmap`
(`devices.sharding.spread`; a second start in two thirds of the time), the GRU has one product for
all gates and a backward pass of its own (`learner.recurrent`; updates of the MPE row 70 % faster),
and a convolution is a product of patches (`learner.layers.Conv`; three seeds in one program,
forward 2 to 3 and gradient 6 times as fast).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax


def compiler_options(platform: str, once: bool = False) -> dict[str, Any] | None:
    """What halves the time that a CPU's compiler takes, and costs an update up to 7 %.

    None for another platform than "cpu". With `once`, for a program that runs once.
    """
    if platform != "cpu":
        return None
    quick = once or jax.config.read("jax_disable_most_optimizations")
    options: dict[str, Any] = {"xla_backend_optimization_level": 0 if quick else 1}
    if jax.__version_info__ < (0, 11):  # later compilers have but one way to emit fused operations
        options["xla_cpu_use_fusion_emitters"] = False
    return options


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Tracing makes many objects that stay; searching them takes a seventh of a second start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
