"""Event files that TensorBoard shows: logs/tensorboard/seed-N."""

from __future__ import annotations

import json
import time
from typing import Any

from marsrl.extras import require
from marsrl.files import remove
from marsrl.runs.followers import FOLDER, Followed, scalars
from marsrl.runs.records import Row


class TensorBoard:
    """A folder of events per seed, which TensorBoard shows as a run.

    Events are written at once: the library's own writer has a thread for it, and waits for ever for
    one that has died of a full disk.
    """

    def __init__(self) -> None:
        require("tensorboardX", "tensorboard")
        self._writers = require("tensorboardX.event_file_writer", "tensorboard")
        self._events = require("tensorboardX.proto.event_pb2", "tensorboard")
        self._summaries = require("tensorboardX.summary", "tensorboard")
        self._files: dict[int, Any] = {}

    def start(self, run: Followed, rows: list[Row]) -> str:
        """Writes the events of the log anew: the old files hold what came after it, too."""
        folder = run.path / FOLDER / "tensorboard"
        for seed in run.config.seeds:
            remove(folder / f"seed-{seed}")
            (folder / f"seed-{seed}").mkdir(parents=True)
            self._files[seed] = self._writers.EventsWriter(str(folder / f"seed-{seed}" / "events"))
            restart = self._events.SessionLog(status=self._events.SessionLog.START)
            self._write(seed, 0, session_log=restart)  # whoever watches forgets the old files
            settings = f"```\n{json.dumps(run.settings(seed), indent=2)}\n```"
            self._write(seed, 0, summary=self._summaries.text("config", settings))
        self.append(rows)
        return f"tensorboard --logdir {folder}"

    def append(self, rows: list[Row]) -> None:
        """Adds events."""
        for row in rows:
            for name, value in scalars(row).items():
                self._write(row["seed"], row["step"], summary=self._summaries.scalar(name, value))
        for file in self._files.values():
            file.flush()

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()

    def _write(self, seed: int, step: int, **what: Any) -> None:
        event = self._events.Event(wall_time=time.time(), step=step, **what)
        self._files[seed].write_event(event)
