"""The command line of runs: train, resume, evaluate, render, doctor."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from marsrl.commandline import Checkpoint, ConfigFile, Flag, Log, RunPath
from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.devices.distributed import Processes, from_first
from marsrl.envs.tasks import check_named
from marsrl.errors import UserError, check_int, reason
from marsrl.runs.folder import EPISODE, RunFolder, default_folder
from marsrl.runs.monitor import ConsoleMonitor, Monitor
from marsrl.settings import write_config

if TYPE_CHECKING:
    from marsrl.runs.policy import Policy
    from marsrl.runs.runner import Result

_console = PlainConsole()


@dataclass(frozen=True)
class Train:
    """Train a team; without arguments, MARS on paxmen/4ag."""

    config: tyro.conf.OmitArgPrefixes[Config] = Config()
    out: Path | None = None
    """Run folder, which must not exist; default: runs/TASK-OBJECTIVE-TIME."""
    log: Log = ()
    """Where else its log goes."""
    file: ConfigFile = None
    """Settings to begin with: TOML, or the config.json of a run; options come after it."""
    trust: Flag = False
    """Run a task, objective or network module:factory that a config.json names."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = Processes()

    def __call__(self) -> None:
        """Trains, then draws the learning curve and an episode of the trained team."""
        from marsrl.runs.runner import train

        default = default_folder(f"{self.config.task}-{self.config.objective}")
        with self.processes.joined():
            out = self.out or Path(from_first(lambda: str(default)))  # its time is process 0's
            _finish(train(self.config, out, _monitor(), followers=self.log))


@dataclass(frozen=True)
class ConfigCommand:
    """Print the configuration that `train` would have, as TOML that `--config` reads."""

    config: tyro.conf.OmitArgPrefixes[Config] = Config()
    file: ConfigFile = None
    """Settings to begin with: TOML, or the config.json of a run; options come after it."""
    trust: Flag = False
    """Take a task, objective or network module:factory out of a config.json."""

    def __call__(self) -> None:
        """Prints."""
        check_named(self.config.task)  # else a typo gives the defaults of no family
        print(write_config(self.config), end="")  # noqa: T201 (what the user asked for or did)


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run, exactly where it stopped; or beyond its end."""

    run: RunPath
    restart: bool = False
    """Begin anew; what the run has come to is set aside in a folder inside it."""
    total_steps: int | None = None
    """Train up to so many steps, also if the run has finished; default: as it was meant."""
    log: Log | None = None
    """Where else its log goes from now on; default: as before."""
    trust: Flag = False
    """Run code that the folder names: a task, objective or network module:factory."""
    processes: tyro.conf.OmitArgPrefixes[Processes] = Processes()

    def __call__(self) -> None:
        """Resumes, then draws as `train` does."""
        from marsrl.runs.runner import resume

        with self.processes.joined():
            result = resume(
                self.run,
                _monitor(),
                restart=self.restart,
                trust=self.trust,
                total_steps=self.total_steps,
                followers=self.log,
            )
            _finish(result)


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
    trust: Flag = False
    """Run code that the folder names: a task or network module:factory."""

    def __call__(self) -> None:
        """Evaluates and prints."""
        import jax
        import numpy as np

        from marsrl.envs.vector import opened
        from marsrl.learner.evaluate import evaluate
        from marsrl.runs.policy import load_policy

        check_int("episodes", self.episodes, 1, 1_000_000)
        check_int("episode_seed", self.episode_seed, 0, 2**32 - 1)
        policy = load_policy(self.run, self.seed, self.checkpoint, trust=self.trust)
        keys = jax.random.split(jax.random.key(self.episode_seed), self.episodes)

        @jax.jit  # closed over, not static: somebody's environment may be unhashable
        def play(actor: Any, keys: Any) -> Any:
            longest = policy.config.eval_longest
            return evaluate(policy.networks, actor, policy.env, keys, self.greedy, longest)

        with opened(policy.env):
            returns = np.asarray(play(policy.actor, keys).episode_return)
        finite = np.isfinite(returns)
        if self.json:
            values = [float(x) if known else None for x, known in zip(returns, finite, strict=True)]
            print(json.dumps({"step": policy.step, "returns": values}))  # noqa: T201 (what the user asked for or did)
            return
        if not finite.all():
            raise UserError(
                f"the return is not finite in {(~finite).sum():,} of {self.episodes:,} episodes: "
                "the environment's rewards or observations, or the policy, have such numbers"
            )
        _console.say(
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
    trust: Flag = False
    """Run code that the folder names: a task or network module:factory."""

    def __call__(self) -> None:
        """Renders and prints where."""
        from marsrl.runs.policy import load_policy
        from marsrl.runs.render import render

        out = self.out or self.run / f"episode-{self.episode_seed}.gif"
        policy = load_policy(self.run, self.seed, self.checkpoint, trust=self.trust)
        total = render(policy, out, self.episode_seed, self.greedy, self.fps, self.every)
        _console.say(f"return {total:.2f}; wrote {out}")


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
            if self.repair or self.accept:
                flag = "--repair" if self.repair else "--accept"
                raise UserError(f"{flag} is of a folder: expected doctor RUN {flag}")
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
        for finding in mended:
            _console.say(f"mended: {finding.text} (--repair {finding.remedy})")
        for finding in found:
            able = "--repair " if finding.mend else ""
            _console.say(f"wrong: {finding.text} ({able}{finding.remedy})")
        if found:
            raise UserError(f"{path}: {len(found)} of its parts are not as they should be")
        _console.say(f"{path} is sound")

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
        _console.say("one update, evaluation and checkpoint: fine")


def _monitor() -> Monitor:
    return ConsoleMonitor(_console)


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
        _console.say(f"seed {seed}: return {known} (best checkpoint, 10x the episodes)")
    with _only_said("learning curve"):
        _console.say(f"learning curve: {learning_curve(result.path)}")
    gif = result.path / EPISODE
    if isinstance(policy.env, Drawable) and not _is_of(gif, result.path):
        with _only_said("trained team"):
            gif.unlink(missing_ok=True)  # of an older team
            render(policy, gif)
            _console.say(f"trained team: {gif}")


def _is_of(picture: Path, run: Path) -> bool:
    """Whether a picture was drawn after the last checkpoint."""
    checkpoints = RunFolder(run).checkpoints
    return picture.exists() and picture.stat().st_mtime_ns >= checkpoints.stat().st_mtime_ns


@contextlib.contextmanager
def _only_said(name: str) -> Iterator[None]:
    """Lets a picture that cannot be drawn be a line, for the run has ended well."""
    try:
        yield
    except Exception as error:  # drawing is the environment's own code
        why = str(error) if isinstance(error, UserError) else reason(error)
        _console.say(f"{name}: not drawn: {why}")
