"""The command `marsrl export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marsrl.commandline import Checkpoint, Flag, RunPath
from marsrl.console import PlainConsole
from marsrl.takeaway import Format

_console = PlainConsole(highlight=False)


@dataclass(frozen=True)
class Export:
    """Write a trained team's actor for programs without marsrl: contract, actor, parity check."""

    run: RunPath
    to: Format
    """For JAX and MLIR compilers, for ONNX runtimes, or as a module of PyTorch."""
    out: Path
    """Folder, which must not exist."""
    seed: int | None = None
    """Which training of the run; default: the best."""
    checkpoint: Checkpoint = "best"
    """Which parameters."""
    steps: int = 1000
    """Steps that are recorded, for the check."""
    trust: Flag = False
    """Run code that the folder names: a task or network module:factory."""

    def __call__(self) -> None:
        """Exports, and says what the check found."""
        from marsrl.runs.policy import load_policy
        from marsrl.takeaway.export import export

        policy = load_policy(self.run, self.seed, self.checkpoint, trust=self.trust)
        contract = export(policy, self.to, self.out, self.steps)
        parity, recorded = contract["parity"], contract["recorded"]
        _console.say(
            f"wrote {self.out}: the team of seed {policy.seed} after {policy.step:,} steps; "
            f"{parity['same_actions']:,} of {parity['actions']:,} actions in {parity['steps']:,} "
            f"steps are the same, outputs differ by {parity['largest_difference']:.1e} at most"
        )
        _console.say(f"the steps were {recorded['source']}")
