"""Weights & Biases: a run per seed, all of them in one group."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from marsrl.extras import require
from marsrl.files import write_beside
from marsrl.runs.followers import FOLDER, Followed, scalars
from marsrl.runs.records import Row

_PROJECT = "marsrl"  # unless WANDB_PROJECT says otherwise


class WeightsAndBiases:
    """A run per seed, whose id is kept, so that it goes on when the run does.

    W&B cannot take anything back, nor tell what it has while it is offline: the run folder
    remembers how far each series was told.
    """

    def __init__(self) -> None:
        self._library = require("wandb", "wandb")
        self._runs: dict[int, Any] = {}
        self._memory = Path()
        self._told: dict[str, int] = {}

    def start(self, run: Followed, rows: list[Row]) -> str:
        """Opens the runs and tells them of the log what they do not know."""
        self._memory = run.path / FOLDER / "wandb.json"
        self._told = _read(self._memory)
        for seed in run.config.seeds:
            self._runs[seed] = self._open(run, seed)
        self.append(rows)
        opened = self._runs.values()
        if any(one.offline for one in opened):
            return f"offline; later: wandb sync {' '.join(str(Path(x.dir).parent) for x in opened)}"
        return " ".join(str(one.url) for one in opened)

    def append(self, rows: list[Row]) -> None:
        """Logs the rows that are new."""
        for row in rows:
            series = f"{row['seed']} {row['kind']}"
            if row["step"] > self._told.get(series, -1):
                self._runs[row["seed"]].log({"step": row["step"], **scalars(row)})
                self._told[series] = row["step"]
        write_beside(self._memory, json.dumps(self._told).encode())

    def close(self) -> None:
        """Uploads what is left."""
        for one in self._runs.values():
            one.finish()

    def _open(self, run: Followed, seed: int) -> Any:
        opened = self._library.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            group=run.id,
            id=run.seed_id(seed),
            name=run.seed_name(seed),
            config=run.settings(seed),
            allow_val_change=True,  # a run may have been extended
            resume="allow",
            reinit="create_new",  # one process has all seeds
            settings=self._library.Settings(silent=True, console="off"),  # it asks nothing then
        )
        opened.define_metric("*", step_metric="step")
        return opened


def _read(path: Path) -> dict[str, int]:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
