"""A run folder: configuration, status and metrics on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.files import write_beside
from marsrl.runs.machine import Row, describe_machine


class RunFolder:
    """The files of one run: config.json, status.json, metrics.jsonl, checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics = path / "metrics.jsonl"

    @staticmethod
    def create(path: Path, config: Config, origin: Row | None = None) -> None:
        """Makes a new folder; an existing one is refused, never overwritten.

        Args:
            path: where.
            config: of the run.
            origin: versions, git and machine that it is from; default: this process's.

        Raises:
            UserError: it exists, or cannot be written.
        """
        try:
            path.mkdir(parents=True)
        except FileExistsError as error:
            raise UserError(
                f"{path} exists; choose another --out, or continue it with: marsrl resume {path}"
            ) from error
        except OSError as error:
            raise UserError(f"cannot create the run folder {path}: {error.strerror}") from error
        folder = RunFolder(path)
        content = {
            "config": config.to_dict(),
            "hash": config.hash,
            **(origin or describe_machine()),
        }
        folder._write("config.json", content)
        folder.write_status("running", 0, {})

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens an existing run folder; raises UserError if it is none."""
        if not (path / "config.json").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    def config(self) -> Config:
        """The run's configuration."""
        try:
            content = json.loads((self.path / "config.json").read_text())["config"]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{self.path / 'config.json'} is not a run's config: {error}"
            ) from error
        return Config.from_dict(content)

    def status(self) -> Row:
        """The latest status."""
        return json.loads((self.path / "status.json").read_text())

    def seconds(self) -> Row:
        """Wall time of the sessions so far, by purpose; empty if status.json does not tell it."""
        return self._status_if_sound().get("seconds", {})

    def check_resumable(self) -> None:
        """Raises UserError if going on would train an ended run again, and drop its metrics."""
        status = self._status_if_sound().get("status")
        if status in ("finished", "diverged") and not list(self.checkpoints.glob("*")):
            raise UserError(
                f"{self.path} has {status} and has no checkpoints; to train it again, start a new "
                "run with its config.json's settings"
            )

    def _status_if_sound(self) -> Row:
        """The latest status; empty if a crash, which the checkpoints outlive, cut it off."""
        try:
            return self.status()
        except (OSError, ValueError):
            return {}

    def write_status(self, status: str, step: int, seeds: dict[str, Row], **more: Any) -> None:
        """Replaces status.json: the run's status, its step, and each seed's."""
        self._write("status.json", {"status": status, "step": step, "seeds": seeds, **more})

    def append(self, rows: list[Row]) -> None:
        """Appends rows to metrics.jsonl; what is not finite becomes null."""
        with self._metrics.open("a") as file:
            file.writelines(json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> Iterator[Row]:
        """The rows of metrics.jsonl; a last line that a crash cut off is left out."""
        if not self._metrics.exists():
            return
        for line in self._metrics.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)

    def rewind(self, step: int) -> None:
        """Drops the rows after `step`, which a resumed run writes again."""
        kept = [row for row in self.rows() if row["step"] <= step and row["kind"] != "final"]
        write_beside(self._metrics, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def _write(self, name: str, content: Row) -> None:
        write_beside(self.path / name, (json.dumps(content, indent=2) + "\n").encode())


class Onlooker(RunFolder):
    """A run folder that another process writes."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the folder that the other process has made; raises UserError if it is not here."""
        if not path.is_dir():
            raise UserError(
                f"{path.absolute()} is not to be seen by every process; choose a folder that all "
                "of them share"
            )
        return cls(path)

    def write_status(self, status: str, step: int, seeds: dict[str, Row], **more: Any) -> None:
        """Nothing."""

    def append(self, rows: list[Row]) -> None:
        """Nothing."""

    def rewind(self, step: int) -> None:
        """Nothing."""


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
