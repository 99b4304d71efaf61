"""Every task of the benchmark: it is what the table says, and keeps to the interface."""

import json
from pathlib import Path

import jax
import pytest

from marsrl.envs.check import check_env
from marsrl.envs.registry import make
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.types import Box

NAMES = {
    "rware": "tiny-2ag tiny-2ag-hard tiny-4ag tiny-4ag-hard small-4ag small-4ag-hard medium-4ag "
    "medium-4ag-hard medium-6ag large-4ag large-8ag",
    "lbf": "8x8-2p-2f-coop 2s-8x8-2p-2f-coop 10x10-3p-3f 2s-10x10-3p-3f 15x15-3p-5f 15x15-4p-3f "
    "15x15-4p-5f",
    "connector": "5x5x3a 7x7x5a 10x10x10a 15x15x23a",
    "mpe": "simple_spread_v3-3ag simple_spread_v3-5ag simple_spread_v3-10ag",
    "smax": "2s3z 3s5z 5m_vs_6m 10m_vs_11m 3s_vs_5z 6h_vs_8z 3s5z_vs_3s6z smacv2_5_units "
    "smacv2_10_units",
    "mabrax": "hopper_3x1 halfcheetah_6x1 walker2d_2x3 ant_4x2 humanoid_9_8",
    "paxmen": "4ag 5ag 6ag",
    "aerojax": "track-3ag track-5ag pincer-4ag pincer-6ag hetero-8ag",
}
MEASURED = json.loads((Path(__file__).parents[2] / "docs/data/task-bounds.json").read_text())


def test_the_benchmark_is_these_47_tasks_of_eight_families():
    names = [f"{family}/{task}" for family, tasks in NAMES.items() for task in tasks.split()]
    assert len(names) == 47
    assert list(TASKS) == names
    assert set(FAMILIES) == set(NAMES)


@pytest.mark.parametrize("name", TASKS)
def test_bounds_are_those_that_were_measured(name):
    task = TASKS[name]
    assert task.low < task.high
    assert task.low == pytest.approx(MEASURED[name]["low"]["mean"], rel=2e-3, abs=6e-4)
    assert task.high == pytest.approx(MEASURED[name]["high"]["mean"], rel=2e-3)
    assert MEASURED[name]["low"]["episodes"] >= 256


@pytest.fixture(scope="module")
def family(request):
    """Tasks of a family share compiled operations; those of all families would fill the memory."""
    yield request.param
    jax.clear_caches()


@pytest.mark.parametrize(
    ("family", "name"), [(name.partition("/")[0], name) for name in TASKS], indirect=["family"]
)
def test_a_task_is_what_the_table_says_and_keeps_to_the_interface(family, name):
    task, env = TASKS[name], make(name)
    spec = env.spec
    assert spec.num_agents == task.num_agents
    assert spec.obs_shape == (task.obs_size,)
    assert spec.state_shape == (task.state_size,)
    assert spec.action.size == task.num_actions
    assert isinstance(spec.action, Box) == task.continuous
    assert spec.max_steps == task.max_steps
    assert spec.shared_reward
    check_env(env, num_steps=20 if family == "mabrax" else 230)


def test_settings_are_plain_values():
    assert json.loads(json.dumps({name: task.settings for name, task in TASKS.items()}))
