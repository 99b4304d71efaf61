"""What the files of a run say about a trial."""

import json
import math

import pytest

from marsrl.config import Config
from marsrl.envs.tasks import Bounds
from marsrl.tune.scores import WORST, Measured, combine, measure, num_steps

CONFIG = Config(seeds=(3, 5), total_steps=320, num_envs=4, rollout_length=8, num_evaluations=3)


@pytest.fixture
def run(tmp_path):
    def write(rows, **status):
        (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (tmp_path / "status.json").write_text(json.dumps(status))
        return lambda bounds=None: measure(tmp_path, CONFIG, bounds)

    return write


def evaluation(seed, step, value):
    return {"kind": "eval", "seed": seed, "step": step, "return": value}


def test_an_evaluation_counts_once_all_seeds_have_it(run):
    rows = [evaluation(s, step, s + step) for step in (0, 32, 64) for s in (3, 5)]
    measured = run([*rows, evaluation(3, 96, 9.0)])
    assert measured().evaluations == (36.0, 68.0)  # the one before training is none
    assert measured(Bounds(-4.0, 16.0)).evaluations == (2.0, 3.6)


def test_a_return_that_is_not_finite_is_the_worst(run):
    measured = run([evaluation(3, 32, 1.0), evaluation(5, 32, None)])
    assert measured(Bounds(0.0, 2.0)).evaluations == (WORST,)


def test_the_policy_s_own_divergence_comes_before_that_of_minibatches(run):
    rows = [
        {"kind": "train", "seed": 3, "step": step, "approx_kl": x}
        for step, x in enumerate((1.0, 3.0, None), start=1)
    ]
    assert run(rows)().kl == 2.0
    assert run([{**row, "update_kl": 0.5} for row in rows])().kl == 0.5


def test_the_divergence_is_a_mean_over_steps_and_then_over_seeds_as_in_reports(run):
    """Rows come at evaluations too: each counts for the steps since the seed's last one."""
    kls = {3: {10: 1.0, 20: 3.0, 100: 5.0}, 5: {50: 8.0}}
    rows = [
        {"kind": "train", "seed": seed, "step": step, "approx_kl": kl}
        for seed, of_seed in kls.items()
        for step, kl in of_seed.items()
    ]
    first = (10 * 1 + 10 * 3 + 80 * 5) / 100
    assert run(rows)().kl == pytest.approx((first + 8) / 2)
    assert run(rows[::-1])().kl == pytest.approx((first + 8) / 2)


def test_a_diverged_seed_is_seen(run):
    seeds = {"3": {"status": "finished"}, "5": {"status": "diverged"}}
    measured = run([], status="running", seeds=seeds, seconds={"train": 2.0, "compile": 1.5})()
    assert measured.diverged
    assert measured.seconds == 3.5


def test_what_is_not_there_is_not_measured(tmp_path):
    measured = measure(tmp_path / "nowhere", CONFIG, None)
    assert measured[:2] == Measured()[:2]
    assert math.isnan(measured.kl)


def test_three_kinds_of_scores():
    values = (1.0, 5.0, 3.0)
    assert [combine(values, kind) for kind in ("last", "auc", "best")] == [3.0, 3.0, 5.0]
    assert combine((), "last") == WORST


def test_no_more_evaluations_than_updates():
    assert num_steps(CONFIG) == 3
    assert num_steps(Config(total_steps=64, num_envs=4, rollout_length=8)) == 2
