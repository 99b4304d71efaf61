"""Exported actors do what the trained ones do, and a contract says how they are used."""

import dataclasses
import functools
import json
import os
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest

from environments import Furnished, Pictured, Scripted, small_config, untrained_policy
from marsrl.errors import UserError
from marsrl.takeaway import export as module
from marsrl.takeaway.contract import contract_of
from marsrl.takeaway.export import CONTRACT, PLAY, RECORDED, export, replay
from marsrl.takeaway.recorded import BATCH, draw, record
from marsrl.takeaway.weights import arrays_of
from marsrl.types import Box, MultiDiscrete

N = 3
DISCRETE, BOX = Scripted(num_agents=N), Scripted(Box(2, -2.0, (1.0, 3.0)), N)
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "torch": ("torch",), "stablehlo": ("flatbuffers",)}
STEPS = 200


def policy_of(env, **settings):
    return untrained_policy(env, small_config(**settings), step=7)


POLICIES = {
    "recurrent, masked": policy_of(DISCRETE, actor_norm="running"),
    "separate": policy_of(DISCRETE, core="ff", share_parameters=False, actor_norm="layer"),
    "continuous, deep": policy_of(BOX, state_std=True, depth=2, activation="gelu"),
    "continuous, separate": policy_of(BOX, share_parameters=False, activation="silu"),
    "groups": policy_of(
        Scripted(num_agents=4, groups=("a", "b", "b", "a")), share_parameters="groups"
    ),
    "continuous, unequal groups": policy_of(
        Scripted(Box(2, -2.0, (1.0, 3.0)), N, groups=("a", "b", "a")),
        core="ff",
        share_parameters="groups",
    ),
    "continuous, no ids": policy_of(BOX, core="ff", agent_ids=False),
    "continuous, groups without ids": policy_of(
        Scripted(Box(2, -2.0, (1.0, 3.0)), N, groups=("a", "b", "a")),
        core="ff",
        share_parameters="groups",
        agent_ids=False,
    ),
    "pictures": policy_of(Pictured(num_agents=N), actor_norm="running"),
    "several choices": policy_of(Scripted(MultiDiscrete((3, 2, 4)), N)),
    "dictionaries, groups": policy_of(
        Furnished(num_agents=N, groups=("a", "b", "a")),
        share_parameters="groups",
        actor_norm="running",
    ),
    "pictures, separate": policy_of(
        Pictured(num_agents=2, shape=(17, 12, 1)),
        share_parameters=False,
        core="ff",
        activation="tanh",
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _recorded_once():
    """The steps of a policy are the same for every format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "record", functools.cache(record))
        yield


def needs(to):
    for package in PACKAGES[to]:
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(policy, format) -> folder and contract, made once."""

    @functools.cache
    def make(name, to):
        needs(to)
        folder = tmp_path_factory.mktemp("exported") / "folder"
        return folder, export(POLICIES[name], to, folder, STEPS)

    return make


FIRST = "recurrent, masked"
CASES = [(name, to) for name in POLICIES for to in ("onnx", "torch")]
CASES += [(name, "stablehlo") for name in (FIRST, "continuous, separate")]


@pytest.mark.parametrize(("name", "to"), CASES)
def test_an_exported_actor_does_what_the_trained_one_does(exported, name, to):
    _, contract = exported(name, to)
    parity = contract["parity"]
    assert parity["passed"]
    assert parity["steps"] == STEPS
    spec = POLICIES[name].layout.spec
    choices = 3 if isinstance(spec.action, MultiDiscrete) else 1
    assert parity["same_actions"] == parity["actions"] == STEPS * spec.num_agents * choices
    assert contract["recorded"]["source"].startswith("played")


@pytest.mark.parametrize("to", PACKAGES)
def test_the_contract_says_what_goes_in_and_comes_out(exported, to):
    folder, contract = exported(FIRST, to)
    assert json.loads((folder / CONTRACT).read_text()) == contract
    assert contract["inputs"]["obs"]["shape"] == ["batch", N, 3]
    assert list(contract["inputs"]) == ["obs", "action_mask", "first", "carry_0"]
    assert contract["inputs"]["carry_0"]["shape"] == ["batch", N, 8]
    assert list(contract["outputs"]) == ["action", "logits", "next_carry_0"]
    assert contract["agents"]["number"] == N
    assert contract["trained"]["steps"] == 7
    with np.load(folder / RECORDED) as steps:
        assert steps["obs"].shape == (STEPS // BATCH, BATCH, N, 3)
        assert steps["first"].sum() > BATCH  # several episodes


def test_the_contract_says_where_the_parts_of_a_dictionary_lie():
    policy = POLICIES["dictionaries, groups"]
    rows = contract_of(policy, "torch", None, {})["observation"]
    assert [(row["name"], row["shape"], row["start"], row["stop"]) for row in rows] == [
        ("body/angles", [3], 0, 3),
        ("body/turns", [1], 3, 4),
        ("view", [9, 4, 2], 4, 76),
    ]
    assert contract_of(POLICIES[FIRST], "torch", None, {})["observation"] is None


@pytest.mark.parametrize("to", PACKAGES)
def test_what_is_wrong_is_noticed(exported, to, tmp_path):
    """A mask, a restart or an observation that the actor did not take in changes what it does."""
    folder, _ = exported(FIRST, to)
    with np.load(folder / RECORDED) as steps:
        steps = dict(steps)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    changes = {
        "obs": steps["obs"] + 0.1,
        "action_mask": np.roll(steps["action_mask"], 1, -1),
        "first": np.zeros_like(steps["first"]),
    }
    for name, change in changes.items():
        np.savez(tmp_path / RECORDED, **(steps | {name: change}))
        assert not replay(tmp_path)["passed"], name
    np.savez(tmp_path / RECORDED, **steps)
    assert replay(tmp_path)["passed"]


def test_an_actor_that_does_something_else_is_not_written(tmp_path, monkeypatch):
    needs("torch")
    wrong = dataclasses.replace(
        POLICIES[FIRST], actor=jax.tree.map(lambda x: x + 0.05, POLICIES[FIRST].actor)
    )
    monkeypatch.setattr(module, "record", lambda *_: record(wrong, STEPS))
    with pytest.raises(UserError, match=r"does something else.*outputs differ by"):
        export(POLICIES[FIRST], "torch", tmp_path / "out", STEPS)
    assert list(tmp_path.iterdir()) == []


BLOCKED = """
import sys
for name in ("jax", "marsrl", "flax"): sys.modules[name] = None
import runpy
runpy.run_path("play.py", run_name="__main__")
"""


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_the_folder_needs_neither_marsrl_nor_jax(exported, to):
    folder, _ = exported(FIRST, to)
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["passed"]


def test_pictures_and_other_numbers_are_not_taken_for_each_other(exported):
    for name in ("pictures", FIRST):
        folder, _ = exported(name, "onnx")
        team = runpy.run_path(str(folder / PLAY))["Team"](folder)
        with np.load(folder / RECORDED) as steps:
            obs, mask, first = (steps[key][0] for key in ("obs", "action_mask", "first"))
        other = np.float32 if obs.dtype == np.uint8 else np.uint8
        with pytest.raises(TypeError, match=f"expected {obs.dtype} as in training"):
            team.act(obs.astype(other), mask, first)
        assert team.act(obs.tolist() if other is np.uint8 else obs, mask, first)


def test_masks_that_are_drawn_leave_an_action_of_each_choice():
    seen = draw(POLICIES["several choices"], 400)
    for choice in np.split(np.asarray(seen.action_mask), (3, 5), axis=-1):
        assert choice.any(-1).all()
        assert not choice.all()


def test_steps_are_drawn_where_the_environment_is_not():
    def gone():
        raise UserError("mpe is not installed")

    made = record(dataclasses.replace(POLICIES["pictures"], make_env=gone), 60)
    assert made.source == "drawn at random: mpe is not installed"
    assert made.seen.obs.dtype == np.uint8
    assert made.seen.obs.shape == (15, BATCH, N, 5, 4, 2)
    assert made.seen.action_mask.any(-1).all()
    assert len(np.unique(made.expected["action"])) > 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"to": "onxx"}, "to is 'onxx'.*did you mean onnx"),
        ({"steps": 0}, "steps is 0"),
        ({"out": "full"}, "full exists; choose another --out"),
    ],
)
def test_bad_input_is_one_line(tmp_path, change, reason):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    values = {"to": "torch", "steps": STEPS, "out": "out"} | change
    with pytest.raises(UserError, match=reason):
        export(POLICIES[FIRST], values["to"], tmp_path / values["out"], values["steps"])
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize(
    ("to", "package"), [("onnx", "onnx"), ("torch", "torch"), ("stablehlo", "flatbuffers")]
)
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is not installed.*marsrl\[{to}\]"):
        export(POLICIES[FIRST], to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_every_weight_is_exported():
    for name, policy in POLICIES.items():
        size = sum(x.size for x in jax.tree.leaves(policy.actor.params))
        arrays = arrays_of(policy)
        kept = {n: x for n, x in arrays.items() if not n.startswith("norm.")}
        if "groups" not in name or name == "groups":  # ids that no agent has are left out
            assert sum(x.size for x in kept.values()) == size, name
        assert contract_of(policy, "torch", None, {})["architecture"]["weights"] == {
            n: list(x.shape) for n, x in arrays.items()
        }
    assert PLAY.endswith(".py")
