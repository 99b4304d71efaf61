"""Configurations in files: TOML of the user's own, or the config.json of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, get_args, get_type_hints

from marsrl.config import MAX_SEEDS, Config
from marsrl.errors import UserError, near_misses, shown
from marsrl.objectives import default_eps
from marsrl.presets import preset
from marsrl.reading import read_json, read_toml
from marsrl.runs.folder import CONFIG, PASSED, check_not_passed
from marsrl.runs.records import from_file
from marsrl.toml import line_of, to_toml
from marsrl.trust import KINDS, check_trusted

_UNSET = "none"  # TOML has no word for it


def read_config(
    path: Path,
    given: Collection[str] = (),
    task: str | None = None,
    trust: bool = False,
    **others: Any,
) -> Config:
    """The configuration of a file, over the preset of its task.

    Args:
        path: a TOML file with settings, a run's config.json, or the folder of a run.
        given: settings that the command line has; code that the file names in them does not run.
        task: in place of the file's.
        trust: whether to run code that a config.json names; TOML is the user's own.
        **others: settings that come before the file's, over the preset.

    Raises:
        UserError: it cannot be read, or a setting in it is unknown or impossible: the message names
            the file, the setting and, of TOML, the line.
    """
    path = path / CONFIG if path.is_dir() else path
    is_toml = path.suffix == ".toml"
    values = read_toml(path) if is_toml else _of_run(path)
    if not is_toml:
        for kind, argument in (("task", "env"), ("objective", "objective")):
            if kind not in given:
                again = f"train(config, {argument}=...), or name another: --{kind}"
                check_not_passed(kind, str(values.get(kind)), path, again)
        for kind in KINDS:
            if kind not in given and isinstance(values.get(kind), str):
                check_trusted(kind, values[kind], path, trust)

    def refuse(name: str, message: str) -> UserError:
        line = line_of([(name,)], path.read_text()) if is_toml else None
        return UserError(f"{path}{f', line {line}' if line else ''}: {message}")

    return _configured(others | values, task, refuse)


def _configured(
    values: dict[str, Any], task: str | None, refuse: Callable[[str, str], UserError]
) -> Config:
    hints = get_type_hints(Config)
    settings = {}
    for name, value in values.items():
        if name not in hints:
            raise refuse(name, f"unknown setting {shown(name)}{near_misses(name, hints)}")
        try:
            settings[name] = _setting(name, value, hints[name])
        except (UserError, ValueError) as error:
            raise refuse(name, f"{name}: {error}") from error
    if task is not None:
        settings["task"] = task
    try:
        return preset(settings.pop("task", Config.task), **settings)
    except UserError as error:
        raise refuse(error.field or "", str(error)) from error


def _setting(name: str, value: Any, hint: Any) -> Any:
    if value == _UNSET and type(None) in get_args(hint):
        return None
    if name == "seeds" and isinstance(value, str):
        return seeds(value.split())
    return value


def _of_run(path: Path) -> dict[str, Any]:
    """The settings of a run's config.json, whose check must be right, or of other JSON."""
    content = read_json(path)
    if isinstance(content, dict) and "config" in content:
        content = from_file(path)["config"]
    if not isinstance(content, dict):
        raise UserError(f"{path} is no configuration: expected a table of settings")
    # records have the objective's own width written down, which is not another's
    objective = str(content.get("objective", Config.objective))
    if objective.startswith(PASSED) or content.get("eps") == default_eps(objective):
        return content | {"eps": None}
    return content


def write_config(config: Config) -> str:
    """A configuration as TOML that `read_config` reads."""
    values = {name: _UNSET if x is None else x for name, x in config.to_dict().items()}
    tables = {name: values.pop(name) for name, x in list(values.items()) if isinstance(x, dict)}
    return to_toml(values | {name: table for name, table in tables.items() if table})


def seeds(words: Collection[str]) -> tuple[int, ...]:
    """Seeds as people write them: `0 1 2`, or `0-4` for the first five.

    Raises:
        ValueError: a word is neither a seed nor a range.
    """
    found: list[int] = []
    for word in words:
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(word) > 40:
            raise ValueError(f"{shown(word)} is no seed, such as 3, and no range, such as 0-4")
        start, stop = int(first), int(last or first)
        if not start <= stop < start + MAX_SEEDS:
            raise ValueError(f"{shown(word)} is no range of 1 to {MAX_SEEDS:,} seeds, such as 0-4")
        found += range(start, stop + 1)
    return tuple(found)
