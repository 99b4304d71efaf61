"""Writing files that a crash, of the process or the machine, leaves whole."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path


def write_beside(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or nothing, and the last of many writers wins."""
    partial = path.with_name(f"{path.name}.{unique_name()}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or the new name may outlive a power cut, and the content not
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def unique_name() -> str:
    """A part of a file's name that no other writer has: not of this host, nor of another one."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
