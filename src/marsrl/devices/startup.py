"""How a program of marsrl sets JAX up before its first use; importing this does not import JAX."""

from __future__ import annotations

import functools
import os
import re
import warnings
from pathlib import Path
from typing import Any

from marsrl.config import Layout
from marsrl.errors import Notice, UserError
from marsrl.system import num_cores


def configure_jax(cores: int | None = None) -> None:
    """Lets JAX use every CPU core, and keep compiled programs between starts, as the commands do.

    In Python call it first, as `marsrl.configure_jax()`: without it JAX has one CPU device, on
    which seeds wait for each other, and compiles all programs anew at each start. Programs are kept
    in `~/.cache/marsrl`, or in the folder `$MARSRL_CACHE`.

    Args:
        cores: not more devices than this; default: `marsrl.system.num_cores`.

    Raises:
        UserError: JAX is in use already, with another number of devices.
    """
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

    Raises:
        UserError: JAX is in use already, with another number of devices.
    """
    import jax

    cores = num_cores() if most is None else min(most, num_cores())
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError as error:
        there = len(jax.devices("cpu"))
        if there != cores:
            raise UserError(
                f"JAX is in use already, with {there} CPU devices, so it cannot have {cores}: call "
                "configure_jax before anything is computed; in a notebook, restart it"
            ) from error


def warn_of_idle_cores(layout: Layout) -> None:
    """Warns where JAX has one CPU device, and a training could be spread over more cores."""
    import jax

    cores = num_cores()
    usable = max(size for size in layout.shapes if size <= cores)
    if layout.devices is None and usable > 1 and [d.platform for d in jax.devices()] == ["cpu"]:
        warnings.warn(
            f"trains on one of {cores} cores: call marsrl.configure_jax() before JAX is used, or "
            "say devices = 1",
            Notice,
            stacklevel=5,  # where train was called
        )


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
