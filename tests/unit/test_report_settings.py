import numpy as np
import pytest

from bench_results import NANO_TASKS, make_results
from marsrl.report.benchmark_figures import make_plots
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
