"""Writing the folder: actor, contract, recorded steps, and the check that they agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from marsrl.errors import UserError, check_choice, check_int, reason, shown
from marsrl.files import check_named, check_new, temporary
from marsrl.runs.policy import Policy
from marsrl.runs.records import Row
from marsrl.takeaway import Format, to_onnx, to_stablehlo, to_torch
from marsrl.takeaway.contract import contract_of
from marsrl.takeaway.recorded import BATCH, record

CONTRACT, RECORDED, PLAY = "contract.json", "recorded.npz", "play.py"
_WRITERS: dict[Format, Callable[..., None]] = {
    "stablehlo": to_stablehlo.write,
    "onnx": to_onnx.write,
    "torch": to_torch.write,
}


def export(policy: Policy, to: Format, out: Path, steps: int = 1000, seed: int = 0) -> Row:
    """Writes a folder with the actor of a trained team, for programs without marsrl.

    It holds the actor, `contract.json`, `recorded.npz` (steps of the team in its environment, or
    drawn ones if that cannot be made here, and what the trained actor does at each) and `play.py`,
    which plays these steps again with the exported actor. That is done here too.

    Args:
        policy: the team.
        to: the format.
        out: the folder, which must not exist, or be empty.
        steps: that are recorded.
        seed: of the episodes that are recorded.

    Returns:
        The contract.

    Raises:
        UserError: a folder that exists or cannot be written, a package that is not installed, an
            actor that the format cannot hold, or an exported actor that does something else.
    """
    check_choice("to", to, _WRITERS)
    check_int("steps", steps, 1, 1_000_000)
    check_int("seed", seed, 0, 2**32 - 1)
    _check_free(out)
    beside = temporary(out)
    try:
        beside.mkdir(parents=True)
        contract = _write(policy, to, beside, steps, seed)
        if out.exists():
            out.rmdir()
        beside.rename(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return contract


def _write(policy: Policy, to: Format, folder: Path, steps: int, seed: int) -> Row:
    batch = _write_actor(policy, to, folder)
    seen, outputs, source = record(policy, steps, seed)
    arrays = seen._asdict() | {f"expected_{name}": x for name, x in outputs.items()}
    np.savez_compressed(folder / RECORDED, allow_pickle=False, **arrays)
    about = {"steps": int(seen.first.size), "side_by_side": BATCH, "source": source}
    contract = contract_of(policy, to, batch, about)
    _write_json(folder / CONTRACT, contract)
    template = Path(__file__).parent / "files" / PLAY
    (folder / PLAY).write_bytes(template.read_bytes())
    contract["parity"] = parity = replay(folder)
    if not parity["passed"]:
        raise UserError(
            f"the exported actor does something else than the trained one: its outputs differ by "
            f"{parity['largest_difference']:.3g}, expected {contract['tolerance']} at most; "
            f"{parity['same_actions']} of {parity['actions']} actions are the same"
        )
    _write_json(folder / CONTRACT, contract)
    return contract


def _write_actor(policy: Policy, to: Format, folder: Path) -> int | None:
    """Writes the files; returns for how many environments they are, None if for any number."""
    write = _WRITERS[to]
    if to != "stablehlo" or policy.config.network is None:
        write(policy, folder)
        return None
    try:
        write(policy, folder)
    except UserError:
        raise
    except Exception:  # somebody's network may ask for the value of a size
        try:
            write(policy, folder, BATCH)
        except Exception as error:
            raise UserError(
                f"network {shown(policy.config.network)} cannot be exported: {reason(error)}"
            ) from error
        return BATCH
    return None


def replay(folder: Path) -> Row:
    """Runs the check of an exported folder's `play.py`, in this process."""
    spec = spec_from_file_location("marsrl_exported_play", folder / PLAY)
    assert spec is not None
    assert spec.loader is not None
    play: Any = module_from_spec(spec)
    spec.loader.exec_module(play)
    try:
        return play.replay(folder)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, which checks what was exported; type: pip install "
            f"{error.name}"
        ) from error


def _check_free(out: Path) -> None:
    check_named(out)
    if out.is_dir() and not any(out.iterdir()):
        return
    check_new(out)


def _write_json(path: Path, content: Row) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
