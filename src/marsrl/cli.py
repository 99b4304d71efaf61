"""The command line: train, resume, evaluate, render, compare, envs, doctor."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.runlog import ConsoleMonitor, Monitor

_console = Console()

Checkpoint = Annotated[str, tyro.conf.arg(metavar="best|latest|STEPS")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Train:
    """Train a team; without arguments, MARS on paxmen/4ag."""

    config: tyro.conf.OmitArgPrefixes[Config] = Config()
    out: Path | None = None
    """Run folder, which must not exist; default: runs/TASK-OBJECTIVE-TIME."""

    def __call__(self) -> None:
        """Trains, then draws the learning curve and an episode of the trained team."""
        from marsrl.runner import train

        name = f"{self.config.task.replace('/', '-')}-{self.config.objective}"
        _finish(train(self.config, self.out or _default_folder(name), _monitor()).path)


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, exactly where its last checkpoint left off."""

    run: RunPath

    def __call__(self) -> None:
        """Resumes, then draws as `train` does."""
        from marsrl.runner import resume

        _finish(resume(self.run, _monitor()).path)


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

    def __call__(self) -> None:
        """Evaluates and prints."""
        import jax
        import numpy as np

        from marsrl.evaluate import evaluate
        from marsrl.policy import load_policy

        if self.episodes < 1:
            raise UserError(f"episodes = {self.episodes} must be 1 or greater")
        policy = load_policy(self.run, self.seed, self.checkpoint)
        key = jax.random.key(self.episode_seed)
        play = jax.jit(evaluate, static_argnums=(0, 2, 4, 5))
        stats = play(policy.networks, policy.params, policy.env, key, self.episodes, self.greedy)
        returns = np.asarray(stats.episode_return)
        if self.json:
            print(json.dumps({"step": policy.step, "returns": returns.tolist()}))  # noqa: T201
            return
        _console.print(
            f"return {returns.mean():.2f} (standard deviation {returns.std():.2f}, "
            f"{returns.min():.2f} to {returns.max():.2f}) over {self.episodes} episodes, "
            f"{'greedy' if self.greedy else 'sampled'} actions, after {policy.step:,} steps"
        )


@dataclass(frozen=True)
class Render:
    """Write an episode of a trained team as a GIF."""

    run: RunPath
    out: Path | None = None
    """File to write; default: RUN/episode-SEED.gif."""
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

    def __call__(self) -> None:
        """Renders and prints where."""
        from marsrl.policy import load_policy
        from marsrl.render import render

        out = self.out or self.run / f"episode-{self.episode_seed}.gif"
        policy = load_policy(self.run, self.seed, self.checkpoint)
        total = render(policy, out, self.episode_seed, self.greedy, self.fps)
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
        from marsrl.runner import resume, train

        out = self.out or _default_folder(f"compare-{self.config.task.replace('/', '-')}")
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
        """Prints a table of every task."""
        from marsrl.envs.registry import TASKS, make
        from marsrl.types import Discrete

        table = Table("task", "agents", "observation", "state", "actions", "horizon", "reward")
        for task in TASKS:
            spec = make(task).spec
            kind = "discrete" if isinstance(spec.action, Discrete) else "continuous"
            table.add_row(
                task,
                str(spec.num_agents),
                "x".join(map(str, spec.obs_shape)),
                "x".join(map(str, spec.state_shape)),
                f"{spec.action.size} {kind}",
                str(spec.max_steps),
                "shared" if spec.shared_reward else "per agent",
            )
        _console.print(table)


@dataclass(frozen=True)
class Doctor:
    """Check the installation and say what this machine offers."""

    def __call__(self) -> None:
        """Prints versions and devices, and runs one tiny update."""
        import tempfile

        from marsrl.runlog import describe_machine
        from marsrl.runner import train

        _console.print_json(json.dumps(describe_machine()))
        tiny = Config(
            seeds=(0,), total_steps=16, num_envs=2, rollout_length=8, width=8,
            num_minibatches=1, update_epochs=1, num_evaluations=1, eval_episodes=1,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            train(tiny, Path(folder) / "run")
        _console.print("one update, evaluation and checkpoint: fine")


Command = Train | Resume | Evaluate | Render | Compare | Envs | Doctor


def main(args: list[str] | None = None) -> None:
    """The entry point of `marsrl`; exits with 2 and one line for anything a user can mend."""
    try:
        command = tyro.cli(Command, args=args, prog="marsrl", description=__doc__)
        _configure_jax()
        command()
    except UserError as error:
        print(f"marsrl: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    except OSError as error:
        print(f"marsrl: {error.strerror}: {error.filename}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("marsrl: interrupted; go on with: marsrl resume RUN", file=sys.stderr)  # noqa: T201
        raise SystemExit(130) from None


def _configure_jax() -> None:
    """One device per core, and compiled programs kept between starts."""
    import jax

    from marsrl import sharding

    sharding.use_cpu_cores()
    cache = os.environ.get("MARSRL_CACHE", Path.home() / ".cache" / "marsrl")
    jax.config.update("jax_compilation_cache_dir", str(cache))


def _monitor() -> Monitor:
    return ConsoleMonitor(_console)


def _default_folder(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _finish(run: Path) -> None:
    """Draws the curve and an episode of the best seed."""
    from marsrl.envs.registry import make
    from marsrl.policy import load_policy
    from marsrl.render import Drawable, render
    from marsrl.report.learning import learning_curve
    from marsrl.runlog import RunFolder

    folder = RunFolder.open(run)
    curve = learning_curve(run)
    finals = {row["seed"]: row["return"] for row in folder.rows() if row["kind"] == "final"}
    for seed, score in finals.items():
        _console.print(f"seed {seed}: return {score:.2f} (best checkpoint, 10x the episodes)")
    _console.print(f"learning curve: {curve}")
    gif = run / "episode.gif"
    if isinstance(make(folder.config().task), Drawable) and not gif.exists():
        render(load_policy(run), gif)
        _console.print(f"trained team: {gif}")
