"""Event files that TensorBoard shows: logs/tensorboard/seed-N."""

from __future__ import annotations

import json
from typing import Any

from marsrl.envs.adapters import require
from marsrl.files import remove
from marsrl.runs.followers import FOLDER, Followed, scalars
from marsrl.runs.records import Row


class TensorBoard:
    """A folder of events per seed, which TensorBoard shows as a run."""

    def __init__(self) -> None:
        self._library = require("tensorboardX", "tensorboard")
        self._writers: dict[int, Any] = {}

    def start(self, run: Followed, rows: list[Row]) -> str:
        """Writes the events of the log anew: the old files hold what came after it, too."""
        folder = run.path / FOLDER / "tensorboard"
        for seed in run.config.seeds:
            events = folder / f"seed-{seed}"
            remove(events)
            # with purge_step, whoever is watching forgets what the old files said
            writer = self._library.SummaryWriter(str(events), purge_step=0)
            settings = json.dumps(run.settings(seed), indent=2)
            writer.add_text("config", f"```\n{settings}\n```", 0)
            self._writers[seed] = writer
        self.append(rows)
        return f"tensorboard --logdir {folder}"

    def append(self, rows: list[Row]) -> None:
        """Adds events."""
        for row in rows:
            for name, value in scalars(row).items():
                self._writers[row["seed"]].add_scalar(name, value, row["step"])
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
