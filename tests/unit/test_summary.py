import math

import numpy as np
import pytest

from bench_results import (
    BUDGET,
    EVALUATIONS,
    FACTORIAL,
    HOSTILE,
    NANO_TASKS,
    make_results,
    nano_results,
)
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError
from marsrl.report.bootstrap import Estimate
from marsrl.report.grids import counted
from marsrl.report.origins import costs, origins
from marsrl.report.summary import summarize_benchmark
from marsrl.report.verdict import Duel

TASK, OTHER = "lbf/8x8-2p-2f-coop", "lbf/10x10-3p-3f"
PAIR = ("mars", "mappo")


def by_objective(**scores):
    """Scores that depend on objective and seed alone: (S,) each."""
    return lambda task, objective, seed: scores[objective][seed]


def small(scores, tasks=(TASK,), objectives=PAIR, **settings):
    return summarize_benchmark(make_results(scores, tasks, objectives, **settings))


@pytest.fixture(scope="module")
def nano():
    return summarize_benchmark(nano_results())


# --- the verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("improvement", "difference", "word"),
    [
        ((0.6, 0.9), (0.1, 0.2), "beats"),
        ((0.5, 0.9), (0.0, 0.2), "matches or beats"),
        ((0.6, 0.9), (0.0, 0.2), "matches or beats"),
        ((0.5, 0.5), (0.0, 0.0), "matches"),
        ((0.1, 0.5), (-0.2, 0.0), "matches or loses to"),
        ((0.1, 0.4), (-0.2, -0.1), "loses to"),
        ((0.4, 0.9), (0.1, 0.2), "not settled"),  # the two disagree
        ((0.6, 0.9), (-0.1, 0.2), "not settled"),
        ((0.6, 0.9), (-0.2, -0.1), "not settled"),
        ((0.4, 0.6), (-0.1, 0.1), "not settled"),
    ],
)
def test_words_say_what_both_intervals_settle(improvement, difference, word):
    ends = [Estimate(*map(np.float64, (np.mean(x), *x))) for x in (improvement, difference)]
    assert Duel((TASK,), 3, *ends).word == word
    assert Duel((TASK,), 1, *ends).word == "not settled"


def test_a_clear_win_is_worked_by_hand():
    summary = small(by_objective(mars=(0.5, 0.7, 0.9), mappo=(0.1, 0.2, 0.3)))
    (contest,) = summary.contests
    assert (contest.target, contest.other) == PAIR
    # three scores leave the plain mean: 0.7 - 0.2; every one of mars beats every one of mappo
    assert contest.overall.difference.value == pytest.approx(0.5)
    # the ends of the bootstrap are the extreme means, since 1/27 > 0.025: 0.5 - 0.2..0.7 - ...
    assert 0.2 <= contest.overall.difference.low < 0.5 < contest.overall.difference.high <= 0.8
    assert contest.overall.improvement == (1.0, 1.0, 1.0)
    assert contest.overall.word == "beats"
    assert contest.tasks_where("beats") == (TASK,)
    assert contest.families_where("beats") == ("lbf",)


def test_a_loss_and_an_unsettled_order():
    loss = small(by_objective(mars=(0.1, 0.2, 0.3), mappo=(0.5, 0.7, 0.9)))
    assert loss.contests[0].overall.word == "loses to"
    assert loss.contests[0].overall.improvement.value == 0.0
    unsettled = small(by_objective(mars=(0.1, 0.5, 0.9), mappo=(0.2, 0.4, 0.8)))
    assert unsettled.contests[0].overall.word == "not settled"
    # 0.1 beats none, 0.5 two and 0.9 all three
    assert unsettled.contests[0].overall.improvement.value == pytest.approx(5 / 9)
    solved = small(lambda task, objective, seed: 1.0 - 1e-8 * (objective == "mappo"))
    assert solved.contests[0].overall.word == "matches"


def test_the_tasks_where_it_does_not_hold_are_told_apart():
    wins = {TASK: 0.5, OTHER: -0.5}
    summary = small(
        lambda task, objective, seed: (wins[task] if objective == "mars" else 0.0) + seed / 100,
        tasks=(TASK, OTHER),
    )
    (contest,) = summary.contests
    assert contest.overall.word == "not settled"
    assert contest.tasks_where("beats") == (TASK,)
    assert contest.tasks_where("loses to") == (OTHER,)
    assert list(contest.families) == ["lbf"]


def test_without_mars_the_first_objective_is_the_target():
    summary = small(lambda *run: 0.5, objectives=("mappo", HOSTILE))
    assert summary.target == "mappo"
    assert [contest.other for contest in summary.contests] == [HOSTILE]


# --- diverged and missing runs -----------------------------------------------------------------


def test_counted_is_the_lowest_score_and_never_above_the_random_policy():
    scores, lowest = counted(np.array([[0.4, np.nan], [0.2, 0.9]]))
    assert lowest == 0.0
    np.testing.assert_array_equal(scores, [[0.4, 0.0], [0.2, 0.9]])
    scores, lowest = counted(np.array([[0.4, np.nan], [-0.2, 0.9]]))
    assert lowest == -0.2
    assert scores[0, 1] == -0.2
    assert counted(np.full((2, 2), np.nan))[1] == 0.0


def test_a_diverged_run_counts_as_the_lowest():
    scores = by_objective(mars=(0.8, 0.6, 0.9), mappo=(0.1, 0.2, -0.3))
    summary = small(scores, status={(TASK, "mars", 2): "diverged"})
    (overall, _) = summary.groups
    assert overall.tasks == (TASK,)
    assert overall.lowest == pytest.approx(-0.3)
    # 0.8, 0.6 and -0.3 in place of 0.9
    assert overall.iqm[0].value == pytest.approx(1.1 / 3)
    assert overall.gap[0].value == pytest.approx((0.2 + 0.4 + 1.3) / 3)
    row = summary.rows[0]
    assert (row.ended, row.diverged) == ((0, 1, 2), (2,))
    assert row.score == pytest.approx(1.1 / 3)
    assert row.mean.value == pytest.approx(row.low + row.score * (row.high - row.low))
    assert summary.any_diverged


def test_a_task_with_a_missing_run_is_left_out_of_every_aggregate():
    scores = by_objective(mars=(0.5, 0.6, 0.7), mappo=(0.1, 0.2, 0.3))
    complete = small(scores)
    for state in ("missing", "running", "failed"):
        status = {(OTHER, "mappo", 1): state}
        summary = small(scores, tasks=(TASK, OTHER), status=status)
        assert summary.complete == (TASK,)
        assert summary.contests[0].overall == complete.contests[0].overall
        np.testing.assert_equal(summary.groups, complete.groups)
        row = summary.rows[-1]
        assert (row.task, row.objective, row.ended) == (OTHER, "mappo", (0, 2))
        assert row.score == pytest.approx(0.2)


def test_an_objective_that_has_not_begun_hides_nothing():
    status = {(TASK, HOSTILE, seed): "missing" for seed in range(3)}
    summary = small(lambda *run: 0.5, objectives=(*PAIR, HOSTILE), status=status)
    assert summary.objectives == PAIR
    assert summary.complete == (TASK,)
    assert summary.contests[1].overall is None
    assert summary.rows[-1].mean is None


def test_nothing_has_begun():
    status = {(TASK, objective, seed): "missing" for objective in PAIR for seed in range(3)}
    summary = small(lambda *run: 0.5, status=status)
    assert summary.objectives == summary.groups == summary.complete == ()
    assert summary.diagnostics is None
    assert summary.curves == {}


def test_a_finished_run_needs_its_final_episodes_and_its_evaluations():
    results = make_results(lambda *run: 0.5, (TASK,), PAIR)
    with pytest.raises(UserError, match=r"seed 0 of mars on lbf/.* has no final episodes"):
        summarize_benchmark(results._replace(episodes=results.episodes.slice(0, 0)))
    with pytest.raises(UserError, match=r"a run on lbf/.* has no evaluations"):
        summarize_benchmark(results._replace(curves=results.curves.slice(0, 20)))


# --- curves ------------------------------------------------------------------------------------


def test_efficiency_over_steps_and_time_is_worked_by_hand():
    summary = small(by_objective(mars=(0.9, 0.9, 0.9), mappo=(0.5, 0.5, 0.5)))
    steps, time = summary.groups[0].efficiency["steps"], summary.groups[0].efficiency["time"]
    np.testing.assert_allclose(steps.x, np.linspace(0, BUDGET, EVALUATIONS + 1))
    np.testing.assert_allclose(steps.iqm.value[0], 0.9 * np.linspace(0, 1, EVALUATIONS + 1))
    # mars takes two hours and mappo one, after which it keeps its last score
    assert time.totals.tolist() == [7200]
    np.testing.assert_allclose(time.iqm.value[1], [0, 0.2, 0.4, 0.5, 0.5, 0.5], atol=1e-12)
    assert steps.alike


def test_budgets_that_differ_are_aligned_by_their_share():
    summary = small(lambda *run: 1.0, tasks=(TASK, OTHER), budgets={OTHER: BUDGET // 2})
    steps = summary.groups[0].efficiency["steps"]
    assert not steps.alike
    np.testing.assert_array_equal(steps.x, np.linspace(0, 1, EVALUATIONS + 1))
    np.testing.assert_allclose(steps.iqm.value, np.tile(steps.x, (2, 1)), atol=1e-12)


def test_a_diverged_seed_falls_in_the_curves():
    scores = by_objective(mars=(0.9, 0.9, 0.9), mappo=(0.5, 0.5, -0.5))
    summary = small(scores, status={(TASK, "mars", 0): "diverged"})
    # it was evaluated at 0, 20 and 40 % of its steps; the lowest evaluation is mappo's last
    iqm = summary.groups[0].efficiency["steps"].iqm.value[0]
    np.testing.assert_allclose(iqm[:3], [0, 0.18, 0.36], atol=1e-12)
    np.testing.assert_allclose(iqm[3:], [(1.08 - 0.5) / 3, (1.44 - 0.5) / 3, (1.8 - 0.5) / 3])
    curve = summary.curves[TASK].objectives[0]
    low, high = TASKS[TASK].low, TASKS[TASK].high
    np.testing.assert_allclose(curve.mean.value, low + iqm * (high - low))
    np.testing.assert_allclose(curve.last, [[0.4 * BUDGET, low + 0.36 * (high - low)]])


def test_a_running_seed_ends_the_mean_where_it_is():
    summary = small(lambda *run: 0.5, status={(TASK, "mars", 0): "running"})
    curve = summary.curves[TASK].objectives[0]
    assert np.isfinite(curve.mean.value).tolist() == [True] * 3 + [False] * 3
    assert curve.last.shape == (0, 2)


def test_diagnostics_are_means_but_extremes_of_the_ratio():
    found = small(lambda *run: 0.5).diagnostics
    # rows at twelfths of the budget, each a point of its own
    share = np.arange(1, 13) / 12
    np.testing.assert_allclose(found.course["gradient/dead"][1], 0.2 * share)
    assert found.total["gradient/dead"] == pytest.approx([0.0, 0.2 * share.mean()])
    assert found.total["ratio/min"] == pytest.approx([0.4, 0.01])
    assert found.total["ratio/max"] == pytest.approx([3.0, 3.0])
    assert found.total["gradient/corrective"][0] == pytest.approx(0.9 + 0.1 * share.mean())
    assert math.isnan(found.total["gradient/corrective"][1])


def test_a_row_counts_for_the_steps_that_it_covers():
    results = make_results(lambda *run: 0.5, (TASK,), PAIR)
    step = results.curves.column("step").to_numpy()
    train = results.curves.column("phase").to_numpy() == "train"
    kept = np.isin(step, [round(BUDGET * x / 12) for x in (1, 2, 12)])
    found = summarize_benchmark(results._replace(curves=results.curves.filter(~train | kept)))
    # 1, 1 and 10 twelfths of the budget, at whose ends it is 1, 2 and 12 twelfths of 0.2
    total = 0.2 * (1 * 1 + 1 * 2 + 10 * 12) / 12 / 12
    assert found.diagnostics.total["gradient/dead"][1] == pytest.approx(total, rel=1e-3)
    # in three parts of training: two rows, the one whose middle is at 7 twelfths, and none
    course = found.diagnostics.course["gradient/dead"][1]
    np.testing.assert_allclose(course, [0.2 * 1.5 / 12, 0.2, math.nan], rtol=1e-3)
    ratio = found.diagnostics.course["ratio/max"][1]
    np.testing.assert_allclose(ratio, [2 + 2 / 12, 3, math.nan], rtol=1e-3)


def test_the_profile_is_the_share_above_each_score():
    profile = small(by_objective(mars=(0.25, 0.5, 2.0), mappo=(0.0, 0.0, 0.0))).groups[0].profile
    np.testing.assert_allclose(profile.threshold[[0, 25, -1]], [0, 0.5, 2], atol=1e-9)
    assert profile.share.value[0, [0, 20, 30, -1]] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert profile.share.value[1, 1:].max() == 0


# --- the factorial -----------------------------------------------------------------------------


def test_the_factorial_finds_the_geometry_and_not_the_boundary():
    gains = {"mappo": 0.1, "maspo": 0.4, "mars": 0.6}
    summary = small(
        lambda task, objective, seed: gains[objective.partition("-")[0]] + seed / 1000,
        objectives=FACTORIAL,
        tasks=NANO_TASKS[:2],
    )
    overall, *families = summary.factorial
    assert [family.name for family in families] == ["rware", "lbf"]
    effects = {(x.kind, x.first, x.second): x.estimate for x in overall.effects}
    words = {(x.kind, x.first, x.second): x.word for x in overall.effects}
    assert words["geometry", "symmetric", "clipped"] == "higher"
    assert words["boundary", "geometric", "additive"] == "not settled"
    assert effects["geometry", "symmetric", "clipped"].value == pytest.approx(0.5)
    assert effects["geometry", "symmetric", "clipped"].low > 0.49
    assert effects["geometry", "quadratic", "clipped"].value == pytest.approx(0.3)
    boundary = effects["boundary", "geometric", "additive"]
    assert boundary.low < 0 < boundary.high
    assert effects["interaction", "symmetric", "clipped"].value == pytest.approx(0, abs=1e-12)


def test_one_seed_settles_nothing():
    gains = {"mars": 0.9, "mappo": 0.1}
    summary = small(lambda task, name, seed: gains.get(name, 0.5), seeds=(0,), objectives=FACTORIAL)
    assert {contest.overall.word for contest in summary.contests} == {"not settled"}
    assert {effect.word for effect in summary.factorial[0].effects} == {"not settled"}


def test_the_factorial_tells_cells_apart():
    boost = {"mars": 0.3}  # the geometric boundary helps with the symmetric geometry alone
    summary = small(lambda task, name, seed: 0.2 + boost.get(name, 0), objectives=FACTORIAL)
    effects = {(x.kind, x.first, x.second): x.estimate.value for x in summary.factorial[0].effects}
    assert effects["boundary", "geometric", "additive"] == pytest.approx(0.1)
    assert effects["interaction", "symmetric", "quadratic"] == pytest.approx(0.3)
    assert effects["interaction", "quadratic", "clipped"] == pytest.approx(0)
    np.testing.assert_allclose(summary.factorial[0].cells.value, [[0.2] * 2, [0.2] * 2, [0.2, 0.5]])


def test_the_factorial_needs_all_six(nano):
    assert small(lambda *run: 0.5, objectives=FACTORIAL[1:]).factorial == ()
    # its tasks are those that its own cells have completed
    assert nano.factorial[0].tasks == NANO_TASKS[:-1]
    assert nano.complete == NANO_TASKS[3:-1]


# --- where runs come from ----------------------------------------------------------------------


def test_costs_share_the_time_of_a_program(nano):
    runs = nano.results.runs
    mars = {cost.objective: cost for cost in costs(runs)}["mars"]
    # eight tasks of three seeds, each with a third of its program's hour; one run got halfway
    assert mars.seconds["train"] == pytest.approx(8 * 3600)
    assert mars.steps == sum(run.step for run in runs if run.objective == "mars")
    (origin,) = origins(runs)
    assert origin.runs == sum(run.status != "missing" for run in runs)
    assert origin.git == {"commit": "abc123", "dirty": True}
