"""Plays recorded steps with the exported actor in this folder, and compares what it does.

    python play.py      # needs NumPy, and what runs the actor: onnxruntime, torch or jax

`Team` is all that a program needs to act. Made by marsrl (`marsrl export`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Outputs = dict[str, np.ndarray]


class Team:
    """The actors of a team, in B environments at once; it keeps their recurrent state.

    Attributes:
        contract: what goes in and comes out: contract.json.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.contract: dict[str, Any] = json.loads((folder / "contract.json").read_text())
        self._run = _ENGINES[self.contract["format"]](folder)
        self._carry: list[np.ndarray] = []
        self._batch = -1

    def act(self, obs: Any, action_mask: Any, first: Any) -> Outputs:
        """Outputs by name, "action" above all.

        Args:
            obs: (B, N, ...) as the environment gives it.
            action_mask: (B, N, A) bool.
            first: (B,) bool, True where an episode begins.

        Raises:
            TypeError: obs is uint8 and was not in training, or the other way round.
        """
        inputs = self.contract["inputs"]
        obs, trained = np.asarray(obs), np.dtype(inputs["obs"]["dtype"])
        if (obs.dtype == np.uint8) != (trained == np.uint8):  # which the actor divides by 255
            raise TypeError(f"obs is {obs.dtype}, expected {trained} as in training")
        given = [obs.astype(trained), np.asarray(action_mask, bool)]
        names = [name for name in inputs if name.startswith("carry_")]
        if len(given[0]) != self._batch:
            self._batch = len(given[0])
            self._carry = [
                np.zeros((self._batch, *inputs[n]["shape"][1:]), inputs[n]["dtype"]) for n in names
            ]
        if names:
            given += [np.asarray(first, bool), *self._carry]
        outputs = self._run(dict(zip(inputs, given, strict=True)))
        self._carry = [outputs.pop(f"next_{name}") for name in names]
        return outputs


def replay(folder: str | Path) -> dict[str, Any]:
    """Plays the steps of recorded.npz; says how far the outputs are from those recorded."""
    team = Team(folder)
    with np.load(Path(folder) / "recorded.npz") as recorded:
        steps = {name: recorded[name] for name in recorded.files}
    names = [name.removeprefix("expected_") for name in steps if name.startswith("expected_")]
    played = [
        team.act(*now)
        for now in zip(*(steps[n] for n in ("obs", "action_mask", "first")), strict=True)
    ]
    found = {name: np.stack([outputs[name] for outputs in played]) for name in names}
    wanted = {name: steps[f"expected_{name}"] for name in names}
    action, expected = found.pop("action"), wanted.pop("action")
    difference = max(float(_difference(found[n], wanted[n]).max()) for n in found)
    tolerance = team.contract["tolerance"]
    if action.dtype.kind == "i":
        same = action == expected
        # two actions that are equally good but for rounding may change places
        lead = _lead(wanted["logits"], team.contract["action"]["num_actions"])
        fine = same | (lead.reshape(same.shape) <= tolerance)
    else:
        same = fine = (_difference(action, expected) <= tolerance).all(-1)
    return {
        "steps": int(steps["first"].size),
        "actions": int(same.size),
        "same_actions": int(same.sum()),
        "largest_difference": difference,
        "passed": bool(fine.all()) and difference <= tolerance,
    }


def _lead(logits: np.ndarray, num_actions: int | list[int]) -> np.ndarray:
    """(..., K), by how much the best action of each choice is better than the next best."""
    edges = np.cumsum(np.atleast_1d(num_actions))[:-1]
    best = [np.sort(choice, -1)[..., ::-1] for choice in np.split(logits, edges, -1)]
    return np.stack([x[..., 0] - x[..., 1:2].max(-1, initial=-np.inf) for x in best], -1)


def _difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of numbers above 1 relative to them; not a number counts as endless."""
    found = np.abs(x - y) / np.maximum(1.0, np.abs(y))
    return np.where(np.isnan(found), np.inf, found)


def _onnx(folder: Path) -> Callable[[Outputs], Outputs]:
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(folder / "actor.onnx", providers=providers)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Outputs) -> Outputs:
        outputs: list[Any] = list(session.run(names, inputs))
        return dict(zip(names, outputs, strict=True))

    return run


def _torch(folder: Path) -> Callable[[Outputs], Outputs]:
    import torch  # pyright: ignore[reportMissingImports]

    sys.path.insert(0, str(folder))
    try:
        actor = import_module("torch_actor").Actor.load(folder)
    finally:
        sys.path.remove(str(folder))

    def run(inputs: Outputs) -> Outputs:
        with torch.no_grad():
            outputs = actor(*(torch.from_numpy(x) for x in inputs.values()))
        return {name: x.detach().numpy() for name, x in outputs.items()}

    return run


def _stablehlo(folder: Path) -> Callable[[Outputs], Outputs]:
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray((folder / "actor.jax").read_bytes())).call)

    def run(inputs: Outputs) -> Outputs:
        return {name: np.asarray(x) for name, x in call(*inputs.values()).items()}

    return run


_ENGINES = {"onnx": _onnx, "torch": _torch, "stablehlo": _stablehlo}


if __name__ == "__main__":
    result = replay(Path(__file__).parent)
    print(json.dumps(result))  # noqa: T201 (what the user asked for)
    sys.exit(not result["passed"])
