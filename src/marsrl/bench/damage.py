"""What is wrong with the files of a job: each fault is a line, and none of them a traceback."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from marsrl.bench.plan import Job, differences
from marsrl.bench.rows import DIAGNOSTICS, TRUST_REGION
from marsrl.bench.tables import is_amount, record_fault
from marsrl.config import Config
from marsrl.errors import UserError, command, shown
from marsrl.runs.folder import CONFIG, STATUS, RunFolder, outward_links
from marsrl.runs.machine import CODE
from marsrl.runs.records import DamagedError, Row, from_file

_Key = tuple[str, int, int]
"""Kind, seed and step of a row."""
_MEASURED = {
    "train": ("seconds", "episode/return", "episode/length", "entropy", "approx_kl", *DIAGNOSTICS),
    "eval": ("return", "length"),
    "final": ("return",),
    "last": ("return",),
}


def faults(job: Job) -> Iterator[str]:
    """The faults of a job's run folder, in words that name the file; none if it has not begun."""
    if not (job.folder.exists() or job.folder.is_symlink()):
        return
    if not job.folder.is_dir():
        yield f"{job.folder} is no folder, expected that of a run"
        return
    for link in outward_links(job.folder):
        yield f"{link} is a link out of the run folder"
        return
    found = list(_config_faults(job))
    yield from found
    yield from run_faults(job.folder, job.config.seeds, complete=not found)


def run_faults(folder: Path, seeds: Collection[int], complete: bool = True) -> Iterator[str]:
    """The faults of the status and the log of a run, whatever its configuration.

    Args:
        folder: of the run.
        seeds: that it has.
        complete: whether its status can be asked what must be in the log.
    """
    found = list(status_faults(folder, seeds))
    yield from found
    yield from _log_faults(folder, seeds, complete and not found)


def check_run_sound(folder: Path, seeds: Collection[int]) -> None:
    """Raises UserError with the first fault of a run's status and log, if there is one."""
    for fault in run_faults(folder, seeds):
        raise UserError(f"{fault}; see what can be mended with: {command('doctor', folder)}")


def check_sound(store: object, job: Job) -> None:
    """Raises UserError with the first fault of a job's run folder, if there is one."""
    for fault in faults(job):
        raise UserError(f"{fault}; see what can be mended with: {command('doctor', store)}")


def check_evaluations(store: object, evaluated: dict[str, dict[str, frozenset[int]]]) -> None:
    """Refuses finished runs of a task that were not evaluated at the same steps.

    Args:
        store: what the error names as the place to look at.
        evaluated: task -> name of a run -> steps.

    Raises:
        UserError: an evaluation of one of them is not there.
    """
    for task, runs in evaluated.items():
        every = frozenset().union(*runs.values())
        for name, steps in runs.items():
            if missing := sorted(every - steps):
                raise UserError(
                    f"{name} has no evaluation at step {missing[0]}, which other runs of {task} "
                    f"have; see what can be mended with: {command('doctor', store)}"
                )


def _config_faults(job: Job) -> Iterator[str]:
    path = job.folder / CONFIG
    try:
        content = from_file(path)
    except DamagedError as error:
        yield str(error)
        return
    values, digest = content.get("config"), content.get("hash")
    if not isinstance(values, dict):
        yield f"{path} is not a run's config: it has no table 'config'"
        return
    if digest != job.config.hash:
        yield (
            f"{path} is of the configuration {shown(digest)}, not of {job.config.hash} as the "
            f"folder says: {differences(values, job.config.to_dict()) or 'by another version'}"
        )
        return
    try:
        config = Config.from_dict(values)
    except UserError as error:
        yield f"{path}: {error}"
        return
    if config.hash != digest or sorted(config.seeds) != sorted(job.config.seeds):
        yield f"{path} was edited or damaged: its settings are not those of its id and folder"
    origin = {name: content.get(name) for name in ("versions", "machine", "git")}
    later = {name: content[name] for name in ("resumed", "extended") if name in content}
    for name, value in (origin | later).items():
        if fault := record_fault(name, value):
            yield f"{path} has {fault}"


def status_faults(folder: Path, seeds: Collection[int]) -> Iterator[str]:
    """The faults of the status of a run with these seeds."""
    path = folder / STATUS
    try:
        status = from_file(path)
    except DamagedError as error:
        yield str(error)
        return
    right = {
        "status": isinstance(status.get("status"), str),
        "step": _is_step(status.get("step")),
        "seeds": isinstance(status.get("seeds"), dict),
        "seconds": _are_amounts(status.get("seconds", {})),
        "seeds_in_program": _is_step(status.get("seeds_in_program", 1)),
        "peak_memory_mb": is_amount(status.get("peak_memory_mb", 0)),
    }
    for name, is_right in right.items():
        if not is_right:
            yield f"{path} is not a run's status: its {name} is {shown(status.get(name))}"
            return
    for seed, state in status["seeds"].items():
        known = isinstance(state, dict) and isinstance(state.get("status"), str)
        if not re.fullmatch(r"[0-9]{1,10}", seed):
            yield f"{path} is not a run's status: it has a seed {shown(seed)}, expected a number"
            return
        if not known or not _is_step(state.get("step")):
            yield f"{path} is not a run's status: that of seed {shown(seed)} is {shown(state)}"
            return
    if status["status"] in ("finished", "diverged"):
        for seed in seeds:
            if str(seed) not in status["seeds"]:
                yield f"{path} says that the run has ended, and nothing of seed {seed}"


def _log_faults(path: Path, seeds: Collection[int], complete: bool) -> Iterator[str]:
    """Faults of metrics.jsonl; `complete`: whether the status can be asked what must be there."""
    folder = RunFolder(path)
    path = folder.log.path
    try:
        rows, damage = list(folder.rows()), folder.log.damage()
    except DamagedError as error:
        yield str(error)
        return
    if damage:
        yield damage
    found: set[_Key] = set()
    for row in rows:
        if fault := _row_fault(row, seeds):
            yield f"{path} {fault}"
            return
        key = row["kind"], row["seed"], row["step"]
        if key in found:
            yield f"{path} has the row of kind {key[0]}, seed {key[1]}, step {key[2]} twice"
            return
        found.add(key)
    if complete:
        yield from _missing_rows(folder, found)


def _missing_rows(folder: RunFolder, found: Collection[_Key]) -> Iterator[str]:
    """The rows that the log of a run lacks of seeds that have ended, each of a kind and seed once.

    Args:
        folder: whose configuration and status are sound.
        found: kind, seed and step of the rows that are there.
    """
    content = from_file(folder.path / CONFIG)
    steps = {kind: {step for x, _, step in found if x == kind} for kind in ("train", "eval")}
    if not content.get("extended"):  # or it was evaluated as its shorter length said
        steps["eval"] |= {*Config.from_dict(content["config"]).evaluation_steps}
    steps["train"] |= steps["eval"] - {0}
    # runs of before marsrl's code was recorded were not scored with their last parameters
    scores = ("final", "last") if CODE in folder.versions() else ("final",)
    scored = {(kind, seed) for kind, seed, _ in found}
    for seed, state in from_file(folder.path / STATUS)["seeds"].items():
        number, finished = int(seed), state["status"] == "finished"
        if not finished and state["status"] != "diverged":
            continue
        for kind in scores if finished else ():
            if (kind, number) not in scored:
                yield f"{folder.log.path} has no {kind} row of seed {seed}, which has finished"
        for kind, name in (("eval", "evaluation"), ("train", "train row")):
            for step in sorted(steps[kind]):
                its_own = finished or step == 0 or step < state["step"]
                if its_own and (kind, number, step) not in found:
                    where = f"of seed {seed} at step {step}"
                    yield f"{folder.log.path} has no {name} {where}, which has ended"
                    break


def _row_fault(row: Row, seeds: Collection[int]) -> str | None:
    """What is wrong with a row that is JSON; None if nothing is."""
    kind, seed, step = row["kind"], row["seed"], row["step"]
    where = f"has at step {shown(step)} of seed {shown(seed)}"
    if kind not in _MEASURED:
        return f"{where} a row of kind {shown(kind)}, expected one of {', '.join(_MEASURED)}"
    if seed not in seeds or not _is_step(step):
        return f"{where} a row, expected a seed of its run, and a step of 0 or greater"
    for name in _MEASURED[kind]:
        if not _is_measured(row.get(name, "nothing")):
            return f"{where} {name} = {shown(row.get(name))}, expected a number or null"
    for name in TRUST_REGION:
        if not _is_measured(row.get(name)):
            return f"{where} {name} = {shown(row[name])}, expected a number or null"
    if kind == "train":
        return None if is_amount(row["seconds"]) else f"{where} seconds = {shown(row['seconds'])}"
    returns = row.get("returns")
    if not isinstance(returns, list) or not returns or not all(map(_is_measured, returns)):
        return f"{where} returns = {shown(returns)}, expected a list of numbers"
    return None


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _are_amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_amount, value.values()))


def _is_measured(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < 1e100)
