"""A search for settings: its studies, what each of their trials trains, and where.

A search is a folder: `tuning.json` says what it is, `journal.log` is Optuna's, and `trials/` has
the run folder of each trial: `trials/7`; `trials/STUDY/7` if there are several studies, and
`trials/STUDY/7/TASK` if a trial trains several tasks.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from marsrl.bench.locks import store_lock
from marsrl.bench.plan import Job
from marsrl.config import Config
from marsrl.envs.tasks import Bounds
from marsrl.errors import UserError, check_choice, check_int, command, shown
from marsrl.files import write_beside
from marsrl.runs.records import from_file, to_file
from marsrl.tune.scores import Score
from marsrl.tune.space import (
    Dimensions,
    Space,
    check_space,
    grid_size,
    present,
    settings,
    space_from,
    to_toml,
)

FILE = "tuning.json"
TRIALS = "trials"
MOST_TRIALS = 10_000

Check: TypeAlias = Callable[[Any], bool]
Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "halving", "none"]


@dataclass(frozen=True)
class Study:
    """The search for one objective's settings, on one task or several.

    Attributes:
        name: of the study: the objective, and its family if each family has its own.
        objective: what a suite calls it.
        family: of the tasks; None if they may be of any.
        configs: one for each task, with what is not tuned.
        bounds: of the scores on each task; None where scores are returns.
        dimensions: what is tuned.
    """

    name: str
    objective: str
    family: str | None
    configs: tuple[Config, ...]
    bounds: tuple[Bounds | None, ...]
    dimensions: Dimensions

    def trial_configs(self, chosen: dict[str, Any] | None) -> tuple[Config, ...]:
        """What a trial with these choices trains; None: the settings as they are."""
        if chosen is None:
            return self.configs
        values = settings(self.dimensions, chosen)
        return tuple(Config.from_dict(config.to_dict() | values) for config in self.configs)

    def trial_settings(self, chosen: dict[str, Any] | None) -> dict[str, Any]:
        """What is tuned, as a trial with these choices has it on every task of the study."""
        if chosen is None:
            return present(self.dimensions, self.configs)
        return settings(self.dimensions, chosen)


@dataclass(frozen=True)
class Tuning:
    """A search: studies that all get the same number of trials.

    Attributes:
        studies: one for each objective, or objective and family.
        trials: of each study; a grid has as many as it has points.
        sampler: what chooses the settings of a trial.
        pruner: what ends hopeless trials.
        score: which evaluations count.
        sampler_seed: of the sampler's choices.
        fixed: settings that the search was told not to tune.
        suite: of which the tasks are, as the TOML of its file; None for a task by itself.
    """

    studies: tuple[Study, ...]
    trials: int
    sampler: Sampler
    pruner: Pruner
    score: Score
    sampler_seed: int
    fixed: tuple[str, ...] = ()
    suite: str | None = None

    def check(self) -> None:
        """Refuses what could not be searched, before anything starts.

        Raises:
            UserError: with what is wrong.
        """
        self._check_plain()
        for study in self.studies:
            for config in study.configs:
                check_space(study.dimensions, config)
            if len(study.configs) > 1 and None in study.bounds:
                unknown = study.configs[study.bounds.index(None)].task
                raise UserError(f"{shown(unknown)} has no bounds of scores to average it with")
        if self.sampler == "grid":
            self._check_grids()

    def _check_grids(self) -> None:
        points = {study.name: grid_size(study.dimensions) for study in self.studies}
        if len(set(points.values())) > 1:
            sizes = ", ".join(f"{name} has {number:,}" for name, number in points.items())
            raise UserError(
                f"grids of different numbers of points are not equal effort: {sizes}; expected as "
                "many for each: give eps as many values, or its ranges as many points"
            )
        (name, number), *_ = points.items()
        if number > self.trials:
            raise UserError(
                f"the grid of {name} has {number:,} points, more than --trials {self.trials}; "
                f"narrow the space, give its ranges fewer points, or say --trials {number}"
            )

    def _check_plain(self) -> None:
        check_int("trials", self.trials, 1, most=MOST_TRIALS)
        check_int("sampler_seed", self.sampler_seed, 0, 2**31 - 1)
        for name, kinds in (("sampler", Sampler), ("pruner", Pruner), ("score", Score)):
            check_choice(name, getattr(self, name), get_args(kinds))

    def goal(self, study: Study) -> int:
        """How many trials the study is to have."""
        return grid_size(study.dimensions) if self.sampler == "grid" else self.trials

    def trial_folder(self, folder: Path, study: Study, number: int) -> Path:
        """The folder of a trial: its run folder, or one with a run folder for each task."""
        place = folder / TRIALS
        if len(self.studies) > 1:
            place /= slugs(study.name for study in self.studies)[study.name]
        return place / str(number)

    def jobs(
        self, folder: Path, study: Study, number: int, chosen: dict[str, Any] | None
    ) -> list[Job]:
        """What a trial with these choices trains, one job for each task; None: as they are."""
        place = self.trial_folder(folder, study, number)
        configs = study.trial_configs(chosen)
        if len(configs) == 1:
            return [Job(configs[0], place, study.objective)]
        names = slugs(config.task for config in configs)
        return [Job(config, place / names[config.task], study.objective) for config in configs]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        studies = [
            {
                "name": study.name,
                "objective": study.objective,
                "family": study.family,
                "configs": [config.to_dict() for config in study.configs],
                "bounds": [list(x) if x else None for x in study.bounds],
                "space": to_toml(Space(study.dimensions)),
            }
            for study in self.studies
        ]
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {"studies": studies} | plain | {"fixed": list(self.fixed)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Tuning:
        """The inverse of `to_dict`.

        Raises:
            UserError: something in it is unknown or impossible.
        """
        _check_form("", values, _SEARCH)
        for study in values["studies"]:
            _check_form("a study's ", study, _STUDY)
            if len(study["configs"]) != len(study["bounds"]):
                raise UserError(f"{shown(study['name'])} has not as many bounds as configs")
        studies = tuple(
            Study(
                study["name"],
                study["objective"],
                study["family"],
                tuple(map(Config.from_dict, study["configs"])),
                tuple(Bounds(*x) if x else None for x in study["bounds"]),
                space_from(study["space"], (study["objective"],)).of(study["objective"]),
            )
            for study in values["studies"]
        )
        plain: Any = {name: values[name] for name in _PLAIN}
        plain["fixed"] = tuple(plain["fixed"])
        tuning = Tuning(studies, **plain)
        tuning._check_plain()
        return tuning


def _check_form(what: str, values: Any, form: Mapping[str, tuple[Check, str]]) -> None:
    """Refuses a table of a search that lacks something, or has it in another form."""
    if not isinstance(values, dict):
        raise UserError(f"it is no search for settings: {shown(values)} is no table")
    for name, (right, expected) in form.items():
        if name not in values:
            raise UserError(f"it is no search for settings: {what}{name} is missing")
        if not right(values[name]):
            raise UserError(f"{what}{name} is {shown(values[name])}, expected {expected}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bounds(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and [type(x) in (int, float) and abs(x) < math.inf for x in value] == [True, True]
        and value[0] < value[1]
    )


def _are(right: Check, least: int = 0) -> Check:
    return lambda x: isinstance(x, list) and len(x) >= least and all(map(right, x))


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


_PLAIN = ("trials", "sampler", "pruner", "score", "sampler_seed", "fixed", "suite")
_ANYTHING: tuple[Check, str] = (lambda value: True, "")  # `Tuning` checks it itself
_SEARCH: Mapping[str, tuple[Check, str]] = dict.fromkeys(_PLAIN, _ANYTHING) | {
    "studies": (_are(_is_table, least=1), "a list of tables, and at least one"),
    "fixed": (_are(_is_text), "a list of names"),
    "suite": (_is_text_or_none, "null, or a text"),
}
_STUDY: dict[str, tuple[Check, str]] = {
    "name": (_is_text, "a name"),
    "objective": (_is_text, "a name"),
    "family": (_is_text_or_none, "null, or a name"),
    "configs": (_are(_is_table, least=1), "a list of tables, and at least one"),
    "bounds": (_are(_is_bounds), "a list with null, or two numbers in order, for each task"),
    "space": (_is_table, "a table"),
}


def is_search(folder: Path) -> bool:
    """Whether there is a search in a folder."""
    return (folder / FILE).is_file()


def read_tuning(folder: Path) -> Tuning:
    """The search of a folder.

    Raises:
        UserError: there is none, or it was edited or damaged.
    """
    if not is_search(folder):
        raise UserError(f"{folder} has no search for settings: it has no {FILE}")
    try:
        return Tuning.from_dict(from_file(folder / FILE))
    except UserError as error:
        start = "" if str(folder / FILE) in str(error) else f"{folder / FILE}: "
        raise UserError(f"{start}{error}") from error


def adopt(tuning: Tuning, folder: Path) -> Tuning:
    """Makes a search a folder's, or joins the one that it has, which may get more trials by it.

    Returns:
        The search that the folder has now.

    Raises:
        UserError: it has another one, or something else.
    """
    others = [p for p in folder.glob("[!.]*") if p.name != TRIALS]  # that another process may make
    if others and not is_search(folder):
        raise UserError(f"{folder} exists and is no search for settings; choose another --out")
    (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    with store_lock(folder / TRIALS):
        content = tuning.to_dict()
        if is_search(folder):
            old = read_tuning(folder).to_dict()
            other = [key for key in content if key != "trials" and content[key] != old[key]]
            if other:
                raise UserError(
                    f"{folder} searches with another {_difference(other[0], old, content)}; choose "
                    f"another --out, or go on with: {command('tune', folder)}"
                )
            content["trials"] = max(old["trials"], content["trials"])
            if content == old:
                return Tuning.from_dict(old)
        write_beside(folder / FILE, to_file(content))
    return Tuning.from_dict(content)


def _difference(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    if key != "studies":
        return f"{key} ({shown(old[key])}, now {shown(new[key])})"
    names = [[study["name"] for study in values["studies"]] for values in (old, new)]
    if names[0] != names[1]:
        return f"set of studies ({shown(names[0])}, now {shown(names[1])})"
    for before, now in zip(old["studies"], new["studies"], strict=True):
        for part, name in (("configs", "set of fixed values"), ("space", "space")):
            if before[part] != now[part]:
                return f"{name} for {now['name']}"
    return "set of studies"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names of files for these names; those that would have the same one end with a digest."""
    plain = {name: _slug(name) for name in names}
    shared = Counter(slug.lower() for slug in plain.values())  # some file systems ignore case
    return {
        name: slug if shared[slug.lower()] == 1 else f"{slug}-{_digest(name)}"
        for name, slug in plain.items()
    }


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name)  # no dots: a run's log has the same name with another end


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
