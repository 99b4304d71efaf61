"""What a run was made with: versions, git commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from marsrl.digest import library_digest
from marsrl.runs.records import Row
from marsrl.system import num_cores

CODE = "marsrl code"
"""What versions call the digest of marsrl's own source, which a version number alone hides."""
DECISIVE = (CODE, "jax", "jaxlib", "flax", "optax", "jaxmarl", "jumanji", "brax", "mujoco")
"""The versions that decide the numbers of a run: of the learner, and the environments' rules."""


def describe_machine() -> Row:
    """Versions, git commit and machine, for config.json and `marsrl doctor`."""
    import jax

    device = jax.local_devices()[0]
    return {
        "versions": describe_versions(),
        "git": describe_source(),
        "machine": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cores": num_cores(),
            "device": f"{device.platform} ({device.device_kind})",
            "num_devices": jax.device_count(),
            "num_processes": jax.process_count(),
        },
    }


def describe_versions() -> dict[str, str | None]:
    """Versions of marsrl and of what it stands on, and a digest of its own code; needs no JAX."""
    names = ("marsrl", *DECISIVE[1:], "orbax-checkpoint")
    return {name: _version(name) for name in names} | {CODE: library_digest()}


def describe_source() -> Row | None:
    """Commit and dirty flag of marsrl's own files, or None for an installed package."""
    folder = Path(__file__).parents[1]
    try:
        commit = _git_output(folder, "rev-parse", "HEAD")
        dirty = bool(_git_output(folder, "status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": dirty}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_output(folder: Path, *args: str) -> str:
    command = ["git", "-C", str(folder), *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
