"""Who follows a run's log as it is written: TensorBoard, Weights & Biases, MLflow, CSV files.

A follower is told the rows that the log has when training begins or goes on, and then the new ones.
One that fails is left out from then on; the run goes on.
"""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from marsrl.config import Config
from marsrl.errors import UserError, near_misses, reason, shown
from marsrl.files import write_beside
from marsrl.runs.records import Row, from_file, to_file

FOLDER = "logs"
"""Of a run folder, for what followers write."""
MEMORY = f"{FOLDER}/followers.json"
_LONGEST_ID = 64
_CLASSES = {
    "tensorboard": "TensorBoard",
    "wandb": "WeightsAndBiases",
    "csv": "CsvFiles",
    "mlflow": "MLflow",
}
NAMES = tuple(_CLASSES)
"""The followers that have a name; each is the module of that name."""


class Followed(NamedTuple):
    """The run that is followed.

    Attributes:
        path: its folder.
        id: that no other run has, and that it keeps.
        config: of the run.
    """

    path: Path
    id: str
    config: Config

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.path.absolute().name

    def seed_id(self, seed: int) -> str:
        """An id for one of its seeds."""
        return f"{self.id}-seed-{seed}"

    def seed_name(self, seed: int) -> str:
        """What people call one of its seeds."""
        return f"{self.name} seed {seed}"

    def settings(self, seed: int) -> dict[str, Any]:
        """The configuration of one of its seeds."""
        values = self.config.to_dict()
        del values["seeds"]
        return values | {"seed": seed}


class Follower(Protocol):
    """Something that is told the rows of a run."""

    def start(self, run: Followed, rows: list[Row]) -> str | None:
        """Makes its series those of the log, which has these rows, and goes on from there.

        What it has been told by an earlier session must not be in it twice, also what came after
        the checkpoint that the run goes on from: that is trained, and told, again.

        Returns:
            Where to look, for the console.
        """
        ...

    def append(self, rows: list[Row]) -> None:
        """Takes new rows, of kind `train`, `eval`, `last` or `final`."""
        ...

    def close(self) -> None:
        """The run has ended, or stops here."""
        ...


class Followers:
    """The followers of one run, of which none can do it any harm."""

    def __init__(
        self, followers: dict[str, Follower], run: Followed | None, say: Callable[[str], None]
    ) -> None:
        self._followers = dict(followers)
        self._started = False
        self._run = run
        self._say = say

    def start(self, rows: list[Row]) -> None:
        """Tells each the rows that the log has, and says where to look."""
        run = self._run
        if run is None:
            return
        self._started = True

        def start(name: str, follower: Follower) -> None:
            if where := follower.start(run, rows):
                self._say(f"{name}: {where}")

        self._tell(start)

    def append(self, rows: list[Row]) -> None:
        """Tells each of new rows."""
        self._tell(lambda _, follower: follower.append(rows))

    def close(self) -> None:
        """Ends each, if they have begun."""
        if not self._started:
            return
        self._tell(lambda _, follower: follower.close())

    def _tell(self, do: Callable[[str, Follower], None]) -> None:
        for name, follower in list(self._followers.items()):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about their own code
                    do(name, follower)
            except (Exception, SystemExit) as error:  # others' code
                del self._followers[name]
                why = str(error) if isinstance(error, UserError) else reason(error)
                self._say(f"{name} does not follow any more ({why}); the run goes on")
                with contextlib.suppress(Exception, SystemExit):
                    follower.close()


def choose(followers: Sequence[str | Follower]) -> dict[str, Follower]:
    """Followers by name: those that are named, ready to start, and those of somebody's own.

    Raises:
        UserError: there is none of that name, or what it needs is not installed.
    """
    if isinstance(followers, str):
        raise UserError(f"followers = {shown(followers)}, expected a list, such as ['csv']")
    chosen: dict[str, Follower] = {}
    for follower in followers:
        if isinstance(follower, str):
            chosen[follower] = _make(follower)
        else:
            name, same = type(follower).__name__, 2
            while name in chosen:
                name, same = f"{type(follower).__name__}-{same}", same + 1
            chosen[name] = follower
    return chosen


def _make(name: str) -> Follower:
    if name not in NAMES:
        raise UserError(f"log: {shown(name)} is no follower{near_misses(name, NAMES)}")
    return getattr(import_module(f"{__name__}.{name}"), _CLASSES[name])()


@contextlib.contextmanager
def following(
    followers: dict[str, Follower] | None, path: Path, config: Config, say: Callable[[str], None]
) -> Iterator[Followers]:
    """The followers of a run, until it ends or stops.

    Args:
        followers: which, from now on; None: those that the run folder remembers.
        path: the run folder.
        config: of the run.
        say: takes what is worth a line.
    """
    told = _followers(followers, path, config, say)
    try:
        yield told
    finally:
        told.close()


def begin_anew(folder: Path, aside: Path) -> None:
    """Moves what followers have written out of the way; the run keeps them, under another id."""
    if (folder / FOLDER).exists():
        with contextlib.suppress(UserError):  # a damaged file names none
            names = _memory(folder)["followers"]
            (folder / FOLDER).rename(aside / FOLDER)
            _remember(folder, names)


def _followers(
    followers: dict[str, Follower] | None, path: Path, config: Config, say: Callable[[str], None]
) -> Followers:
    try:
        memory = _memory(path)
        known = memory["followers"]
        names = known if followers is None else [name for name in followers if name in NAMES]
        if (known and not memory["id"]) or followers or names != known:
            _remember(path, names)
            memory = _memory(path)
        if followers is None:
            followers = _installed(names, say)
    except (OSError, UserError) as error:
        say(f"nobody follows the run: {error}")
        return NOBODY
    return Followers(followers, Followed(path, memory["id"], config), say)


def _installed(names: Sequence[str], say: Callable[[str], None]) -> dict[str, Follower]:
    """Those of a run's followers that can be had here; that others cannot is said."""
    found = {}
    for name in names:
        try:
            found |= choose([name])
        except UserError as error:
            say(f"{name} does not follow here: {error}")
    return found


def _memory(folder: Path) -> dict[str, Any]:
    """What a run folder remembers of its followers: their names, and the id they know it by.

    The id is empty as long as nobody follows it, and of a copy of a run that is still there.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / MEMORY
    if not path.exists():
        return {"id": "", "followers": []}
    memory = from_file(path)
    names, home = memory.get("followers"), memory.get("folder")
    known = [name for name in names if name in NAMES] if isinstance(names, list) else []
    copied = isinstance(home, str) and _is_other(Path(home), folder, memory.get("id"))
    return {"id": "" if copied else str(memory.get("id")), "followers": known}


def _is_other(home: Path, folder: Path, run_id: Any) -> bool:
    """Whether a run that followers know by this id lies at home, and that is not the folder."""
    try:
        return not home.samefile(folder) and from_file(home / MEMORY).get("id") == run_id
    except (OSError, UserError):  # it is not there any more
        return False


def _remember(folder: Path, names: Sequence[str]) -> None:
    path = folder / MEMORY
    path.parent.mkdir(exist_ok=True)
    readable = re.sub(r"[^\w.-]+", "-", folder.absolute().name)[:_LONGEST_ID]
    run_id = _memory(folder)["id"] or f"{readable}-{uuid4().hex[:8]}"
    home = str(folder.absolute())
    write_beside(path, to_file({"id": run_id, "followers": list(names), "folder": home}))


def scalars(row: Row) -> dict[str, float]:
    """The numbers of a row that were measured, as KIND/NAME."""
    return {
        f"{row['kind']}/{name}": float(value)
        for name, value in row.items()
        if name not in ("seed", "step")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


NOBODY = Followers({}, None, lambda _: None)
"""No followers."""
