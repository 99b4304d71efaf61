"""What is wrong with a run folder, and what can be made right again: `marsrl doctor RUN`.

Nothing is ever deleted that is not made anew from a copy, but for what an interruption left
unfinished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from marsrl.errors import UserError, command
from marsrl.files import leftovers, remove_leftovers, unused, write_beside
from marsrl.runs.checkpoint import Checkpoints, clear
from marsrl.runs.folder import (
    CONFIG,
    METRICS,
    STATUS,
    RunFolder,
    of_seeds,
    outward_links,
    resume_command,
    seed_states,
)
from marsrl.runs.followers import MEMORY
from marsrl.runs.lock import Lock, writer_of
from marsrl.runs.log import read_lines
from marsrl.runs.records import DamagedError, Row, from_file, to_line, unchecked


class Finding(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        text: what, in one line.
        remedy: what `repair` does about it, or what somebody can do.
        mend: does it; None if nothing can.
    """

    text: str
    remedy: str
    mend: Callable[[], None] | None = None


def is_run(path: Path) -> bool:
    """Whether a folder is, or was, a run's."""
    return any((path / name).exists() for name in (CONFIG, METRICS, "checkpoints"))


def examine(path: Path, usable: bool = True) -> list[Finding]:
    """Everything that is wrong with a run folder; nothing is changed.

    Args:
        path: the folder.
        usable: whether a run must have what going on with it and its team need, beyond its rows:
            those of a store that was made of results have no checkpoints.

    Raises:
        UserError: it is no run folder, or another process writes it.
    """
    if not is_run(path):
        why = f"it has no {CONFIG}" if path.exists() else "there is no such folder"
        raise UserError(f"{path} is not a run folder: {why}")
    folder, checkpoints = RunFolder(path), Checkpoints(path / "checkpoints")
    if writer := writer_of(path):
        raise UserError(f"{path} is being written by {writer}; it can be examined after that")
    links = outward_links(path)
    if links:
        return [
            Finding(f"{link} is a link out of the run folder", "remove it, or copy it in")
            for link in links
        ]
    faults = {update: checkpoints.fault(update) for update in checkpoints.complete()}
    newest = max((update for update, fault in faults.items() if not fault), default=None)
    about = {} if newest is None else checkpoints.about(newest)
    of_files = [
        *_leftovers(folder),
        *_config(folder, about),
        *_status(folder, newest, about),
        *_log(folder, checkpoints, newest),
        *_checkpoints(checkpoints, faults, newest),
        *_followers(folder),
    ]
    return of_files or (_end(folder, newest) if usable else [])


def repair(path: Path) -> tuple[list[Finding], list[Finding]]:
    """Mends what can be mended, and returns that, and what is left.

    Raises:
        UserError: it is no run folder, or another process writes it.
    """
    found, mended = examine(path), []
    with Lock(path):
        for finding in found:
            if finding.mend:
                with contextlib.suppress(UserError):  # it is then still found below
                    finding.mend()
                    mended.append(finding)
    return mended, examine(path)


def accept(path: Path) -> None:
    """Takes the configuration of a run as somebody has edited it, from now on.

    Raises:
        UserError: it is no configuration that a run could use, or another process writes the run.
    """
    folder = RunFolder.open(path)
    with Lock(path):
        folder.accept_config()


def _leftovers(folder: RunFolder) -> list[Finding]:
    found = leftovers(folder.path) + leftovers(folder.checkpoints)
    if not found:
        return []
    names = ", ".join(str(path.relative_to(folder.path)) for path in found)

    def mend() -> None:
        remove_leftovers(folder.path)
        clear(folder.checkpoints)

    return [Finding(f"left unfinished by an interruption: {names}", "deletes them", mend)]


def _config(folder: RunFolder, about: Row) -> list[Finding]:
    try:
        folder.config()
        return []
    except UserError as error:
        text = str(error).partition(";")[0]
    copy, accept = about.get("config"), command("doctor", folder.path, "--accept")
    try:
        folder.edited_config()
        acceptable = True
    except UserError:
        acceptable = False
    if not isinstance(copy, dict):
        none = "no checkpoint has a copy of it"
        return [Finding(text, f"if you edited it: {accept}" if acceptable else none)]
    try:
        now = unchecked(folder.path / CONFIG).get("config")
    except DamagedError:
        now = None
    changed = [
        f"{name} is {now.get(name)!r}, was {copy.get(name)!r}"
        for name in (copy.keys() | now.keys() if isinstance(now, dict) else ())
        if isinstance(now, dict) and now.get(name) != copy.get(name)
    ]
    more = f": {', '.join(sorted(changed))}" if changed else ""
    remedy = "puts the settings back from the newest checkpoint's copy"
    remedy += f" (to keep them as they are now: {accept})" if acceptable else ""
    return [Finding(text + more, remedy, lambda: folder.put_back_config(copy))]


def _status(folder: RunFolder, newest: int | None, about: Row) -> list[Finding]:
    path = folder.path / STATUS
    try:
        status = from_file(path)
        if isinstance(status.get("status"), str) and isinstance(status.get("seeds"), dict):
            return []
        text = f"{path} is not a run's status"
    except DamagedError as error:
        text = str(error)

    def mend() -> None:
        config = folder.config()
        step = (newest or 0) * config.steps_per_update
        diverged, not_finite = of_seeds(about, "diverged"), of_seeds(about, "not_finite")
        seeds = seed_states(config.seeds, "stopped", step, diverged, not_finite)
        folder.write_status("stopped", step, seeds)

    return [
        Finding(text, "writes it anew from the newest checkpoint; resume then ends the run", mend)
    ]


def _log(folder: RunFolder, checkpoints: Checkpoints, newest: int | None) -> list[Finding]:
    content = folder.log.content()
    texts = [folder.log.damage()] if folder.log.damaged() else []
    if content and not content.endswith(b"\n"):
        texts.append(f"{folder.log.path} ends within a row")
    rows = [row for _, row in read_lines(content) if row is not None]
    if len({_key(row) for row in rows}) < len(rows):
        texts.append(f"{folder.log.path} has a row twice")
    copy = None if newest is None else checkpoints.file(newest, METRICS)
    saved = [] if copy is None else [row for _, row in read_lines(copy) if row is not None]
    lost = {_key(row) for row in saved} - {_key(row) for row in rows}
    if lost:
        texts.append(f"{folder.log.path} lacks {len(lost)} row(s) of {len(saved)} that were saved")
    if not texts:
        return []
    if copy is None:
        return [Finding("; ".join(filter(None, texts)), "no checkpoint has a copy of it")]
    known = {_key(row) for row in saved}
    later = {_key(row): row for row in rows if _key(row) not in known}

    aside = unused(folder.path / f"{METRICS}.damaged")

    def mend() -> None:
        if content:
            write_beside(aside, content)
        folder.log.replace(copy + b"".join(map(to_line, later.values())))

    remedy = (
        f"takes the {len(saved)} rows that the newest checkpoint has a copy of, and the "
        f"{len(later)} sound ones after them; the file as it is becomes {aside.name}"
    )
    return [Finding("; ".join(filter(None, texts)), remedy, mend)]


def _checkpoints(
    checkpoints: Checkpoints, faults: dict[int, str | None], newest: int | None
) -> list[Finding]:
    use = "nothing: there is no sound one" if newest is None else f"resume uses that of {newest}"
    found = [Finding(fault, use) for fault in faults.values() if fault]
    for update in checkpoints.updates():
        if update not in faults:
            found.append(Finding(f"{checkpoints.path(update)} has no checksums.json", use))
    return found


def _end(folder: RunFolder, newest: int | None) -> list[Finding]:
    """What a run that has come so far, and whose files are sound, must have and has not."""
    config, status, reached = folder.config(), folder.status(), folder.reached()
    again = resume_command(folder.path, config)
    if newest is None:
        if not reached:
            return []
        restart = resume_command(folder.path, config, restart=True)
        text = f"it has reached step {reached:,}, and no sound checkpoint is there"
        return [Finding(text, f"to begin anew, with what is there set aside: {restart}")]
    if status.get("status") != "finished":
        return []
    step = newest * config.steps_per_update
    if step < reached:
        text = f"it has ended at step {reached:,}, and its newest sound checkpoint is of {step:,}"
        return [Finding(text, f"trains from there again: {again}")]
    text = folder.lacks_scores()
    return [Finding(text, f"plays them again: {again}")] if text else []


def _followers(folder: RunFolder) -> list[Finding]:
    path = folder.path / MEMORY
    aside = unused(path.with_name(f"{path.name}.damaged"))

    def mend() -> None:
        path.replace(aside)

    try:
        if path.exists():
            from_file(path)
        return []
    except DamagedError as error:
        remedy = f"moves it to {aside.name}; name the followers again with --log"
        return [Finding(str(error), remedy, mend)]


def _key(row: Row) -> tuple[object, ...]:
    return row["kind"], row["seed"], row["step"]
