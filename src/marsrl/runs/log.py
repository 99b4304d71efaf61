"""The log of a run, metrics.jsonl: rows that are appended, and never read wrongly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from marsrl.files import write_beside
from marsrl.runs.records import DamagedError, Row, from_line, has_check, to_line


class Log:
    """The rows of one run; a damaged one is left out, and told by its line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, rows: list[Row]) -> None:
        """Appends rows at once; what is not finite becomes null.

        Raises:
            OSError: the disk is full, say; the log is then as it was.
        """
        text = b"".join(map(to_line, rows))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                while text:
                    text = text[os.write(descriptor, text) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def replace(self, content: bytes) -> None:
        """Puts other rows in place of all."""
        if content != self.content():
            write_beside(self.path, content)

    def content(self) -> bytes:
        """The file as it is; empty if it is not there."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DamagedError(f"cannot read {self.path}: {error.strerror}") from error

    def rows(self) -> Iterator[Row]:
        """The rows that are sound; a last line that a crash cut off is no row."""
        return (row for _, row in self._lines() if row is not None)

    def damaged(self) -> list[int]:
        """The numbers, from 1, of the lines that hold no row any more."""
        return [number for number, row in self._lines() if row is None]

    def damage(self) -> str | None:
        """What is wrong with the log, in one line."""
        damaged = self.damaged()
        if not damaged:
            return None
        lines = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        return f"{self.path}: {len(damaged)} damaged row(s) left out, line(s) {lines}"

    def _lines(self) -> Iterator[tuple[int, Row | None]]:
        return read_lines(self.content())


def read_lines(content: bytes) -> Iterator[tuple[int, Row | None]]:
    """The number of each line that is complete, and its row, or None if it is damaged."""
    lines = content.split(b"\n")[:-1]
    checked = any(map(has_check, lines))
    return ((i, from_line(line, checked)) for i, line in enumerate(lines, start=1))
