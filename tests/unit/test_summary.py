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
    nano_summary,
)
from marsrl.bench.rows import curve_table, episode_table
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError
from marsrl.report.benchmark_figures import draw_plot, make_plots
from marsrl.report.bootstrap import stratified_interval
from marsrl.report.factorial import factorial
from marsrl.report.grids import diverged_as_lowest, read_grids, read_traces
from marsrl.report.origins import costs, origins
from marsrl.report.page import render_page
from marsrl.report.response import mean_divergence
from marsrl.report.summary import summarize_benchmark
from marsrl.report.verdict import VERDICTS, Evidence, matrix, verdicts

TASK, OTHER = "lbf/8x8-2p-2f-coop", "lbf/10x10-3p-3f"
PAIR = ("mars", "mappo")


def by_objective(**scores):
    """Scores that depend on objective and seed alone: (S,) each."""
    return lambda task, objective, seed: scores[objective][seed]


def small(scores, tasks=(TASK,), objectives=PAIR, margin=0.03, **settings):
    results = make_results(scores, tasks, objectives, **settings)
    return summarize_benchmark(results, margin=margin)


@pytest.fixture(scope="module")
def nano():
    return nano_summary()


# --- the verdict -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        ((0.01, 0.001, 1.0), "exceeds"),
        ((0.025, 0.02, 0.98), "exceeds"),
        ((0.026, 0.025, 0.98), "matches"),
        ((1.0, 0.02, 0.01), "matches"),  # lower, and by no more than the margin
        ((1.0, 0.026, 0.025), "behind"),
        ((0.026, 0.026, 0.026), "not settled"),
    ],
)
def test_words_say_what_evidence_settles(evidence, word):
    assert verdicts([Evidence(*evidence)]) == (word,)


def test_verdicts_side_by_side_are_corrected_for_their_number():
    assert verdicts([]) == ()
    same = [Evidence(0.02, 0.02, 1.0)] * 2
    assert verdicts(same) == ("not settled",) * 2  # 2 x 0.02
    # 2 x 0.012, and 0.02 by itself once the first is rejected
    first, second = Evidence(0.012, 0.012, 1.0), Evidence(0.02, 0.02, 1.0)
    assert verdicts([second, first]) == ("exceeds", "exceeds")
    # each kind of claim by itself: four can not be settled, and one is
    assert verdicts([Evidence(0.02, 0.001, 1.0)] * 4) == ("matches",) * 4


FIVE = range(5)


def test_a_task_that_carries_the_variance_alone_does_not_make_a_verdict_sure():
    """Welch's t is 2.4 with the 4 degrees of freedom of six runs: p = 0.035, one-sided."""
    carried = {"mars": (0.5, 0.6, 0.7), "mappo": (0.3, 0.4, 0.5)}
    summary = small(
        lambda task, name, seed: carried[name][seed] if task == TASK else 0.5, NANO_TASKS
    )
    (contest,) = summary.contests
    assert contest.overall.difference.low < 0 < contest.overall.difference.value
    assert contest.overall.evidence.exceeds == pytest.approx(0.035, abs=0.012)
    assert contest.overall.verdict == "matches"
    # as many runs that are spread evenly over the tasks settle it
    even = small(lambda task, name, seed: carried[name][seed], NANO_TASKS)
    assert even.contests[0].overall.verdict == "exceeds"


def test_a_clear_win_is_worked_by_hand():
    mars, mappo = (0.5, 0.6, 0.7, 0.8, 0.9), (0.1, 0.15, 0.2, 0.25, 0.3)
    summary = small(by_objective(mars=mars, mappo=mappo), seeds=FIVE)
    (contest,) = summary.contests
    assert (contest.target, contest.other) == PAIR
    overall = contest.overall
    # 0.7 - 0.2; every one of mars beats every one of mappo: one of 252 ways to deal them out
    assert overall.difference.value == pytest.approx(0.5)
    assert overall.evidence.exceeds == pytest.approx(1 / 252)
    assert overall.evidence.behind == 1.0
    # 2.5 % of 252 are 6 ways: the 6th smallest mean of what is swapped. With one pair 0.5 - 0.3,
    # 0.5 - 0.25, 0.6 - 0.3 and 0.5 - 0.2, with two 0.55 - 0.275 and 0.55 - 0.25, the others more
    assert overall.difference.low == pytest.approx(0.3)
    assert overall.difference.high == pytest.approx(0.7)
    assert overall.confidence == 0.95
    assert overall.improvement == (1.0, 1.0, 1.0)
    assert overall.iqm.value == pytest.approx(0.5)
    assert overall.verdict == "exceeds"
    assert contest.tasks_where("exceeds") == (TASK,)
    assert contest.families_where("exceeds") == ("lbf",)


def test_three_seeds_do_not_settle_a_single_task():
    summary = small(by_objective(mars=(0.5, 0.7, 0.9), mappo=(0.1, 0.2, 0.3)))
    (contest,) = summary.contests
    for duel in (contest.overall, contest.tasks[TASK]):
        assert duel.verdict == "not settled"
        assert duel.evidence.exceeds == 1 / 20
        # the widest that there is: lowest minus highest, to highest minus lowest
        assert duel.confidence == 0.9
        assert duel.difference == pytest.approx((0.5, 0.2, 0.8))
    # but eight tasks of them do
    eight = small(by_objective(mars=(0.5, 0.7, 0.9), mappo=(0.1, 0.2, 0.3)), tasks=NANO_TASKS)
    assert eight.contests[0].overall.verdict == "exceeds"
    assert set(eight.contests[0].tasks_where("not settled")) == set(NANO_TASKS)


def test_a_loss_a_match_and_an_unsettled_order():
    mars, mappo = (0.1, 0.15, 0.2, 0.25, 0.3), (0.5, 0.6, 0.7, 0.8, 0.9)
    loss = small(by_objective(mars=mars, mappo=mappo), seeds=FIVE)
    assert loss.contests[0].overall.verdict == "behind"
    assert loss.contests[0].overall.improvement.value == 0.0
    unsettled = small(by_objective(mars=(0.1, 0.5, 0.9), mappo=(0.2, 0.4, 0.8)))
    assert unsettled.contests[0].overall.verdict == "not settled"
    # 0.1 beats none, 0.5 two and 0.9 all three
    assert unsettled.contests[0].overall.improvement.value == pytest.approx(5 / 9)
    solved = small(lambda task, name, seed: 1.0 - 1e-8 * (name == "mappo"), seeds=FIVE)
    assert solved.contests[0].overall.verdict == "matches"
    assert solved.contests[0].overall.difference == (0.0, 0.0, 0.0)
    both = small(lambda *run: 1.0, tasks=(TASK, OTHER))
    assert both.contests[0].overall.verdict == "matches"


def test_the_margin_decides_what_matches():
    def scores(task, objective, seed):
        return 0.5 - 0.02 * (objective == "mars") + seed / 1000

    words = {
        margin: small(scores, seeds=FIVE, margin=margin).contests[0].overall.verdict
        for margin in (0.03, 0.01)
    }
    assert words == {0.03: "matches", 0.01: "behind"}
    with pytest.raises(UserError, match="margin is -1, expected 0 to 1"):
        small(scores, margin=-1)


def test_the_tasks_where_it_does_not_hold_are_told_apart():
    wins = {TASK: 0.5, OTHER: -0.5}

    def scores(task, objective, seed):
        shift = (seed - 2) / 50 * (-1 if objective == "mars" else 1)
        return (wins[task] if objective == "mars" else 0.0) + shift

    summary = small(scores, tasks=(TASK, OTHER), seeds=FIVE)
    (contest,) = summary.contests
    assert contest.overall.difference.value == pytest.approx(0)
    assert contest.overall.verdict == "matches"
    assert contest.tasks_where("exceeds") == (TASK,)
    assert contest.tasks_where("behind") == (OTHER,)
    assert list(contest.families) == ["lbf"]


def test_a_family_counts_once():
    tasks = (TASK, OTHER, "smax/2s3z")
    scores = {"lbf": 0.2, "smax": 0.8}
    summary = small(lambda task, *run: scores[task.partition("/")[0]], tasks=tasks)
    overall, lbf, smax = summary.groups
    assert [float(x.mean[0].value) for x in (overall, lbf, smax)] == pytest.approx([0.5, 0.2, 0.8])
    assert overall.iqm[0].value == pytest.approx((4 * 0.2 + 0.8) / 5)  # of 6 x 0.2 and 3 x 0.8


def test_any_label_can_be_the_target():
    labels = ("mappo", "mars@wide", "mars@eps=0.4")
    results = make_results(lambda *run: 0.5, (TASK,), labels)
    assert summarize_benchmark(results).target == "mars@wide"
    summary = summarize_benchmark(results, target="mappo")
    assert [(x.target, x.other) for x in summary.contests] == [
        ("mappo", "mars@wide"), ("mappo", "mars@eps=0.4"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="target is 'mapo', expected one of mappo"):
        summarize_benchmark(results, target="mapo")


def test_the_matrix_holds_every_pair_from_both_sides():
    gains = {"mars": 0.6, "maspo": 0.5, "mappo": 0.1}
    names = tuple(gains)
    summary = small(
        lambda task, name, seed: gains[name] + seed / 100, tasks=NANO_TASKS, objectives=names
    )
    assert set(summary.matrix) == {(a, b) for a in names for b in names if a != b}
    assert summary.matrix["maspo", "mappo"].difference.value == pytest.approx(0.4)
    for first, second in summary.matrix:
        there, back = summary.matrix[first, second], summary.matrix[second, first]
        np.testing.assert_allclose(sorted(there.difference), sorted(-np.array(back.difference)))
        assert {there.verdict, back.verdict} == {"exceeds", "behind"}
    for contest in summary.contests:
        same = summary.matrix["mars", contest.other]
        assert (same.difference, same.verdict) == (
            contest.overall.difference,
            contest.overall.verdict,
        )


@pytest.mark.parametrize(("tasks", "seeds"), [((TASK,), 6), ((TASK,), 11), (NANO_TASKS, 3)])
def test_the_matrix_says_the_same_of_a_pair_from_both_sides(tasks, seeds):
    """Clear, close and doubtful pairs; of eleven seeds not all deals are looked at."""
    rng = np.random.default_rng(seeds)
    levels = {"mars": 1.3, "maspo": 0.62, "mappo": 0.5, "mars-log": 0.49}
    noise = {(t, n): rng.normal(0, 0.15, seeds) for t in tasks for n in levels}
    results = make_results(
        lambda task, name, seed: levels[name] + noise[task, name][seed],
        tasks,
        tuple(levels),
        seeds=range(seeds),
    )
    found = matrix(read_grids(results, read_traces(results, "eval", ("return", "seconds")))["last"])
    for first, second in found:
        there, back = found[first, second], found[second, first]
        low, high = there.difference[1:]
        np.testing.assert_allclose(back.difference[1:], (-high, -low), atol=1e-9)
        assert there.evidence[::2] == back.evidence[::-2]
        assert (there.verdict == "exceeds") == (back.verdict == "behind")
    assert {duel.verdict for duel in found.values()} >= {"exceeds", "not settled"}


BEHIND = {"exceeds": "behind", "not settled": "not settled"}


def test_the_matrix_is_corrected_for_all_ordered_pairs_together():
    """Of 924 ways 23 are 2.5 %: of six claims the least p value counts six times, then five."""

    def words(mars, maspo):
        scores = by_objective(
            mars=(mars, 12, 13, 14, 15, 16), maspo=(maspo, 7, 8, 9, 10, 11), mappo=range(1, 7)
        )
        found = small(scores, objectives=("mars", "maspo", "mappo"), seeds=range(6)).matrix
        ways = {pair: round(924 * duel.evidence.exceeds) for pair, duel in found.items()}
        pairs = ("mars", "mappo"), ("maspo", "mappo"), ("mars", "maspo")
        assert all(found[pair[::-1]].verdict == BEHIND[found[pair].verdict] for pair in pairs)
        return [(ways[pair], found[pair].verdict) for pair in pairs]

    # 6 x 1, 5 x 3, 4 x 8
    assert words(7.5, 4.5) == [(1, "exceeds"), (3, "exceeds"), (8, "not settled")]
    # 6 x 1, 4 x 5, 5 x 3
    assert words(9.5, 3.5) == [(1, "exceeds"), (5, "exceeds"), (3, "exceeds")]


def test_the_matrix_settles_what_is_clear_of_however_many_methods():
    """Holm takes the least p value times 306, so the bootstrap's must be small enough for that."""
    names = tuple(f"mars@{i}" for i in range(18))
    results = make_results(
        lambda task, name, seed: names.index(name) + seed / 100, NANO_TASKS, names, seeds=range(3)
    )
    found = matrix(read_grids(results, read_traces(results, "eval", ("return", "seconds")))["last"])
    assert {duel.verdict for duel in found.values()} == {"exceeds", "behind"}


# --- the endpoint ------------------------------------------------------------------------------


def test_the_endpoints_are_worked_by_hand():
    """The curve of a run rises evenly from 0 to its score; its best checkpoint scored that, too."""
    results = make_results(by_objective(mars=(0.9,) * 3, mappo=(0.5,) * 3), (TASK,), PAIR)
    grids = read_grids(results, read_traces(results, "eval", ("return", "seconds")))
    np.testing.assert_allclose(grids["area"].scores[:, 0], [[0.45] * 3, [0.25] * 3], atol=1e-6)
    for name in ("last", "best"):
        np.testing.assert_allclose(grids[name].scores[:, 0], [[0.9] * 3, [0.5] * 3], atol=1e-6)
    # a last evaluation that fell, and one seed whose last parameters were scored by themselves
    low, high = TASKS[TASK].low, TASKS[TASK].high
    rows = results.curves.to_pylist()
    for row in rows:
        if row["phase"] == "eval" and row["step"] == BUDGET and row["objective"] == "mars":
            row["return"] = low + 0.1 * (high - low)
    more = [
        {**row, "phase": "last", "return": low + 0.2 * (high - low)}
        for row in results.episodes.to_pylist()
        if (row["objective"], row["seed"]) == ("mars", 1)
    ]
    fallen = results._replace(
        curves=type(results.curves).from_pylist(rows, results.curves.schema),
        episodes=episode_table(results.episodes.to_pylist() + more),
    )
    grids = read_grids(fallen, read_traces(fallen, "eval", ("return", "seconds")))
    np.testing.assert_allclose(grids["last"].scores[0, 0], [0.1, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(grids["best"].scores[0, 0], [0.9] * 3, atol=1e-6)
    # 0.18 for each fifth until 0.72, then down to 0.1: trapezoids
    area = (0.09 + 0.27 + 0.45 + 0.63 + (0.72 + 0.1) / 2) / 5
    np.testing.assert_allclose(grids["area"].scores[0, 0], [area] * 3, atol=1e-6)
    summary = summarize_benchmark(fallen)
    assert summary.fresh == pytest.approx(1 / 6)
    (contest,) = summary.contests
    found = {name: float(x.value) for name, x in contest.endpoints.items()}
    assert found == pytest.approx({"last": 0.4 / 3 - 0.5, "best": 0.4, "area": area - 0.25})
    assert contest.overall.difference.value == pytest.approx(0.4 / 3 - 0.5)
    best = summarize_benchmark(fallen, endpoint="best").contests[0]
    assert best.overall.difference.value == pytest.approx(0.4)


def test_who_diverged_at_once_is_left_out_of_the_divergence_and_nobody_else():
    labels = ("mars@eps=0.2", "mars@eps=0.4", "mappo@critic_lr=1e9")
    status = {(OTHER, labels[2], seed): "diverged" for seed in range(2)}
    settings = {"mars@eps=0.4": {"eps": 0.4}, labels[2]: {"critic_lr": 1e9, "target_kl": 0.1}}
    results = make_results(
        lambda *run: 0.5, (TASK, OTHER), labels, (0, 1), status=status, settings=settings
    )
    rows = results.curves.to_pylist()
    lost = [
        r for r in rows if (r["task"], r["objective"], r["phase"]) == (OTHER, labels[2], "train")
    ]
    rows = [row for row in rows if row not in lost]
    for left, out in ((rows, True), ([*rows, *lost], False)):
        summary = summarize_benchmark(results._replace(curves=curve_table(left)))
        (response,) = summary.responses
        assert response.measure == "approx_kl"
        kl = {point.label: point.kl for line in response.lines for point in line}
        assert [kl[label] for label in labels[:2]] == pytest.approx([0.002, 0.002])
        assert math.isnan(kl[labels[2]]) == out
        assert response.unmeasured == (labels[2:] if out else ())
        plots = make_plots(summary)
        (panel,) = plots["response-kl"].panels
        assert ("critic_lr" in panel.text) != out
        draw_plot(plots["response-kl"])
        draw_plot(plots["response-eps"])  # in which a method that is steered to a KL has no place
        page = render_page(summary, plots)
        assert (
            "diverged in their first update: mappo@critic_lr=1e9." in " ".join(page.split())
        ) == out


def test_points_of_a_sweep_are_not_judged_unless_one_is_named():
    labels = ("mars@eps=0.2", "mars@eps=1.0", "mappo@eps=0.2")
    settings = {label: {"eps": float(label.partition("=")[2])} for label in labels}
    results = make_results(lambda *run: 0.5, NANO_TASKS[:1], labels, settings=settings)
    summary = summarize_benchmark(results)
    assert (summary.target, summary.contests) == (None, ())
    page = render_page(summary, make_plots(summary))
    assert "A sweep: nothing is judged here" in page
    assert "no order of a single task" not in page
    assert "against mappo@eps=0.2" not in page.partition("<nav")[0]
    assert not [word for word in VERDICTS if word in page]
    assert 'id="t-scores"' in page
    assert [name for name in ("matrix", "differences", "endpoints") if f't-{name}"' in page] == []
    named = summarize_benchmark(results, target="mars@eps=1.0")
    assert [contest.other for contest in named.contests] == ["mars@eps=0.2", "mappo@eps=0.2"]
    assert 'id="t-matrix"' in render_page(named, make_plots(named))


def test_without_mars_the_first_objective_is_the_target():
    summary = small(lambda *run: 0.5, objectives=("mappo", HOSTILE))
    assert summary.target == "mappo"
    assert [contest.other for contest in summary.contests] == [HOSTILE]


# --- diverged and missing runs -----------------------------------------------------------------


def test_counted_is_the_lowest_score_and_never_above_the_random_policy():
    scores, lowest = diverged_as_lowest(np.array([[0.4, np.nan], [0.2, 0.9]]))
    assert lowest == 0.0
    np.testing.assert_array_equal(scores, [[0.4, 0.0], [0.2, 0.9]])
    scores, lowest = diverged_as_lowest(np.array([[0.4, np.nan], [-0.2, 0.9]]))
    assert lowest == -0.2
    assert scores[0, 1] == -0.2
    assert diverged_as_lowest(np.full((2, 2), np.nan))[1] == 0.0


def test_a_diverged_run_counts_as_the_lowest():
    scores = by_objective(mars=(0.8, 0.6, 0.9), mappo=(0.1, 0.2, -0.3))
    summary = small(scores, status={(TASK, "mars", 2): "diverged"})
    (overall,) = summary.groups  # of a single family, which is said once
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


@pytest.mark.parametrize("tasks", [(TASK,), (TASK, OTHER)])
def test_who_diverged_alike_does_not_match(tasks):
    scores, seeds = by_objective(mars=[0.5] * 5, mappo=[0.5] * 5), range(5)
    status = {(task, name, seed): "diverged" for task in tasks for name in PAIR for seed in seeds}
    alike, diverged = (
        small(scores, tasks, seeds=tuple(seeds), status=given).contests[0] for given in ({}, status)
    )
    for contest, verdict in ((alike, "matches"), (diverged, "not settled")):
        assert contest.overall.verdict == verdict
        assert {duel.verdict for duel in contest.tasks.values()} == {verdict}


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


def test_a_new_objective_does_not_leave_the_others_with_its_few_tasks():
    status = {(task, HOSTILE, seed): "missing" for task in NANO_TASKS[1:] for seed in range(3)}
    names = (*PAIR, HOSTILE)
    summary = small(lambda *run: 0.5, tasks=NANO_TASKS, objectives=names, status=status)
    assert (summary.objectives, summary.complete) == (PAIR, NANO_TASKS)
    assert summary.contests[-1].overall.tasks == NANO_TASKS[:1]
    # with half of the tasks it is on the board
    status = {run: x for run, x in status.items() if run[0] in NANO_TASKS[4:]}
    summary = small(lambda *run: 0.5, tasks=NANO_TASKS, objectives=names, status=status)
    assert (summary.objectives, summary.complete) == (names, NANO_TASKS[:4])


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


@pytest.mark.parametrize("extra", [(1, 3, 5), (13, 15, 17, 19, 21, 23)])
def test_what_a_run_logged_counts_alike_whoever_else_logged_on_its_task(extra):
    """Rows of mappo between those of mars, early or late in training, change nothing for mars."""
    results = make_results(lambda *run: 0.5, (TASK,), PAIR)
    rows = results.curves.to_pylist()
    for row in rows:  # it moves less and less
        if row["phase"] == "train":
            row["approx_kl"] = 1 - row["step"] / (2 * BUDGET)
    more = [
        {**row, "step": round(BUDGET * at / 24)}
        for at in extra
        for row in rows
        if row["phase"] == "train" and row["step"] == BUDGET and row["objective"] == "mappo"
    ]
    denser = results._replace(curves=curve_table([*rows, *more]))
    alone = results._replace(curves=curve_table(rows))
    mean = 1 - np.arange(1, 13).mean() / 24
    for each in (alone, denser):
        found = summarize_benchmark(each)
        assert found.diagnostics.total["approx_kl"][0] == pytest.approx(mean, rel=1e-4)
        grid = read_grids(each, read_traces(each, "eval", ("return", "seconds")))["last"]
        assert mean_divergence(each, grid, PAIR, (TASK,))[1][0] == pytest.approx(mean, rel=1e-4)


def test_the_interval_of_a_single_task_s_return_is_made_up_for_few_seeds_as_its_page_says():
    summary = small(by_objective(mars=(0.1, 0.5, 0.9), mappo=(0.5,) * 3))
    mean, plain = summary.rows[0].mean, stratified_interval(_mean, returns := _returns(summary))
    low, high = stratified_interval(_mean, returns, widen=True)
    assert (mean.low, mean.high) == pytest.approx((low, high))
    assert mean.high - mean.low > 1.5 * (plain[1] - plain[0])


def _returns(summary):
    return np.array(summary.rows[0].returns)[None]


def _mean(x):
    return x.mean(axis=(0, 1))


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
    words = {(x.kind, x.first, x.second): x.verdict for x in overall.effects}
    assert words["geometry", "symmetric", "clipped"] == "higher"
    assert words["boundary", "geometric", "additive"] == "not settled"
    assert effects["geometry", "symmetric", "clipped"].value == pytest.approx(0.5)
    assert effects["geometry", "symmetric", "clipped"].low > 0.49
    assert effects["geometry", "quadratic", "clipped"].value == pytest.approx(0.3)
    boundary = effects["boundary", "geometric", "additive"]
    assert boundary.low < 0 < boundary.high
    assert effects["interaction", "symmetric", "clipped"].value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_settle_nothing(seeds):
    gains = {"mars": 0.9, "mappo": 0.1}
    summary = small(
        lambda task, name, seed: gains.get(name, 0.5) + seed / 1e3,
        seeds=range(seeds),
        objectives=FACTORIAL,
    )
    assert {contest.overall.verdict for contest in summary.contests} == {"not settled"}
    assert {effect.verdict for effect in summary.factorial[0].effects} == {"not settled"}


def test_the_factorial_tells_cells_apart():
    boost = {"mars": 0.3}  # the geometric boundary helps with the symmetric geometry alone
    summary = small(lambda task, name, seed: 0.2 + boost.get(name, 0), objectives=FACTORIAL)
    effects = {(x.kind, x.first, x.second): x.estimate.value for x in summary.factorial[0].effects}
    assert effects["boundary", "geometric", "additive"] == pytest.approx(0.1)
    assert effects["interaction", "symmetric", "quadratic"] == pytest.approx(0.3)
    assert effects["interaction", "quadratic", "clipped"] == pytest.approx(0)
    np.testing.assert_allclose(summary.factorial[0].cells.value, [[0.2] * 2, [0.2] * 2, [0.2, 0.5]])


def test_effects_are_worked_by_hand():
    """Geometry by boundary; no seed differs from another."""
    table = np.array([[0.1, 0.3], [0.2, 0.6], [0.4, 1.2]])
    cells, effects = factorial(np.tile(table.reshape(6, 1, 1), (1, 4, 3)), resamples=20)
    for part in cells:
        np.testing.assert_allclose(part, table)
    found = {effect[:3]: effect for effect in effects}
    assert {name: float(x.estimate.value) for name, x in found.items()} == pytest.approx(
        {
            ("geometry", "symmetric", "clipped"): (0.3 + 0.9) / 2,
            ("geometry", "symmetric", "quadratic"): (0.2 + 0.6) / 2,
            ("geometry", "quadratic", "clipped"): (0.1 + 0.3) / 2,
            ("boundary", "geometric", "additive"): (0.2 + 0.4 + 0.8) / 3,
            ("interaction", "symmetric", "clipped"): 0.8 - 0.2,
            ("interaction", "symmetric", "quadratic"): 0.8 - 0.4,
            ("interaction", "quadratic", "clipped"): 0.4 - 0.2,
        }
    )
    same = factorial(np.full((6, 2, 3), 0.4), resamples=20)[1]
    assert {effect.verdict for effect in same} == {"equal"}
    one = factorial(np.tile(table.reshape(6, 1, 1), (1, 4, 1)), resamples=20)[1]
    assert {effect.verdict for effect in one} == {"not settled"}


def test_effects_are_corrected_for_their_number():
    """29 % of factorials without any effect had one before; at most 5 % are promised."""
    rng = np.random.default_rng(0)
    found = [factorial(x, resamples=600)[1] for x in rng.normal(size=(60, 6, 4, 5))]
    alone = [[x.estimate.low > 0 or x.estimate.high < 0 for x in effects] for effects in found]
    wrong = [[x.verdict != "not settled" for x in effects] for effects in found]
    assert np.mean(np.any(alone, axis=1)) > 0.15
    assert np.mean(np.any(wrong, axis=1)) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 60)


def test_an_effect_that_is_clear_is_settled_beside_others():
    rng = np.random.default_rng(1)
    scores = 0.1 * rng.normal(size=(6, 4, 5)) + np.repeat([0.0, 0.0, 1.0], 2)[:, None, None]
    words = {effect[:3]: effect.verdict for effect in factorial(scores)[1]}
    assert [name for name, word in words.items() if word == "higher"] == [
        ("geometry", "symmetric", "clipped"),
        ("geometry", "symmetric", "quadratic"),
    ]


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
