"""Exported teams on real tasks: 1,000 recorded steps each, and the command from run to folder."""

import json
import subprocess
import sys

import numpy as np
import pytest

import marsrl
from commands import run_all
from environments import small_config, untrained_policy
from marsrl.takeaway import export as module
from marsrl.takeaway.export import RECORDED, export
from marsrl.takeaway.recorded import record

TASKS = {
    "paxmen/4ag": {"actor_norm": "running"},
    "mpe/simple_spread_v3-3ag": {"share_parameters": False, "core": "ff"},
    "smax/2s3z": {"actor_norm": "running"},
}


@pytest.mark.parametrize("task", TASKS)
def test_the_same_actions_for_1000_recorded_steps(task, tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(package)
    if not task.startswith("paxmen"):
        pytest.importorskip("jaxmarl")
    policy = untrained_policy(marsrl.make(task), small_config(task=task, **TASKS[task]))
    recorded = record(policy, 1000)
    assert recorded.source.startswith("played")
    monkeypatch.setattr(module, "record", lambda *_: recorded)
    for to in ("onnx", "torch", "stablehlo"):
        contract = export(policy, to, tmp_path / to)
        parity = contract["parity"]
        assert parity["steps"] == 1000
        assert parity["same_actions"] == parity["actions"] == 1000 * policy.layout.spec.num_agents
        assert parity["largest_difference"] <= contract["tolerance"]
    with np.load(tmp_path / "onnx" / RECORDED) as steps:
        assert steps["first"].sum() > 4
        assert len(np.unique(steps["expected_action"])) > 3


WITHOUT_US = """
import runpy, sys
for name in ("jax", "marsrl", "flax", "torch"): sys.modules[name] = None
runpy.run_path("taken/play.py", run_name="__main__")
"""


def test_from_a_run_to_a_folder(tmp_path):
    pytest.importorskip("onnxruntime")
    config = small_config(total_steps=48, num_evaluations=1, eval_episodes=2, seeds=(0,))
    marsrl.train(config, tmp_path / "run")
    commands = [
        "export run --to onnx --out taken --steps 40",
        "export run --to onnx --out taken",
        "export run --to onxx --out other",
        "export run --to onnx --seed 5 --out other",
        "export run --to onnx --checkpoint 7 --out other",
        "export nowhere --to onnx --out other",
    ]
    exported, again, *refused = run_all([c.split() for c in commands], tmp_path)
    assert exported[0] == 0, exported[2]
    assert "160 of 160 actions in 40 steps are the same" in exported[1]
    assert "played in the environment" in exported[1]
    assert {p.name for p in (tmp_path / "taken").iterdir()} == {
        "actor.onnx",
        "contract.json",
        "play.py",
        "recorded.npz",
    }
    contract = json.loads((tmp_path / "taken" / "contract.json").read_text())
    assert contract["trained"]["task"] == "paxmen/4ag"
    played = subprocess.run(
        [sys.executable, "-c", WITHOUT_US],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert json.loads(played.stdout)["same_actions"] == 160, played.stderr
    reasons = ("taken exists", "onnx", "no seed 5", "no checkpoint '7'", "not a run folder")
    for (code, _, err, _), why in zip([again, *refused], reasons, strict=True):
        assert code == 2
        assert why in err
        assert err.count("\n") == 1
    assert not (tmp_path / "other").exists()
