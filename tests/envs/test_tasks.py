"""Every task of the benchmark: it is what the table says, and keeps to the interface."""

import json
import math
from collections import Counter

import pytest

from marsrl.envs.check import check_env
from marsrl.envs.registry import make
from marsrl.envs.tasks import FAMILIES, TASKS
from marsrl.types import Box

PER_FAMILY = {
    "rware": 11, "lbf": 7, "connector": 4, "mpe": 3, "smax": 9, "mabrax": 5, "paxmen": 3,
    "aerojax": 5,
}  # fmt: skip


def test_the_benchmark_has_47_tasks_in_eight_families():
    assert Counter(name.partition("/")[0] for name in TASKS) == PER_FAMILY
    assert set(FAMILIES) == set(PER_FAMILY)


@pytest.mark.parametrize("name", TASKS)
def test_bounds_are_pinned_and_ordered(name):
    task = TASKS[name]
    assert math.isfinite(task.low)
    assert math.isfinite(task.high)
    assert task.low < task.high


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_what_the_table_says_and_keeps_to_the_interface(name):
    task, env = TASKS[name], make(name)
    spec = env.spec
    assert spec.num_agents == task.num_agents
    assert spec.obs_shape == (task.obs_size,)
    assert spec.state_shape == (task.state_size,)
    assert spec.action.size == task.num_actions
    assert isinstance(spec.action, Box) == task.continuous
    assert spec.max_steps == task.max_steps
    assert spec.shared_reward
    check_env(env, num_steps=20 if name.startswith("mabrax") else 230)


def test_settings_are_plain_values():
    assert json.loads(json.dumps({name: task.settings for name, task in TASKS.items()}))
