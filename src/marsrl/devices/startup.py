"""How a program of marsrl sets JAX up before its first use; importing this does not import JAX."""

from __future__ import annotations

import os
from pathlib import Path


def configure_jax() -> None:
    """One device per core, and compiled programs kept between starts."""
    import jax

    from marsrl.devices import sharding

    sharding.use_cpu_cores()
    cache = os.environ.get("MARSRL_CACHE", Path.home() / ".cache" / "marsrl")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many are small
