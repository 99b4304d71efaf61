"""What is tuned: a range or a choice for each of some settings, by default or from a TOML file.

    actor_lr = { low = 3e-4, high = 3e-3, log = true }
    critic_lr = { tied = "actor_lr" }
    update_epochs = [2, 4, 8]

    [objective.mars]
    eps = { low = 0.2, high = 10.0, log = true, points = 4 }

Only the trust region may differ between objectives: anything else would not be equal effort.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_type_hints

from marsrl.bench.suite import COMPARABLE
from marsrl.config import Config, Sharing, plain
from marsrl.errors import UserError, check_int, near_misses, shown
from marsrl.extras import require
from marsrl.reading import read_toml
from marsrl.trust import KINDS

REGION = ("eps", "eps_low", "eps_high")
"""Settings of the trust region, which each objective may have a range of its own for."""
PROTOCOL = (
    *COMPARABLE, "task", "objective", "seeds", "log_interval", "keep_checkpoints", "devices",
)  # fmt: skip
"""Settings that say what is measured, and for how long: to tune them would be to cheat."""
MOST_COMBINATIONS = 5_000
"""Of choices, all of which are tried on `Config` before anything starts."""
_POINTS = 4


@dataclass(frozen=True)
class Uniform:
    """Every value from `low` to `high` alike.

    Attributes:
        low: the least.
        high: the greatest.
        points: how many of them a grid has, evenly spaced, both ends among them.
        whole: whether values are whole numbers.
    """

    low: float
    high: float
    points: int = _POINTS
    whole: bool = False
    log: ClassVar[bool] = False

    def distribution(self) -> Any:
        """What Optuna samples from."""
        optuna = require("optuna", "tune")
        kind = "IntDistribution" if self.whole else "FloatDistribution"
        return getattr(optuna.distributions, kind)(self.low, self.high, log=self.log)

    def grid(self) -> tuple[Any, ...]:
        """The points of a grid, from the least; whole ones each once."""
        low, high = (math.log(x) if self.log else x for x in (self.low, self.high))
        inner = (low + (high - low) * i / (self.points - 1) for i in range(1, self.points - 1))
        middle = [math.exp(x) if self.log else x for x in inner]
        values = [self.low, *(round(x) if self.whole else x for x in middle), self.high]
        return tuple(dict.fromkeys(values))

    def ends(self) -> tuple[Any, ...]:
        """What a configuration must accept for the whole of it to be acceptable."""
        return (self.low, self.high)

    def has(self, value: Any) -> bool:
        """Whether a setting may be this."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def to_toml(self) -> dict[str, Any]:
        """As a space file has it."""
        points = {"points": self.points} if self.points != _POINTS else {}
        return {"low": self.low, "high": self.high, "log": self.log} | points


@dataclass(frozen=True)
class LogUniform(Uniform):
    """Every order of magnitude alike: for what acts by factors. `low` is above 0."""

    log: ClassVar[bool] = True


@dataclass(frozen=True)
class Choice:
    """One of some values; numbers, words, or true and false."""

    values: tuple[Any, ...]

    def distribution(self) -> Any:
        """What Optuna samples from."""
        return require("optuna", "tune").distributions.CategoricalDistribution(self.values)

    def grid(self) -> tuple[Any, ...]:
        """All of them, in their order."""
        return self.values

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def has(self, value: Any) -> bool:
        """Whether a setting may be this."""
        return any(_same(x, value) for x in self.values)

    def to_toml(self) -> list[Any]:
        """As a space file has it."""
        return list(self.values)


@dataclass(frozen=True)
class Tied:
    """Always the same as another setting that is tuned."""

    to: str

    def to_toml(self) -> dict[str, Any]:
        """As a space file has it."""
        return {"tied": self.to}


Dimension: TypeAlias = Uniform | Choice | Tied
Dimensions: TypeAlias = dict[str, Dimension]


@dataclass(frozen=True)
class Space:
    """What is tuned.

    Attributes:
        shared: setting -> what it may be, for every objective.
        own: objective -> what its trust region may be instead.
    """

    shared: Dimensions
    own: dict[str, Dimensions] = field(default_factory=dict)

    def of(self, objective: str) -> Dimensions:
        """What is tuned for one objective."""
        return self.shared | self.own.get(objective, {})


def free(dimensions: Mapping[str, Dimension]) -> dict[str, Uniform | Choice]:
    """What a sampler chooses: all that is not tied to something else."""
    return {name: dim for name, dim in dimensions.items() if not isinstance(dim, Tied)}


def settings(dimensions: Mapping[str, Dimension], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `Config` that a sampler's choice means."""
    tied = {name: chosen[dim.to] for name, dim in dimensions.items() if isinstance(dim, Tied)}
    return dict(chosen) | tied


def code_in(dimensions: Mapping[str, Dimension]) -> Iterator[tuple[str, str]]:
    """What a trial may get as the name of code, by its setting, of `marsrl.trust.KINDS`."""
    for kind in KINDS:
        dim = dimensions.get(kind)
        dim = dimensions.get(dim.to) if isinstance(dim, Tied) else dim
        if isinstance(dim, Choice):
            yield from ((kind, str(value)) for value in dim.values)


def grid(dimensions: Mapping[str, Dimension]) -> list[dict[str, Any]]:
    """Every combination of every setting's points; the last setting changes fastest."""
    points = {name: dim.grid() for name, dim in free(dimensions).items()}
    return [
        dict(zip(points, values, strict=True)) for values in itertools.product(*points.values())
    ]


def grid_size(dimensions: Mapping[str, Dimension]) -> int:
    """How many combinations those are."""
    return math.prod(len(dim.grid()) for dim in free(dimensions).values())


def present(dimensions: Mapping[str, Dimension], configs: Sequence[Config]) -> dict[str, Any]:
    """What is tuned, as it is; without settings in which the configurations differ."""
    first, *others = (config.settled() for config in configs)
    values = {name: getattr(first, name) for name in dimensions}
    return {
        name: value
        for name, value in values.items()
        if all(_same(getattr(other, name), value) for other in others)
    }


def start(dimensions: Mapping[str, Dimension], configs: Sequence[Config]) -> dict[str, Any]:
    """The settings as they are, as far as a sampler could have chosen them."""
    values = present(dimensions, configs)
    untied = {
        dim.to
        for name, dim in dimensions.items()
        if isinstance(dim, Tied) and values.get(name) != values.get(dim.to)
    }
    return {
        name: values[name]
        for name, dim in free(dimensions).items()
        if name in values and name not in untied and dim.has(values[name])
    }


# --- The default ----------------------------------------------------------------------------------

_CLIP, _QUADRATIC, _SYMMETRIC, _SCALED = (0.05, 0.4), (0.2, 0.95), (0.2, 10.0), (0.2, 5.0)
_EPS = {
    "mappo": _CLIP,
    "mappo-geometric": _CLIP,
    "rollback": _CLIP,
    "maspo": _QUADRATIC,
    "mars-additive": _QUADRATIC,
    "ano": _QUADRATIC,
    "maspo-geometric": _SYMMETRIC,
    "mars": _SYMMETRIC,
    "mars-log": _SYMMETRIC,
    "mars-capped": _SYMMETRIC,
    "sapo": _SCALED,  # without a region: 1 is their papers' setting
    "dpo": _SCALED,
}
"""Widths over which objectives move about equally far: measured, by the KL of their updates, for
`mappo`, `maspo` and `mars`, and for the others those of the one that they are most like."""
_EPS_BY_KIND = {"additive": (0.05, 0.95), "geometric": (0.05, 10.0)}
_STEP_SIZE = LogUniform(2e-4, 4e-3)


def default_space(configs: Mapping[str, Sequence[Config]], fixed: Collection[str]) -> Space:
    """A space that suits most tasks.

    Args:
        configs: objective -> what it trains with apart from what is tuned, one for each task.
        fixed: settings that are not to be tuned.
    """
    every = [config for several in configs.values() for config in several]
    shared: Dimensions = {
        "actor_lr": _STEP_SIZE,
        "critic_lr": _STEP_SIZE if "actor_lr" in fixed else Tied("actor_lr"),
        "update_epochs": Choice((2, 4, 8)),
        "num_minibatches": _accepted("num_minibatches", (2, 4, 8), every),
        "ent_coef": LogUniform(1e-4, 3e-2),
        "width": Choice((32, 64, 128)),
    }
    own = {name: _without(_region(cs[0]), fixed) for name, cs in configs.items()}
    return Space(_without(shared, fixed), {name: region for name, region in own.items() if region})


def _without(dimensions: Dimensions, fixed: Collection[str]) -> Dimensions:
    return {name: dim for name, dim in dimensions.items() if name not in fixed}


def _region(config: Config) -> Dimensions:
    if config.eps_low is not None:  # two widths, which only a space file can give ranges
        return {}
    kind = config.make_objective().region.kind
    return {"eps": LogUniform(*_EPS.get(config.objective, _EPS_BY_KIND[kind]))}


def _accepted(name: str, values: tuple[int, ...], configs: Sequence[Config]) -> Choice:
    """The values that all configurations accept; what they have, if they accept none."""
    fits = [x for x in values if all(_refusal(c, {name: x}) is None for c in configs)]
    return Choice(tuple(fits) or (getattr(configs[0], name),))


# --- A file ---------------------------------------------------------------------------------------


def read_space(path: Path, objectives: Iterable[str], fixed: Collection[str] = ()) -> Space:
    """Reads a space file.

    Args:
        path: of the TOML file.
        objectives: those that are tuned.
        fixed: settings that are not to be tuned, whatever the file has for them.

    Raises:
        UserError: it cannot be read, or something in it is unknown or impossible; the message
            names the file and the setting.
    """
    try:
        return space_from(read_toml(path), objectives, fixed)
    except UserError as error:
        start = "" if str(path) in str(error) else f"{path}: "
        raise UserError(f"{start}{error}") from error


def space_from(
    values: dict[str, Any], objectives: Iterable[str], fixed: Collection[str] = ()
) -> Space:
    """The space that a file's content means, without what is fixed.

    Raises:
        UserError: as `read_space` does.
    """
    objectives = list(objectives)
    tables = values.get("objective", {})
    if not isinstance(tables, dict):
        raise UserError(f"objective is {shown(tables)}, expected tables [objective.NAME]")
    shared = _dimensions({k: v for k, v in values.items() if k != "objective"}, "")
    own = {}
    for objective, table in tables.items():
        where = f"objective.{objective}"
        if objective not in objectives:
            raise UserError(
                f"[{where}] is of no objective that is tuned{near_misses(objective, objectives)}"
            )
        if not isinstance(table, dict):
            raise UserError(f"{where} is {shown(table)}, expected a table")
        own[objective] = _dimensions(table, f"{where}.")
        for name in own[objective]:
            if name not in REGION:
                raise UserError(
                    f"{where}.{name} is tuned for one objective alone, which is not equal effort; "
                    f"expected it above the tables, or one of {', '.join(REGION)}"
                )
    space = Space(
        _without(shared, fixed), {name: _without(dims, fixed) for name, dims in own.items()}
    )
    for objective in objectives:
        _check_ties(space.of(objective), fixed)
    return space


def to_toml(space: Space) -> dict[str, Any]:
    """The inverse of `space_from`."""
    tables = {name: _plain(dims) for name, dims in space.own.items()}
    return _plain(space.shared) | ({"objective": tables} if tables else {})


def check_space(dimensions: Dimensions, config: Config) -> None:
    """Tries every combination of choices, and both ends of every range, on a configuration.

    Raises:
        UserError: a run would be refused, with the settings that it would have; or nothing is
            tuned, or more combinations than can be tried.
    """
    if not free(dimensions):
        raise UserError("nothing is tuned: every setting is fixed")
    if "eps" in dimensions and config.eps_low is not None:
        raise UserError(f"eps is tuned, but {config.objective} takes eps_low and eps_high instead")
    choices = {n: dim.values for n, dim in dimensions.items() if isinstance(dim, Choice)}
    number = math.prod(map(len, choices.values()))
    if number > MOST_COMBINATIONS:
        raise UserError(
            f"{' x '.join(choices)} have {number:,} combinations, expected at most "
            f"{MOST_COMBINATIONS:,}; use ranges for some of them"
        )
    first = {name: dim.ends()[0] for name, dim in free(dimensions).items()}
    ranges = [(name, dim) for name, dim in dimensions.items() if isinstance(dim, Uniform)]
    cases = [{name: end} for name, dim in ranges for end in dim.ends()]
    cases += [dict(zip(choices, x, strict=True)) for x in itertools.product(*choices.values())]
    for case in cases:
        tried = settings(dimensions, first | case)
        if reason := _refusal(config, tried):
            named = ", ".join(f"{name} = {value}" for name, value in case.items())
            raise UserError(f"{named} cannot be trained on {config.task}: {reason}")


def _dimensions(values: dict[str, Any], where: str) -> Dimensions:
    known = [f.name for f in dataclasses.fields(Config)]
    found: Dimensions = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(f"unknown setting {shown(where + name)}{near_misses(name, known)}")
        if name in PROTOCOL:
            raise UserError(
                f"{where}{name} cannot be tuned: it says what is measured; give it a fixed value "
                f"with --{name.replace('_', '-')}"
            )
        found[name] = _dimension(where + name, name, value)
    return found


def _dimension(where: str, name: str, value: Any) -> Dimension:
    if isinstance(value, list):
        return _choice(where, name, value)
    if isinstance(value, dict) and "tied" in value:
        if set(value) != {"tied"} or not isinstance(value["tied"], str):
            raise UserError(f'{where} is {shown(value)}, expected {{ tied = "SETTING" }} alone')
        return Tied(value["tied"])
    if isinstance(value, dict):
        return _range(where, name, value)
    raise UserError(
        f"{where} is {shown(value)}, expected a list of values, a range such as "
        '{ low = 0.1, high = 1.0, log = true } or { tied = "SETTING" }; a fixed value is '
        f"--{name.replace('_', '-')}"
    )


def _choice(where: str, name: str, given: list[Any]) -> Choice:
    values = [plain(name, x) for x in given]
    right = all(isinstance(x, bool | int | float | str) for x in values)
    kinds = {"number" if type(x) in (int, float) else type(x) for x in values}
    mixed = get_type_hints(Config)[name] == Sharing  # true, false and "groups"
    if not values or not right or len(set(values)) < len(values) or (len(kinds) > 1 and not mixed):
        kind = "" if mixed else " of one kind"
        raise UserError(f"{where} is {shown(given)}, expected different values{kind}")
    return Choice(tuple(values))


def _range(where: str, name: str, value: dict[str, Any]) -> Uniform:
    known = ("low", "high", "log", "points")
    for key in value:
        if key not in known:
            raise UserError(f"{where} has unknown {shown(key)}{near_misses(key, known)}")
    ends: list[Any] = [value.get(key) for key in ("low", "high")]
    whole = get_type_hints(Config)[name] in (int, int | None)
    kind = int if whole else int | float
    if not all(isinstance(x, kind) and not isinstance(x, bool) and abs(x) < 1e9 for x in ends):
        expected = "whole numbers" if whole else "numbers"
        raise UserError(f"{where} is {shown(value)}, expected low and high, two finite {expected}")
    low, high = ends if whole else map(float, ends)
    log, points = value.get("log", False), value.get("points", _POINTS)
    if not isinstance(log, bool):
        raise UserError(f"{where}.log is {shown(log)}, expected true or false")
    check_int(f"{where}.points", points, 2, 1000)
    if not low < high:
        raise UserError(f"{where} is {shown(value)}, expected low below high")
    if log and low <= 0:
        raise UserError(f"{where}.low is {shown(low)}, expected more than 0 with log = true")
    return (LogUniform if log else Uniform)(low, high, points, whole)


def _check_ties(dimensions: Dimensions, fixed: Collection[str]) -> None:
    for name, dim in dimensions.items():
        if isinstance(dim, Tied) and dim.to in fixed:
            raise UserError(
                f"{name} is tied to {dim.to}, which is given and so not tuned; give it a fixed "
                f"value too, with --{name.replace('_', '-')}"
            )
        if isinstance(dim, Tied) and dim.to not in free(dimensions):
            closest = near_misses(dim.to, free(dimensions))
            raise UserError(f"{name} is tied to {shown(dim.to)}, which is not tuned{closest}")


def _refusal(config: Config, changes: dict[str, Any]) -> str | None:
    try:
        dataclasses.replace(config, **changes).make_objective()
    except UserError as error:
        return str(error)
    return None


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _plain(dimensions: Dimensions) -> dict[str, Any]:
    return {name: dim.to_toml() for name, dim in dimensions.items()}
