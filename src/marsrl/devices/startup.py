"""How a program of marsrl sets JAX up before its first use; importing this does not import JAX."""

from __future__ import annotations

import functools
import os
import re
import warnings
from pathlib import Path
from typing import Any

from marsrl.system import num_cores


def configure_jax(cores: int | None = None) -> None:
    """One device per core, or for so many; and compiled programs kept between starts."""
    import jax

    use_cpu_cores(cores)
    given = os.environ.get("MARSRL_CACHE")
    cache = Path(given or os.path.expanduser("~/.cache/marsrl"))  # noqa: PTH111 (it never fails)
    if not given and not cache.is_absolute():  # nobody's home
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many are small
    _mend(cache)


def use_cpu_cores(most: int | None = None) -> None:
    """Lets JAX see each CPU core as a device; call it before anything touches a device.

    One training program keeps about one core busy, so two seeds on two cores take as long as one.

    Args:
        most: not more devices than this; default: `marsrl.system.num_cores`.
    """
    import jax

    cores = num_cores() if most is None else min(most, num_cores())
    jax.config.update("jax_num_cpu_devices", cores)


@functools.cache  # once, however many commands a process runs
def _mend(cache: Path) -> None:
    """Removes programs that cannot be read, instead of a warning at each start from now on.

    A kill or a full disk leaves half of one. JAX warns, compiles, and never replaces a file that
    is there; what is removed when it warns, it writes anew.
    """
    show = warnings.showwarning

    def heed(message: Warning | str, *args: Any, **more: Any) -> None:
        name = re.match(
            r"Error reading persistent compilation cache entry for '(\w+)'", str(message)
        )
        if name is None:
            show(message, *args, **more)
            return
        for program in cache.glob(f"{name[1]}-*"):
            program.unlink(missing_ok=True)

    warnings.showwarning = heed
