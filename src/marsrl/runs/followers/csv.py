"""The rows as tables that any program reads: logs/csv/train.csv, eval.csv, last.csv, final.csv."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from marsrl.files import write_beside
from marsrl.runs.followers import FOLDER, Followed, scalars
from marsrl.runs.records import Row


class CsvFiles:
    """A file per kind of row, with a line per seed and step; what was not measured is empty."""

    def __init__(self) -> None:
        self._folder = Path()
        self._columns: dict[str, list[str]] = {}

    def start(self, run: Followed, rows: list[Row]) -> str:
        """Writes the tables of the log anew."""
        self._folder = run.path / FOLDER / "csv"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._columns = {}
        for path in self._folder.glob("*.csv"):
            path.unlink()
        self.append(rows)
        return str(self._folder)

    def append(self, rows: list[Row]) -> None:
        """Appends lines."""
        for kind in dict.fromkeys(row["kind"] for row in rows):
            self._append(kind, [_cells(row) for row in rows if row["kind"] == kind])

    def close(self) -> None:
        """Nothing: every line is in its file."""

    def _append(self, kind: str, lines: list[dict[str, float]]) -> None:
        path = self._folder / f"{kind}.csv"
        known = self._columns.get(kind, ["seed", "step"])
        columns = list(dict.fromkeys([*known, *(name for line in lines for name in line)]))
        if self._columns.get(kind) == columns:
            with path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerows(lines)
            return
        before = []
        if kind in self._columns:  # something was measured for the first time
            with path.open(newline="") as file:
                before = list(csv.DictReader(file))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows([*before, *lines])
        write_beside(path, text.getvalue().encode())
        self._columns[kind] = columns


def _cells(row: Row) -> dict[str, float]:
    values = {name.removeprefix(f"{row['kind']}/"): x for name, x in scalars(row).items()}
    return {"seed": row["seed"], "step": row["step"], **values}
