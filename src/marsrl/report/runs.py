"""A run folder, read into arrays with one row per seed, and checked to be complete."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.report.stats import Floats
from marsrl.runs.records import from_line, has_check, is_sound

TRAIN_METRICS = (
    "episode/return",
    "entropy",
    "gradient/dead",
    "gradient/corrective",
    "ratio/collapsed",
    "ratio/min",
    "ratio/max",
)
"""What the reports use of a training row."""


class Run(NamedTuple):
    """The measurements of one run: S seeds, T training rows and V evaluations of each.

    Attributes:
        path: the run folder.
        config: what was run.
        finished: True once every seed has finished or diverged.
        diverged: (S,) the environment step at which a seed diverged; infinite if it did not.
        train_step: (T,) environment steps.
        train: (S, T) for each of `TRAIN_METRICS`; NaN where nothing was measured, and from the
            step on at which a seed diverged.
        eval_step: (V,) environment steps.
        eval_return: (S, V); NaN from the step on at which a seed diverged.
        final: (S,) return of the best evaluation's parameters on new episodes; NaN if missing.
    """

    path: Path
    config: Config
    finished: bool
    diverged: Floats
    train_step: Floats
    train: dict[str, Floats]
    eval_step: Floats
    eval_return: Floats
    final: Floats

    @property
    def train_return(self) -> Floats:
        """(S, T) mean return of the episodes that ended; NaN where none did."""
        return self.train["episode/return"]

    @property
    def diverged_steps(self) -> dict[int, int]:
        """The step of each seed that diverged."""
        pairs = zip(self.config.seeds, self.diverged, strict=True)
        return {seed: int(step) for seed, step in pairs if math.isfinite(step)}


def read_run(path: Path) -> Run:
    """Reads a run folder.

    Raises:
        UserError: a file is missing or corrupt, a seed lacks a row that the other seeds have, or
            a row appears twice or belongs to no seed of the run.
    """
    config = Config.from_dict(
        _field(path / "config.json", _read_json(path / "config.json"), "config")
    ).settled()
    finished, diverged = _read_status(path / "status.json", config.seeds)
    rows = _read_rows(path / "metrics.jsonl", config.seeds)
    for kind in ("train", "eval"):
        # a run whose seeds all diverge at once has nothing but the evaluation before training
        if not rows[kind] and (kind == "eval" or np.isinf(diverged).any()):
            raise UserError(f"{path / 'metrics.jsonl'} has no rows of kind {kind!r}")
    train_step, train = _grid(path, rows["train"], TRAIN_METRICS, config.seeds, diverged)
    eval_step, evaluation = _grid(path, rows["eval"], ("return",), config.seeds, diverged)
    eval_return = evaluation["return"]
    unmeasured = np.isnan(eval_return) & (eval_step < diverged[:, None])
    if unmeasured.any():
        seed, step = np.argwhere(unmeasured)[0]
        raise UserError(
            f"{path}: the evaluation of seed {config.seeds[seed]} at step {eval_step[step]:.0f} "
            "has no finite return"
        )
    final = {
        seed: _number(f"{path}: the final row of seed {seed}", row, "return")
        for (seed, _), row in rows["final"].items()
    }
    return Run(
        path=path,
        config=config,
        finished=finished,
        diverged=diverged,
        train_step=train_step,
        train=train,
        eval_step=eval_step,
        eval_return=eval_return,
        final=np.array([final.get(seed, math.nan) for seed in config.seeds]),
    )


def lowest(*values: Floats) -> float:
    """The lowest of all numbers; NaN where there are none."""
    return float(np.fmin.reduce(np.concatenate([x.ravel() for x in values]), initial=np.nan))


def lowest_once_diverged(run: Run, step: Floats, values: Floats, lowest: float) -> Floats:
    """Lets a diverged seed count as `lowest` from its divergence on, instead of dropping it.

    Args:
        run: knows who diverged, and when.
        step: (T,) environment steps.
        values: (S, T).
        lowest: the lowest return of all.
    """
    return np.where(step >= run.diverged[:, None], lowest, values)


_Rows = dict[tuple[int, int], dict[str, Any]]


def _grid(
    path: Path, rows: _Rows, keys: tuple[str, ...], seeds: tuple[int, ...], diverged: Floats
) -> tuple[Floats, dict[str, Floats]]:
    """The logged steps (T,), and each key's values at them (S, T)."""
    steps = sorted({step for _, step in rows})
    values = {key: np.full((len(seeds), len(steps)), np.nan) for key in keys}
    for i, (seed, end) in enumerate(zip(seeds, diverged, strict=True)):
        for t, step in enumerate(steps):
            row = rows.get((seed, step))
            if row is None and step < end:
                raise UserError(f"{path}: seed {seed} has no row at step {step}, other seeds have")
            if row is not None and step < end:
                for key in keys:
                    name = f"{path}: the {row['kind']} row of seed {seed} at step {step}"
                    values[key][i, t] = _number(name, row, key)
    return np.array(steps, np.float64), values


def _read_rows(path: Path, seeds: tuple[int, ...]) -> dict[str, _Rows]:
    rows: dict[str, _Rows] = {"train": {}, "eval": {}, "final": {}, "last": {}}
    lines = _read_text(path).splitlines()
    checked = any(has_check(line.encode()) for line in lines)
    for number, line in enumerate(lines, start=1):
        name = f"{path}, line {number},"
        if checked and from_line(line.encode(), checked) is None:
            raise UserError(
                f"{name} is damaged; see what is left with: marsrl doctor {path.parent}"
            )
        row = _parse(name, line)
        kind, seed, step = _field(name, row, "kind"), _field(name, row, "seed"), _step(name, row)
        if kind not in rows:
            raise UserError(f"{name} is of kind {kind!r}, expected one of {', '.join(rows)}")
        if seed not in seeds:
            raise UserError(f"{name} is of seed {seed!r}, which the run does not have: {seeds}")
        if (seed, step) in rows[kind]:
            raise UserError(f"{name} is a second {kind} row of seed {seed} at step {step}")
        rows[kind][seed, step] = row
    return rows


def _read_status(path: Path, seeds: tuple[int, ...]) -> tuple[bool, Floats]:
    """Whether every seed has ended, and the step at which each diverged (S,)."""
    by_seed = _field(path, _read_json(path), "seeds")
    of_seeds = [_field(path, by_seed, str(seed)) for seed in seeds]
    states = [_field(path, of_seed, "status") for of_seed in of_seeds]
    steps = [_step(path, of_seed) for of_seed in of_seeds]
    diverged = [
        s if state == "diverged" else math.inf for s, state in zip(steps, states, strict=True)
    ]
    return set(states) <= {"finished", "diverged"}, np.array(diverged, np.float64)


def _read_json(path: Path) -> dict[str, Any]:
    content = _parse(str(path), _read_text(path))
    if not is_sound(content):
        raise UserError(
            f"{path} was edited or damaged: its check differs; see what is wrong with: "
            f"marsrl doctor {path.parent}"
        )
    return content


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeError) as error:
        raise UserError(f"cannot read {path}, expected in a run folder: {error}") from error


def _parse(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{name} holds {value!r}, expected a JSON object")
    return value


def _field(name: object, values: dict[str, Any], key: str) -> Any:
    if key not in values:
        raise UserError(f"{name} has no {key!r}")
    return values[key]


def _step(name: object, values: dict[str, Any]) -> int:
    step = _field(name, values, "step")
    if not isinstance(step, int):
        raise UserError(f"{name} has step = {step!r}, expected a whole number")
    return step


def _number(name: object, values: dict[str, Any], key: str) -> float:
    """NaN for what was not measured, or not finite."""
    value = _field(name, values, key)
    if not isinstance(value, int | float | None):
        raise UserError(f"{name} has {key} = {value!r}, expected a number or null")
    return value if value is not None and math.isfinite(value) else math.nan
