"""What a run was made with: versions, git commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from marsrl.devices.system import num_cores

Row = dict[str, Any]


def describe_machine() -> Row:
    """Versions, git commit and machine, for config.json and `marsrl doctor`."""
    import jax

    names = ("marsrl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
    names += ("jaxmarl", "jumanji", "brax", "mujoco")  # the rules of the environments
    device = jax.local_devices()[0]
    return {
        "versions": {name: _version(name) for name in names},
        "git": _git(),
        "machine": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": num_cores(),
            "device": f"{device.platform} ({device.device_kind})",
            "num_devices": jax.device_count(),
            "num_processes": jax.process_count(),
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git() -> Row | None:
    """Commit and dirty flag of the source tree, or None for an installed package."""
    folder = Path(__file__).parent
    try:
        commit = _git_output(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git_output(folder, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git_output(folder: Path, *args: str) -> str:
    command = ["git", "-C", str(folder), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
