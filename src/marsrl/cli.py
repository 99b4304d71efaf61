"""The command line of marsrl: train a team, look at it, compare and benchmark."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro

from marsrl.bench.commands import Bench
from marsrl.commandline import parse
from marsrl.config import Config
from marsrl.devices.startup import configure_jax
from marsrl.envs.commands import CheckEnv, Envs
from marsrl.errors import (
    Interrupted,
    Notice,
    UserError,
    keep_traceback,
    printable,
    reason,
    shown,
)
from marsrl.presets import preset
from marsrl.report.commands import Compare, Plot
from marsrl.runs.commands import ConfigCommand, Doctor, Evaluate, Render, Resume, Train
from marsrl.runs.seeing import Runs, Show
from marsrl.settings import read_config
from marsrl.takeaway.commands import Export
from marsrl.tune.commands import Tune, default_tune

_COMPARED = {"seeds": (0, 1, 2, 3, 4)}
_WITHOUT_JAX = (Bench, Tune, ConfigCommand, Runs, Show, Plot)  # processes of the former use it


def _commands(args: list[str]) -> Any:
    """The union of all commands; `train` and `compare` start from the preset of their task."""
    task, config = _option(args, "--task", Config.task), preset(Config.task)
    compared = preset(Config.task, **_COMPARED)
    if args[:1] in (["train"], ["config"]):
        config = _config(args)
    elif args[:1] == ["compare"]:
        compared = _config(args, **_COMPARED)
    return (
        Annotated[Train, tyro.conf.subcommand("train", default=Train(config))]
        | Annotated[ConfigCommand, tyro.conf.subcommand("config", default=ConfigCommand(config))]
        | Resume
        | Runs
        | Show
        | Plot
        | Evaluate
        | Render
        | Annotated[Compare, tyro.conf.subcommand("compare", default=Compare(compared))]
        | Bench
        | Annotated[Tune, tyro.conf.subcommand("tune", default=default_tune(task, args))]
        | Envs
        | CheckEnv
        | Doctor
        | Export
    )


def _config(args: list[str], **others: Any) -> Config:
    """What `train` begins with: the settings of a file, if one is named, over the task's preset.

    With `others` between the two.
    """
    path, task = _option(args, "--config", ""), _option(args, "--task", "")
    if not path or {"-h", "--help"} & set(args):
        return preset(task or Config.task, **others)
    options = (word.partition("=")[0] for word in args if word.startswith("--"))
    given = {option.lstrip("-").replace("-", "_") for option in options}
    return read_config(Path(path), given, task or None, trust="--trust" in args, **others)


def _option(args: list[str], name: str, default: str) -> str:
    """The value of an option, looked up before the real parsing, for which it sets defaults."""
    for arg, following in itertools.pairwise([*args, default]):
        if arg == name:
            default = following
        elif arg.startswith(f"{name}="):
            default = arg.partition("=")[2]
    return default


def main(args: list[str] | None = None) -> None:
    """The entry point of `marsrl`: whatever goes wrong is one line on standard error.

    Exit codes: 2 for what a user can mend, 1 for what failed or for a fault of the program, 128 and
    the signal's number for what was interrupted.
    """
    args = sys.argv[1:] if args is None else args
    sys.path.append(str(Path.cwd()))  # where a user's own module:factory lives
    try:
        _run(args or ["--help"])
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + signal.SIGPIPE) from None
        _say(str(error))
        raise SystemExit(2) from None
    except Interrupted as error:
        _say(str(error))
        raise SystemExit(error.code) from None
    except KeyboardInterrupt:
        trains = args[:1] in (["train"], ["resume"])
        _say(f"interrupted{'; a run that has begun goes on: marsrl resume RUN' if trains else ''}")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if missing := _missing_device():
            _say(missing)
            raise SystemExit(2) from None
        text = f"marsrl {version('marsrl')} {args}\n{traceback.format_exc()}"
        kept = keep_traceback(text, "for a bug report")
        _say(f"{reason(error)}: a fault of marsrl or of your code; {kept}")
        raise SystemExit(1) from None


def _run(args: list[str]) -> None:
    if args == ["--version"]:
        print(f"marsrl {version('marsrl')}")  # noqa: T201 (what the user asked for or did)
        return
    command = parse(_commands(args), args, __doc__ or "")
    if not isinstance(command, _WITHOUT_JAX):
        configure_jax()
    with _notices_said():
        command()


@contextlib.contextmanager
def _notices_said() -> Iterator[None]:
    """Lets marsrl's own warnings be lines, without their place in the code."""
    show = warnings.showwarning

    def say(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            _say(str(message))
        else:
            show(message, category, *place, **more)

    warnings.showwarning = say
    try:
        yield
    finally:
        warnings.showwarning = show


def _say(message: str) -> None:
    print(f"marsrl: {printable(message)}", file=sys.stderr)  # noqa: T201 (what the user asked for or did)


def _missing_device() -> str | None:
    """What to tell somebody who asked JAX for a device that is not here."""
    asked = os.environ.get("JAX_PLATFORMS")
    if not asked:
        return None
    import jax

    # JAX raises errors of many kinds, some of them elsewhere and without a word
    with contextlib.suppress(Exception):
        jax.devices()
        return None
    return f"JAX_PLATFORMS is {shown(asked)}, and JAX finds no such device here; nearest: cpu"
