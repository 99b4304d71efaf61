"""Training spread over devices learns what one device learns, up to the order of additions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marsrl.errors import UserError

# In a process of its own, since the number of devices is fixed when JAX starts.
PROGRAM = """
import json, sys
import jax
import numpy as np

jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, "tests")
from environments import Furnished, Scripted, small_config
from marsrl.envs.flat import flat
from marsrl.learner.metrics import merged
from marsrl.learner.program import Program

LOGGED = ("actor/grad_norm", "ratio/max", "entropy", "actor/loss", "critic/value", "update/passes")
kind = sys.argv[1]
about = dict(num_agents=3, death=(2, 5, 10**6), groups=("a", "b", "a"))
env = flat(Furnished(**about)) if kind == "ff" else Scripted(**about)
settings = dict(seeds=(3, 4), num_envs=8, update_epochs=2, stagger=True, eval_episodes=6)
if kind == "ff":  # pictures and numbers
    settings |= {"core": "ff", "share_parameters": "groups"}
if kind == "own":
    settings |= {"network": "own_networks:make"}
if kind == "gru":
    settings |= {"chunk_length": 4, "actor_norm": "running", "critic_norm": "running",
                 "value_norm": True, "kl_stop": 4e-6}
for devices in map(int, sys.argv[2:]):
    config = small_config(devices=devices, **settings)
    program = Program(config, env)
    state, curve = program.init(), []
    for _ in range(4):
        state, metrics = program.step(state)
        curve.append(merged(jax.tree.map(lambda x: np.asarray(x)[:, :1], metrics)))
    actor = state.learner.weights.actor
    print(json.dumps({
        "layout": config.layout.shapes[devices],
        "spread": len(state.rollout.vector.first.sharding.device_set),
        "params": [np.asarray(x).ravel().tolist() for x in jax.tree.leaves(state.learner.weights)],
        "clocks": np.asarray(state.rollout.vector.env.t).tolist(),
        "episodes": [[m["episode/return"].tolist(), m["episode/count"].tolist()] for m in curve],
        "losses": [[m[name].tolist() for name in LOGGED if name in m] for m in curve],
        "kl": [m["approx_kl"].tolist() for m in curve],
        "replay": max(float(m["replay_error/max"].max()) for m in curve),
        "evaluation": np.asarray(program.evaluate(actor).episode_return).tolist(),
    }))
"""


LAYOUTS = {1: [1, 1], 2: [2, 1], 8: [2, 4]}
"""Shares of the seeds and of the environments, by the number of devices."""


@pytest.fixture(
    scope="module", params=[("ff", 1, 8), ("gru", 1, 2, 8), ("own", 1, 8)], ids=lambda case: case[0]
)
def runs(request):
    """What each number of devices made of the same configuration."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, request.param)],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run["spread"] for run in made] == list(request.param[1:])
    return made


def test_seeds_are_spread_first_then_environments(runs):
    for run in runs:
        assert run["layout"] == LAYOUTS[run["spread"]]


def test_the_learning_curve_does_not_depend_on_the_number_of_devices(runs):
    first = runs[0]
    for run in runs[1:]:
        assert run["clocks"] == first["clocks"]
        for name in ("episodes", "losses", "evaluation"):
            np.testing.assert_allclose(run[name], first[name], rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(run["kl"], first["kl"], rtol=1e-4, atol=1e-9)
        for ours, theirs in zip(run["params"], first["params"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_something_was_learnt_and_replayed_exactly(runs):
    """Else equal curves would prove little."""
    for run in runs:
        assert run["replay"] < 1e-5
        assert np.ptp(np.array(run["losses"])[:, 0]) > 0
        assert np.array(run["episodes"])[:, 1].min() > 0


def test_some_updates_stopped_early(runs):
    """Some agents are dead, and more of them on some devices."""
    passes = [np.array(losses[-1]) for losses in runs[0]["losses"] if len(losses) == 6]
    assert not passes or 0 < np.mean(np.array(passes) < 1) < 1


def test_a_run_that_does_not_fit_is_refused_with_the_number(monkeypatch):
    from environments import Scripted, small_config
    from marsrl.learner import program as program_module

    monkeypatch.setattr(program_module, "free_memory", lambda mesh: 1000)
    program = program_module.Program(small_config(core="ff"), Scripted())
    with pytest.raises(UserError, match=r"needs 0\.0 GB on each of its 1 devices.* lower num_envs"):
        program.compile()
