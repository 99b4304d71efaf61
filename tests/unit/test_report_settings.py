import numpy as np
import pytest

from bench_results import NANO_TASKS, make_results
from marsrl.report.benchmark_figures import make_plots
from marsrl.report.bootstrap import Estimate
from marsrl.report.grids import read_grids, read_traces
from marsrl.report.response import respond
from marsrl.report.settings import base_objective, read_settings
from marsrl.report.summary import summarize_benchmark
from marsrl.report.wording import setting_value

TASKS = ("lbf/8x8-2p-2f-coop", "lbf/10x10-3p-3f", "smax/2s3z")
LABELS = ("mars@eps=4", "mars", "mappo", "mappo@fast")
OWN = {name: {"actor_lr": 2e-3} for name in ("mars", "mappo")}
OWN |= {"mars@eps=4": {"eps": 4.0, "actor_lr": 2e-3}, "mappo@fast": {"actor_lr": 1e-3}}


@pytest.fixture(scope="module")
def results():
    return make_results(
        lambda task, name, seed: {"mars@eps=4": 0.8}.get(name, 0.5) + 0.01 * seed,
        TASKS,
        LABELS,
        settings=OWN,
    )


def test_what_differs_is_told_from_what_is_shared(results):
    found = {setting.name: setting for setting in read_settings(results)}
    assert {name for name, x in found.items() if x.differs} == {"objective", "eps", "actor_lr"}
    assert [setting_value(found["eps"], name) for name in LABELS] == ["4", "0.2", "0.2", "0.2"]
    assert setting_value(found["actor_lr"], "mappo@fast") == "0.001"
    assert setting_value(found["total_steps"], "mars") == "100,000"
    assert found["eps"].value("mars@eps=4", TASKS) == 4.0


def test_a_value_that_tasks_do_not_share_says_where_it_is():
    results = make_results(lambda *run: 0.5, TASKS, ("mars", "mappo"), budgets={TASKS[1]: 50_000})
    (steps,) = [x for x in read_settings(results) if x.name == "total_steps"]
    assert not steps.differs  # on each task both objectives have the same
    expected = f"100,000 ({TASKS[0]}, smax); 50,000 ({TASKS[1]})"
    assert setting_value(steps, "mars") == expected
    assert steps.value("mars", TASKS) is None
    assert steps.value("mars", TASKS[::2]) == 100_000


@pytest.mark.parametrize(("kernels", "differs"), [("normal", False), ("orthogonal", True)])
def test_a_run_of_before_a_setting_came_has_what_there_was_then(kernels, differs):
    own = {"mars": {"kernel_init": kernels}}  # mappo's runs are older
    results = make_results(lambda *run: 0.5, TASKS[:1], ("mars", "mappo"), settings=own)
    (kernel,) = [x for x in read_settings(results) if x.name == "kernel_init"]
    assert kernel.differs == differs
    assert [setting_value(kernel, name) for name in ("mars", "mappo")] == [kernels, "normal"]


def test_the_objective_of_a_label(results):
    assert [base_objective(results.runs, label) for label in LABELS] == [
        "mars", "mars", "mappo", "mappo",
    ]  # fmt: skip
    assert base_objective((), "mine:f@wide") == "mine:f"


# --- response ----------------------------------------------------------------------------------


def test_labels_that_differ_in_their_region_alone_are_one_line(results):
    summary = summarize_benchmark(results)
    overall, lbf, smax = summary.responses
    assert (overall.name, lbf.tasks, smax.tasks) == ("overall", TASKS[:2], TASKS[2:])
    lines = [[point.label for point in line] for line in overall.lines]
    assert lines == [["mars", "mars@eps=4"], ["mappo"], ["mappo@fast"]]
    assert overall.sweeps
    assert [point.eps for point in overall.lines[0]] == [0.2, 4.0]
    assert [float(p.score.value) for p in overall.lines[0]] == pytest.approx([0.51, 0.81])
    assert overall.measure == "approx_kl"
    assert [line[0].kl for line in overall.lines] == pytest.approx([0.002, 0.02, 0.02])
    plots = make_plots(summary)
    assert [panel.title for panel in plots["response-eps"].panels] == [
        "overall: mean score", "lbf: mean score", "smax: mean score",
    ]  # fmt: skip
    assert set(plots["response-eps"].styles) == {"mars", "mappo"}
    assert "mars@eps=4 at 4 0.810 [" in plots["response-eps"].panels[0].text


def test_a_region_that_moves_has_no_one_size():
    settings = {"mars@wide": {"eps": 4.0, "eps_end": 0.2}}
    results = make_results(lambda *run: 0.5, TASKS[:1], ("mars", "mars@wide"), settings=settings)
    summary = summarize_benchmark(results)
    (line,) = summary.responses[0].lines
    assert {point.label: point.eps for point in line} == {"mars": 0.2, "mars@wide": None}
    assert "response-eps" not in make_plots(summary)


def test_a_region_that_is_steered_has_no_size_that_was_set():
    own = {"mars@eps=4": {"eps": 4.0}, "mars@steered": {"eps": 2.0, "target_kl": 1e-3}}
    results = make_results(lambda *run: 0.5, TASKS[:1], ("mars", *own), settings=own)
    lines = summarize_benchmark(results).responses[0].lines
    sizes = [{point.label: point.eps for point in line} for line in lines]
    assert sizes == [{"mars": 0.2, "mars@eps=4": 4.0}, {"mars@steered": None}]


def test_a_label_that_has_begun_another_task_stays_on_its_line():
    labels = ("mars", "mars@eps=4")
    status = {(task, labels[1], seed): "missing" for task in TASKS[1:] for seed in range(3)}
    own = {"mars@eps=4": {"eps": 4.0}}
    for others in ({}, {(TASKS[2], "mars", seed): "running" for seed in range(3)}):
        results = make_results(
            lambda *run: 0.5, TASKS[:3], labels, status=status | others, settings=own
        )
        grid = read_grids(results, read_traces(results, "eval", ("return", "seconds")))["last"]
        tasks = grid.complete(labels)
        scores = dict.fromkeys(labels, Estimate(*np.zeros(3)))
        kl = np.full((2, 1), np.nan)
        found = respond(results, "overall", tasks, read_settings(results), scores, None, kl)
        assert [[point.eps for point in line] for line in found.lines] == [[0.2, 4.0]]
        assert found.sweeps


def test_the_divergence_of_updates_is_taken_where_all_runs_logged_it():
    results = make_results(lambda *run: 0.5, NANO_TASKS[:2], ("mars", "mappo"))
    rows = results.curves.to_pylist()
    for row in rows:
        if row["phase"] == "train":
            # twice as much on the second task, and with the seed
            row["update_kl"] = 1e-3 * (1 + (row["task"] == NANO_TASKS[1])) * (1 + row["seed"])
    curves = type(results.curves).from_pylist(rows, results.curves.schema)
    summary = summarize_benchmark(results._replace(curves=curves))
    (line, _) = summary.responses[0].lines
    assert summary.responses[0].measure == "update_kl"
    # means over seeds are 2e-3 and 4e-3
    assert line[0].kl == pytest.approx(np.sqrt(2e-3 * 4e-3))
    assert summary.diagnostics.total["update_kl"] == pytest.approx([3e-3, 3e-3])
    titles = [panel.title for panel in make_plots(summary)["diagnostics"].panels]
    assert titles[0] == "KL of an update, nats"
    assert "Region size eps" not in titles  # none of them was logged
    assert summarize_benchmark(results).responses[0].measure == "approx_kl"
