"""The built-in actor as a PyTorch module: its source, which needs no marsrl, and a state dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marsrl.extras import require
from marsrl.runs.policy import Policy
from marsrl.takeaway.weights import arrays_of

FILE, SOURCE = "actor.pt", "torch_actor.py"


def write(policy: Policy, folder: Path) -> None:
    """Writes `actor.pt` and `torch_actor.py`.

    Raises:
        UserError: torch is not installed, or the network is a user's own.
    """
    arrays = arrays_of(policy)
    torch: Any = require("torch", "torch")
    state = {
        f"weights.{name.replace('.', '_')}": torch.tensor(array) for name, array in arrays.items()
    }
    torch.save(state, folder / FILE)
    source = Path(__file__).parent / "files" / SOURCE
    (folder / SOURCE).write_bytes(source.read_bytes())
