"""MLflow: a run per seed below one for them all, where MLflow is told to keep runs."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from marsrl.extras import require
from marsrl.runs.followers import Followed, scalars
from marsrl.runs.records import Row

_EXPERIMENT = "marsrl"  # unless MLFLOW_EXPERIMENT_NAME says otherwise
_TAG = "marsrl.id"
_STEP = "step"  # a metric of each kind of row, by which a run knows how far it was told
_MOST = 1000  # metrics at a time
_LONGEST = 500  # characters of a parameter
_LOCKED = "database is locked"  # MLflow waits for a while, but SQLite ends some conflicts at once
_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds before another try
_PAUSES_FOR_TABLES = (1.0, 3.0, 10.0)


class MLflow:
    """A run per seed, found again by a tag."""

    def __init__(self) -> None:
        self._library = require("mlflow", "mlflow")
        self._client: Any = None
        self._parent = ""
        self._runs: dict[int, str] = {}
        self._told: dict[tuple[int, str], float] = {}

    def start(self, run: Followed, rows: list[Row]) -> str:
        """Opens the runs and tells them of the log what they do not know."""
        self._client = Patient(connect(self._library))
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
        experiment = self._experiment(name)
        self._parent = self._open(experiment, run.id, run.name, {}).info.run_id
        for seed in run.config.seeds:
            tags = {"mlflow.parentRunId": self._parent}
            found = self._open(experiment, run.seed_id(seed), run.seed_name(seed), tags)
            self._runs[seed] = found.info.run_id
            self._write_settings(found, run.settings(seed))
            for metric, value in found.data.metrics.items():
                kind, _, rest = metric.partition("/")
                if rest == _STEP:
                    self._told[seed, kind] = value
        self.append(rows)
        return f"experiment {name} at {self._library.get_tracking_uri()}"

    def append(self, rows: list[Row]) -> None:
        """Logs the rows that are new."""
        for seed in self._runs:
            new = [
                row
                for row in rows
                if row["seed"] == seed and row["step"] > self._told.get((seed, row["kind"]), -1)
            ]
            metrics = [metric for row in new for metric in self._metrics(row)]
            for start in range(0, len(metrics), _MOST):
                self._client.log_batch(self._runs[seed], metrics[start : start + _MOST])
            self._told |= {(seed, row["kind"]): row["step"] for row in new}

    def close(self) -> None:
        """Marks the runs as ended."""
        for run_id in (*self._runs.values(), self._parent):
            self._client.set_terminated(run_id)

    def _experiment(self, name: str) -> str:
        """The id of an experiment, which is made if nobody has."""
        if known := self._client.get_experiment_by_name(name):
            return known.experiment_id
        try:
            return self._client.create_experiment(name)
        except Exception:
            if known := self._client.get_experiment_by_name(name):  # another run was quicker
                return known.experiment_id
            raise

    def _open(self, experiment: str, tag: str, name: str, tags: dict[str, str]) -> Any:
        """The run of this tag, which goes on, or a new one."""
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{tag}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0]
        return self._client.create_run(experiment, run_name=name, tags=tags | {_TAG: tag})

    def _write_settings(self, run: Any, settings: dict[str, Any]) -> None:
        """Parameters, and of those that have changed since, which MLflow does not allow, tags."""
        new, changed = self._library.entities.Param, self._library.entities.RunTag
        params, tags = [], []
        for name, text in ((name, str(value)[:_LONGEST]) for name, value in settings.items()):
            tag = f"marsrl.{name}"
            if name not in run.data.params:
                params.append(new(name, text))
            elif run.data.tags.get(tag, run.data.params[name]) != text:
                tags.append(changed(tag, text))
        if params or tags:
            self._client.log_batch(run.info.run_id, params=params, tags=tags)

    def _metrics(self, row: Row) -> list[Any]:
        """A row's metrics, how far it is as the last of them."""
        now = int(time.time() * 1000)
        values = scalars(row) | {f"{row['kind']}/{_STEP}": float(row["step"])}
        return [
            self._library.entities.Metric(_allowed(name), value, now, row["step"])
            for name, value in values.items()
        ]


def connect(library: Any) -> Any:
    """MLflow's client; if its SQLite file is new, another process may be making the same tables."""
    for pause in _PAUSES_FOR_TABLES if "sqlite:" in library.get_tracking_uri() else ():
        try:
            return library.MlflowClient()
        except Exception:  # of many kinds: a table or column that there is, an unfinished schema
            time.sleep(pause)
    return library.MlflowClient()


class Patient:
    """A client whose calls are made again while another process writes MLflow's SQLite file."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        """A method of the client."""
        call = getattr(self._client, name)

        def patient(*args: Any, **options: Any) -> Any:
            for pause in _PAUSES:
                try:
                    return call(*args, **options)
                except Exception as error:
                    if _LOCKED not in str(error):
                        raise
                    time.sleep(pause)
            return call(*args, **options)

        return patient


def _allowed(name: str) -> str:
    """A name without the characters that MLflow refuses."""
    return re.sub(r"[^\w./ -]", "_", name)
