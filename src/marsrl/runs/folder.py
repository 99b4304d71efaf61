"""A run folder: configuration, status and metrics on disk."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeGuard

from marsrl.config import Config
from marsrl.errors import UserError, command
from marsrl.files import (
    check_named,
    is_temporary,
    numbered,
    remove_leftovers,
    sync,
    temporary,
    write_beside,
)
from marsrl.runs.followers import NOBODY, Followers, begin_anew
from marsrl.runs.log import Log
from marsrl.runs.records import DamagedError, Row, from_file, read_or_empty, to_file, unchecked
from marsrl.runs.sources import made_with, trained_with
from marsrl.trust import KINDS, is_foreign

CONFIG = "config.json"
STATUS = "status.json"
METRICS = "metrics.jsonl"
PASSED = "passed:"
"""How the records of a run begin to name an environment or objective that was passed."""
PICTURES = CURVE, EPISODE = "learning_curve.png", "episode.gif"
"""What is drawn of a run at its end."""


class Times(NamedTuple):
    """What a run has taken.

    Attributes:
        own: seconds by what for, of each program that trained it the share of its seeds.
        wall: seconds of these programs.
    """

    own: dict[str, float]
    wall: float


class RunFolder:
    """The files of one run: config.json, status.json, metrics.jsonl, checkpoints/.

    Attributes:
        followers: are told the rows of the log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.log = Log(path / METRICS)
        self.followers: Followers = NOBODY

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuses a place where no new run folder can be made; an empty folder is one.

        Raises:
            UserError: something is there, or it cannot be written.
        """
        check_named(path)
        try:
            empty = path.is_dir() and not any(path.iterdir())
            if (path.exists() or path.is_symlink()) and not empty:
                raise FileExistsError
            if empty and (path.is_symlink() or path.is_mount()):  # nothing can be renamed to it
                kind = "a link" if path.is_symlink() else "where something is mounted"
                raise UserError(f"{path} is {kind}; choose a folder in it, such as {path / 'mine'}")
            place = next(p for p in path.absolute().parents if p.exists())
        except OSError as error:
            raise _cannot_create(path, error) from error
        if not place.is_dir():
            raise UserError(f"cannot create the run folder {path}: {place} is no folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"cannot create the run folder {path}: {place} cannot be written")

    @staticmethod
    def create(path: Path, config: Config, origin: Row | None = None) -> None:
        """Makes a new folder, at once; one with something in it is refused, never overwritten.

        Args:
            path: where.
            config: of the run.
            origin: versions, git and machine that it is from; default: this process's, and the
                digests of own code.

        Raises:
            UserError: it exists, or cannot be written.
        """
        RunFolder.check_free(path)
        beside = temporary(path)
        try:
            beside.mkdir(parents=True)
            folder = RunFolder(beside)
            content = {"config": config.to_dict(), "hash": config.hash}
            folder._write(CONFIG, content | (origin or made_with(config)))
            folder.write_status("running", 0, {})
            beside.rename(path)
            sync(path.parent)
            for other in path.parent.iterdir():  # of those who were killed here
                if is_temporary(other, path):
                    shutil.rmtree(other, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise _cannot_create(path, error) from error

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens an existing run folder.

        Raises:
            UserError: it is none, or a link in it leads elsewhere.
        """
        if not (path / CONFIG).is_file():
            why = f"it has no {CONFIG}" if path.exists() else "there is no such folder"
            raise UserError(f"{path} is not a run folder: {why}")
        links = outward_links(path)
        if links:
            raise UserError(f"{links[0]} is a link out of the run folder; remove it, or copy it in")
        return cls(path)

    def config(self) -> Config:
        """The run's configuration.

        Raises:
            UserError: its file was damaged, or edited without being told so.
        """
        path = self.path / CONFIG
        try:
            content = from_file(path)
        except DamagedError as error:
            raise UserError(f"{error}{self._way_out()}") from error
        return _config_in(path, content)

    def edited_config(self) -> Config:
        """The configuration as somebody has edited it.

        Raises:
            UserError: it is none, or has a value that no run could use.
        """
        path = self.path / CONFIG
        return _config_in(path, unchecked(path))

    def accept_config(self) -> None:
        """Takes the configuration as somebody has edited it; raises as `edited_config` does."""
        config = self.edited_config()
        content = unchecked(self.path / CONFIG)
        self._write(CONFIG, content | {"config": config.to_dict(), "hash": config.hash})

    def note_session(self, config: Config, step: int) -> None:
        """Notes with what a run goes on from a step, where that is not what it has come there with.

        Args:
            config: the run's, which has another length where it is to go on beyond its end.
            step: that it has reached. What has yet to begin is this process's alone.
        """
        before = content = from_file(self.path / CONFIG)
        length, here = content["config"]["total_steps"], made_with(config)
        if length != config.total_steps:
            further = {"from": length, "to": config.total_steps, "at": step}
            extended = [*content.get("extended", ()), further]
            content = content | {"config": config.to_dict(), "hash": config.hash}
            content |= {"extended": extended}
        latest = [content, *content.get("resumed", ())][-1]
        if any(latest.get(name) != here[name] for name in here):
            resumed = {"resumed": [*content.get("resumed", ()), {"at": step} | here]}
            content = content | (resumed if step else here)
        if content != before:
            self._write(CONFIG, content)

    def put_back_config(self, config: Row) -> None:
        """Writes the configuration anew, from a copy of its settings."""
        try:
            content = unchecked(self.path / CONFIG)
        except DamagedError:
            content = {"versions": {}, "git": None, "machine": {}}
        known = Config.from_dict(config)
        self._write(CONFIG, content | {"config": known.to_dict(), "hash": known.hash})

    def versions(self) -> Row:
        """The versions of packages that the run was begun with; empty if that is not told."""
        versions = read_or_empty(self.path / CONFIG).get("versions")
        return versions if isinstance(versions, dict) else {}

    def sources(self) -> dict[str, str]:
        """The digests of own code that the run was last trained with, by `sources.NAMED`."""
        known = trained_with(read_or_empty(self.path / CONFIG))
        return {kind: digests[-1] for kind, digests in known.items()}

    def status(self) -> Row:
        """The latest status; raises UserError if its file is damaged."""
        return from_file(self.path / STATUS)

    def times(self) -> Times:
        """What the run has taken so far; nothing where status.json does not tell it."""
        status = read_or_empty(self.path / STATUS)
        seconds = status.get("seconds")
        own = {
            name: float(value)
            for name, value in (seconds.items() if isinstance(seconds, dict) else ())
            if _is_time(value)
        }
        wall = status.get("wall_seconds")
        return Times(own, wall if _is_time(wall) else sum(own.values()))

    def check_resumable(self) -> None:
        """Raises UserError if going on would train an ended run again, and drop its metrics."""
        status = read_or_empty(self.path / STATUS).get("status")
        if status in ("finished", "diverged") and not list(self.checkpoints.glob("*")):
            restart = resume_command(self.path, self.config(), restart=True)
            raise UserError(
                f"{self.path} has {status} and has no checkpoints; to begin anew, with what is "
                f"there set aside: {restart}"
            )

    def reached(self) -> int:
        """The environment step that the run has certainly reached, whatever its checkpoints say."""
        step = read_or_empty(self.path / STATUS).get("step")
        logged = [row["step"] for row in self.rows() if row["kind"] not in ("final", "last")]
        return max([step if type(step) is int else 0, *logged])

    def set_aside(self) -> Path | None:
        """Moves what the run has come to into a folder inside it; None if there is nothing."""
        parts = (self.log.path, self.checkpoints, *(self.path / x for x in (STATUS, *PICTURES)))
        old = [part for part in parts if part.exists()]
        if not old:
            return None
        aside = numbered(self.path / "before-restart")
        aside.mkdir()
        for path in old:
            path.rename(aside / path.name)
        begin_anew(self.path, aside)
        return aside

    def clean(self) -> None:
        """Deletes what an interruption left beside the files under a temporary name."""
        remove_leftovers(self.path)

    def write_status(self, status: str, step: int, seeds: dict[str, Row], **more: Any) -> None:
        """Replaces status.json: the run's status, its step, and each seed's."""
        self._write(STATUS, {"status": status, "step": step, "seeds": seeds, **more})

    def append(self, rows: list[Row]) -> None:
        """Appends rows to metrics.jsonl; what is not finite becomes null."""
        self.log.append(rows)
        self.followers.append(rows)

    def rows(self) -> Iterator[Row]:
        """The sound rows of metrics.jsonl; a last line that a crash cut off is left out."""
        return self.log.rows()

    def lacks_scores(self) -> str | None:
        """Which final scores of a finished run its log has no more, in one line."""
        status = read_or_empty(self.path / STATUS)
        seeds = status.get("seeds")
        if status.get("status") != "finished" or not isinstance(seeds, dict):
            return None
        told = {(row["kind"], str(row["seed"])) for row in self.rows()}
        lacks = [
            seed
            for seed, state in sorted(seeds.items())
            if isinstance(state, dict)
            and state.get("status") == "finished"
            and not {("last", seed), ("final", seed)} <= told
        ]
        lost = f"{self.log.path} lacks the final scores of seeds {', '.join(lacks)}"
        return lost if lacks else None

    def replace_log(self, content: bytes) -> None:
        """Puts the log as a checkpoint remembers it in place of the one that is there."""
        self.log.replace(content)
        self.followers.start(list(self.rows()))

    def _write(self, name: str, content: Row) -> None:
        write_beside(self.path / name, to_file(content))

    def _way_out(self) -> str:
        return f"; see what changed, and how to go on, with: {command('doctor', self.path)}"


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)


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

    def replace_log(self, content: bytes) -> None:
        """Nothing."""

    def clean(self) -> None:
        """Nothing."""


def _config_in(path: Path, content: Row) -> Config:
    """The configuration in a run's config.json."""
    if not isinstance(content.get("config"), dict):
        raise UserError(f"{path} is not a run's config: it has no table 'config'")
    return Config.from_dict(content["config"])


def of_seeds(about: Row, name: str) -> dict[int, Any]:
    """A table about seeds in what a checkpoint remembers, by seed."""
    return {int(seed): value for seed, value in about.get(name, {}).items()}


def seed_states(
    seeds: Sequence[int],
    status: str,
    step: int,
    diverged: Mapping[int, int],
    not_finite: Mapping[int, str],
) -> dict[str, Row]:
    """What status.json says of each seed.

    Args:
        seeds: of the run.
        status: of those that live.
        step: which those have reached.
        diverged: seed -> the step at which it did.
        not_finite: seed -> what was not finite then.
    """
    return {
        str(seed): {
            "status": "diverged",
            "step": diverged[seed],
            "not_finite": not_finite.get(seed, ""),
        }
        if seed in diverged
        else {"status": status, "step": step}
        for seed in seeds
    }


def default_folder(name: str) -> Path:
    """Where a run goes that nobody named a folder for."""
    slug = re.sub(r"[^\w.-]+", "-", name)  # tasks have slashes or colons
    return Path("runs") / f"{slug}-{datetime.now():%Y%m%d-%H%M%S}"


def outward_links(path: Path) -> list[Path]:
    """Symbolic links in a run folder to something outside it."""
    inside = path.resolve()
    found = []
    for parent, folders, files in os.walk(path):
        links = (Path(parent) / name for name in (*folders, *files))
        found += [p for p in links if p.is_symlink() and not _end(p).is_relative_to(inside)]
    return sorted(found)


def _end(link: Path) -> Path:
    """Where a link leads in the end; one that leads to itself, nowhere else."""
    return Path(os.path.realpath(link))


def _cannot_create(path: Path, error: OSError) -> UserError:
    if os.path.lexists(path):  # which raises nothing
        is_run = os.path.lexists(path / CONFIG)
        way = f", or continue it with: {command('resume', path)}" if is_run else ""
        return UserError(f"{path} exists; choose another --out{way}")
    return UserError(f"cannot create the run folder {path}: {error.strerror or error}")


def check_not_passed(kind: str, name: str, source: Path, again: str) -> None:
    """Refuses what only the records of a run call a task or objective: nothing of that name is.

    Args:
        kind: "task" or "objective".
        name: as the records have it.
        source: the run, or its file.
        again: how to pass it again.

    Raises:
        UserError: it was passed as an object.
    """
    if name.startswith(PASSED):
        what = {"task": "in an environment", "objective": "with an objective"}[kind]
        raise UserError(
            f"{source} was trained {what} that was passed as an object, "
            f"{name.removeprefix(PASSED)}; pass it again: {again}"
        )


def resume_command(folder: Path, config: Config, restart: bool = False) -> str:
    """What goes on with a run, for somebody who trusts the code that it names, if it names any."""
    passed = {"env": config.task, "objective": config.objective}
    if again := [f"{name}=..." for name, x in passed.items() if x.startswith(PASSED)]:
        again += ["restart=True"] if restart else []
        return f"marsrl.resume({str(folder)!r}, {', '.join(again)}) in Python, with what was passed"
    foreign = any(is_foreign(kind, getattr(config, kind) or "") for kind in KINDS)
    flags = {"--restart": restart, "--trust": foreign}
    return command("resume", folder, *(flag for flag, given in flags.items() if given))
