"""The command line: train, resume, evaluate, render, compare, bench, tune, envs, doctor, ..."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.table import Column, Table

from marsrl.bench.commands import Bench
from marsrl.commandline import parse
from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.devices.distributed import Processes, from_first
from marsrl.devices.startup import configure_jax
from marsrl.errors import Interrupted, UserError, check_int, printable, reason, shown
from marsrl.presets import preset
from marsrl.runs.monitor import ConsoleMonitor, Monitor
from marsrl.tune.commands import Tune, default_tune

if TYPE_CHECKING:
    from marsrl.runs.policy import Policy
    from marsrl.runs.runner import Result

_console = PlainConsole()

Trust = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Checkpoint = Annotated[str, tyro.conf.arg(metavar="best|latest|STEPS")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Train:
    """Train a team; without arguments, MARS on paxmen/4ag."""

    config: tyro.conf.OmitArgPrefixes[Config] = Config()
    out: Path | None = None
    """Run folder, which must not exist; default: runs/TASK-OBJECTIVE-TIME."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = Processes()

    def __call__(self) -> None:
        """Trains, then draws the learning curve and an episode of the trained team."""
        from marsrl.runs.runner import train

        default = _default_folder(f"{self.config.task}-{self.config.objective}")
        with self.processes.joined():
            out = self.out or Path(from_first(lambda: str(default)))  # its time is process 0's
            _finish(train(self.config, out, _monitor()))


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, exactly where its last checkpoint left off."""

    run: RunPath
    restart: bool = False
    """Begin anew; what the run has come to is set aside in a folder inside it."""
    trust: Trust = False
    """Run code that the folder names: a task or objective module:factory."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = Processes()

    def __call__(self) -> None:
        """Resumes, then draws as `train` does."""
        from marsrl.runs.runner import resume

        with self.processes.joined():
            _finish(resume(self.run, _monitor(), restart=self.restart, trust=self.trust))


@dataclass(frozen=True)
class Evaluate:
    """Play a trained team's policy and report its returns."""

    run: RunPath
    seed: int | None = None
    """Which training of the run; default: the best."""
    checkpoint: Checkpoint = "best"
    """Which parameters."""
    episodes: int = 320
    """How many episodes."""
    episode_seed: int = 7
    """Seed of the episodes."""
    greedy: bool = False
    """The mode of the policy instead of samples."""
    json: bool = False
    """Print JSON instead of a sentence."""
    trust: Trust = False
    """Run code that the folder names: a task module:factory."""

    def __call__(self) -> None:
        """Evaluates and prints."""
        import jax
        import numpy as np

        from marsrl.learner.evaluate import evaluate
        from marsrl.runs.policy import load_policy

        check_int("episodes", self.episodes, 1, 1_000_000)
        check_int("episode_seed", self.episode_seed, 0, 2**32 - 1)
        policy = load_policy(self.run, self.seed, self.checkpoint, trust=self.trust)
        keys = jax.random.split(jax.random.key(self.episode_seed), self.episodes)

        @jax.jit  # closed over, not static: somebody's environment may be unhashable
        def play(actor: Any, keys: Any) -> Any:
            return evaluate(policy.networks, actor, policy.env, keys, self.greedy)

        stats = play(policy.actor, keys)
        returns = np.asarray(stats.episode_return)
        if self.json:
            print(json.dumps({"step": policy.step, "returns": returns.tolist()}))  # noqa: T201 (what the user asked for or did)
            return
        _console.print(
            f"return {returns.mean():.2f} (standard deviation {returns.std():.2f}, "
            f"{returns.min():.2f} to {returns.max():.2f}) over {self.episodes} episodes, "
            f"{'greedy' if self.greedy else 'sampled'} actions, after {policy.step:,} steps"
        )


@dataclass(frozen=True)
class Render:
    """Write an episode of a trained team as a GIF or an MP4."""

    run: RunPath
    out: Path | None = None
    """File to write, .gif or .mp4; default: RUN/episode-SEED.gif."""
    seed: int | None = None
    """Which training of the run; default: the best."""
    checkpoint: Checkpoint = "best"
    """Which parameters."""
    episode_seed: int = 0
    """Seed of the episode."""
    greedy: bool = False
    """The mode of the policy instead of samples."""
    fps: int = 8
    """Frames per second."""
    every: int | None = None
    """Draw every n-th step; default: as many as make 250 frames at most."""
    trust: Trust = False
    """Run code that the folder names: a task module:factory."""

    def __call__(self) -> None:
        """Renders and prints where."""
        from marsrl.runs.policy import load_policy
        from marsrl.runs.render import render

        check_int("episode_seed", self.episode_seed, 0, 2**32 - 1)
        check_int("fps", self.fps, 1, 1000)
        out = self.out or self.run / f"episode-{self.episode_seed}.gif"
        policy = load_policy(self.run, self.seed, self.checkpoint, trust=self.trust)
        total = render(policy, out, self.episode_seed, self.greedy, self.fps, self.every)
        _console.print(f"return {total:.2f}; wrote {out}")


@dataclass(frozen=True)
class Compare:
    """Train several objectives with the same seeds, then tabulate and plot them."""

    config: tyro.conf.OmitArgPrefixes[Config] = Config(seeds=(0, 1, 2, 3, 4), total_steps=3_000_000)
    objectives: tuple[str, ...] = ("mars", "maspo", "mappo")
    """What to compare; `--objective` is not used."""
    out: Path | None = None
    """Folder for the runs and results; default: runs/compare-TASK-TIME."""
    resume: bool = False
    """Go on with an interrupted comparison in --out."""

    def __call__(self) -> None:
        """Trains what is missing and writes table and figure."""
        from marsrl.report.compare import compare
        from marsrl.runs.runner import resume, train

        out = self.out or _default_folder(f"compare-{self.config.task}")
        if out.exists() and not self.resume:
            raise UserError(f"{out} exists; choose another --out, or continue it with --resume")
        if not 2 <= len(set(self.objectives)) == len(self.objectives) <= 10:
            raise UserError(f"objectives = {self.objectives} must be 2 to 10 different ones")
        configs = [dataclasses.replace(self.config, objective=name) for name in self.objectives]
        for config in configs:
            run = out / config.objective
            if run.exists():
                resume(run, _monitor(), expected=config)
            else:
                train(config, run, _monitor())
        compare([out / name for name in self.objectives], out)
        _console.print((out / "table.md").read_text(), markup=False, highlight=False)
        _console.print(f"wrote {out / 'table.md'} and {out / 'comparison.png'}")


@dataclass(frozen=True)
class Envs:
    """List the tasks."""

    def __call__(self) -> None:
        """Prints a table of the benchmark's tasks, then those of other installed packages."""
        from marsrl.envs.registry import hidden_tasks, installed_tasks
        from marsrl.envs.tasks import BOUNDS_VERSION, FAMILIES, TASKS

        plain: Any = {"box": None, "pad_edge": False, "collapse_padding": True}  # 80 columns
        columns = ("agents", "obs", "state", "actions", "horizon", "random", "reference")
        table = Table(Column("task", no_wrap=True), *columns, **plain)
        for name, task in TASKS.items():
            sizes = (task.num_agents, task.obs_size, task.state_size, task.action, task.max_steps)
            table.add_row(name, *map(str, sizes), _short(task.low), _short(task.high))
        families = Table("family", "team reward", "end of an episode", "reference", show_lines=True)
        for name, family in FAMILIES.items():
            families.add_row(name, family.reward, family.ends, family.high)
        others, hidden = installed_tasks(), hidden_tasks()
        installed = Table(Column("task", no_wrap=True), "of another package", **plain)
        for name, point in others.items():
            installed.add_row(name, point.value)
        _console.print(table, families, *([installed] if others else []))
        for point in hidden:
            _console.print(f"not reached, because its name is taken: {point.name} of {point.value}")
        _console.print(
            "random, reference: mean returns of the random policy and of a good one, the bounds of "
            f"normalised scores (version {BOUNDS_VERSION}).\n"
            "Besides: any environment of JaxMARL as jaxmarl:NAME, your own as module:factory or "
            "path/file.py:factory."
        )


@dataclass(frozen=True)
class CheckEnv:
    """Check that an environment keeps to the interface; every fault is a sentence."""

    task: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK|MODULE:FACTORY|FILE.py:FACTORY")
    ]

    def __call__(self) -> None:
        """Makes and checks it."""
        from marsrl.envs.check import check_env
        from marsrl.envs.registry import make_unchecked

        for note in check_env(make_unchecked(self.task)):
            _console.print(f"note: {note}", highlight=False, markup=False)
        _console.print(f"{self.task} keeps to the interface", highlight=False)


@dataclass(frozen=True)
class Doctor:
    """Check a run folder or a store; without either the installation, and what is here."""

    path: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN|STORE]")] = None
    repair: bool = False
    """Mend what can be mended from the run's own copies; nothing is lost by it."""
    accept: bool = False
    """Take the run's config.json as it was edited, from now on."""

    def __call__(self) -> None:
        """Says what is wrong with a folder, or checks the installation."""
        if self.path is None:
            self._check_installation()
        else:
            self._check_run(self.path)

    def _check_run(self, path: Path) -> None:
        from marsrl.bench import doctor as bench
        from marsrl.runs import doctor

        if self.accept:
            doctor.accept(path)
        if bench.is_store(path) and not doctor.is_run(path):
            examine, repair = bench.find_faults, bench.repair
        else:
            examine, repair = doctor.examine, doctor.repair
        mended, found = repair(path) if self.repair else ([], examine(path))
        plain: Any = {"highlight": False, "markup": False, "soft_wrap": True}
        for finding in mended:
            _console.print(f"mended: {finding.text} (--repair {finding.remedy})", **plain)
        for finding in found:
            able = "--repair " if finding.mend else ""
            _console.print(f"wrong: {finding.text} ({able}{finding.remedy})", **plain)
        if found:
            raise UserError(f"{path}: {len(found)} of its parts are not as they should be")
        _console.print(f"{path} is sound", **plain)

    def _check_installation(self) -> None:
        """Prints versions and devices, and runs one tiny update."""
        from marsrl.runs.machine import describe_machine
        from marsrl.runs.runner import train

        _console.print_json(json.dumps(describe_machine()))
        tiny = Config(
            seeds=(0,), total_steps=16, num_envs=2, rollout_length=8, width=8,
            num_minibatches=1, update_epochs=1, num_evaluations=1, eval_episodes=1,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            train(tiny, Path(folder) / "run")
        _console.print("one update, evaluation and checkpoint: fine")


def _commands(args: list[str]) -> Any:
    """The union of all commands; `train` and `compare` start from the preset of their task."""
    task = _option(args, "--task", Config.task)
    train = Train(preset(task))
    compare = Compare(preset(task, seeds=(0, 1, 2, 3, 4), total_steps=3_000_000))
    return (
        Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Resume
        | Evaluate
        | Render
        | Annotated[Compare, tyro.conf.subcommand("compare", default=compare)]
        | Bench
        | Annotated[Tune, tyro.conf.subcommand("tune", default=default_tune(task, args))]
        | Envs
        | CheckEnv
        | Doctor
    )


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
        _say("interrupted; go on with: marsrl resume RUN")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if missing := _missing_device(error):
            _say(missing)
            raise SystemExit(2) from None
        _say(f"{reason(error)}: a fault of marsrl or of your code; {_kept_traceback(args)}")
        raise SystemExit(1) from None


def _run(args: list[str]) -> None:
    if args == ["--version"]:
        print(f"marsrl {version('marsrl')}")  # noqa: T201 (what the user asked for or did)
        return
    command = parse(_commands(args), args, __doc__ or "")
    if not isinstance(command, Bench | Tune):  # their processes use JAX, they do not
        configure_jax()
    command()


def _say(message: str) -> None:
    print(f"marsrl: {printable(message)}", file=sys.stderr)  # noqa: T201 (what the user asked for or did)


def _missing_device(error: Exception) -> str | None:
    """What to tell somebody who asked JAX for a device that is not here."""
    asked, frames = os.environ.get("JAX_PLATFORMS"), traceback.walk_tb(error.__traceback__)
    modules = [frame.f_globals.get("__name__") for frame, _ in frames]
    if not asked or "jax._src.xla_bridge" not in modules:
        return None
    return f"JAX_PLATFORMS is {shown(asked)}, and JAX finds no such device here; nearest: cpu"


def _kept_traceback(args: list[str]) -> str:
    """Writes the exception at hand to a file of its own for bug reports, and says where."""
    try:
        number, path = tempfile.mkstemp(prefix="marsrl-", suffix=".traceback", text=True)
        with open(number, "w", errors="backslashreplace") as file:  # noqa: PTH123 (a descriptor)
            file.write(f"marsrl {version('marsrl')} {args}\n{traceback.format_exc()}")
    except OSError as error:
        return f"its traceback could not be kept: {error}"
    return f"for a bug report: {path}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _monitor() -> Monitor:
    return ConsoleMonitor(_console)


def _default_folder(name: str) -> Path:
    slug = re.sub(r"[^\w.-]+", "-", name)  # tasks have slashes or colons
    return Path("runs") / f"{slug}-{datetime.now():%Y%m%d-%H%M%S}"


def _finish(result: Result) -> None:
    """Draws the curve and an episode of the best seed; neither can undo that a run has ended."""
    from marsrl.runs.policy import load_policy

    policy = load_policy(result.path, trust=True)  # it has just run
    from_first(lambda: _draw(result, policy))
    if result.all_diverged:
        what = "; ".join(
            f"seed {seed} at step {step:,}: {result.not_finite.get(seed, '')} not finite"
            for seed, step in result.diverged.items()
        )
        raise UserError(f"all seeds diverged ({what}); see {result.path / 'metrics.jsonl'}")


def _draw(result: Result, policy: Policy) -> None:
    from marsrl.report.learning import learning_curve
    from marsrl.runs.render import Drawable, render

    for seed, score in result.final_return.items():
        known = f"{score:.2f}" if math.isfinite(score) else "not finite"
        _console.print(f"seed {seed}: return {known} (best checkpoint, 10x the episodes)")
    with _only_said("learning curve"):
        _console.print(f"learning curve: {learning_curve(result.path)}")
    gif = result.path / "episode.gif"
    if isinstance(policy.env, Drawable) and not gif.exists():
        with _only_said("trained team"):
            render(policy, gif)
            _console.print(f"trained team: {gif}")


@contextlib.contextmanager
def _only_said(name: str) -> Iterator[None]:
    """Lets a picture that cannot be drawn be a line, for the run has ended well."""
    try:
        yield
    except Exception as error:  # drawing is the environment's own code
        why = str(error) if isinstance(error, UserError) else reason(error)
        _console.print(f"{name}: not drawn: {why}", highlight=False, markup=False, soft_wrap=True)
