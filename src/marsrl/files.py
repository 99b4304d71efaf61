"""Writing files that a crash, of the process or the machine, leaves whole."""

from __future__ import annotations

import os
from pathlib import Path


def write_beside(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing, and the last of many writers wins."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # or the new name may outlive a power cut, and the content not
    partial.replace(path)
