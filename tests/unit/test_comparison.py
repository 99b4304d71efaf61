"""Several objectives on one task, as a suite: of a configuration, and of runs that there are."""

import json
from functools import partial

import numpy as np
import pytest

from marsrl.bench.comparison import RETURNS, comparison, results_of
from marsrl.bench.plan import adopt, plan
from marsrl.bench.results import read, write
from marsrl.bench.show import returns, verdicts
from marsrl.bench.sources import note_source
from marsrl.config import Config
from marsrl.console import PlainConsole
from marsrl.envs.tasks import TASKS, Bounds
from marsrl.errors import UserError
from marsrl.files import write_beside
from marsrl.presets import preset
from marsrl.report.benchmark_figures import make_plots
from marsrl.report.commands import Compare
from marsrl.report.page import render_page
from marsrl.report.summary import summarize_benchmark
from marsrl.runs.records import from_file, to_file
from run_folders import SEEDS, Writer

TASK = "paxmen/4ag"
OWN = "my_module:env"


@pytest.fixture
def mars(tmp_path):
    return Writer(tmp_path / "mars")


@pytest.fixture
def mappo(tmp_path):
    return Writer(tmp_path / "mappo", "mappo", tops=(5.0, 10.0, 15.0))


def summarized(*writers, endpoint="best"):
    results = results_of([writer.write() for writer in writers])
    return summarize_benchmark(results, results.suite.objectives[0], endpoint)


# --- a configuration as a suite -------------------------------------------------------------------


def test_its_cells_are_the_configuration():
    config = preset(TASK, width=16, seeds=(3, 4), objective="maspo", num_envs=32)
    suite = comparison(config, ("mars", "mappo", "mars@eps=0.4"))
    assert (suite.tasks, suite.seeds) == ((TASK,), (3, 4))
    assert suite.settings == {"width": 16, "num_envs": 32}
    for label, objective, eps in (("mars", "mars", 1.0), ("mars@eps=0.4", "mars", 0.4)):
        own = suite.config(TASK, label)
        values = config.to_dict() | {"objective": objective, "eps": eps}
        assert own == Config.from_dict(values).settled()


def test_a_task_of_ones_own_scores_its_returns(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    config = Config(task="mine.py:env")
    assert comparison(config, ("mars", "mappo")).bounds_of("mine.py:env") == RETURNS
    bounds = Bounds(-1.0, 3.0)
    assert comparison(config, ("mars", "mappo"), bounds).bounds_of("mine.py:env") == bounds
    with pytest.raises(UserError, match="bounds: those of paxmen/4ag are the benchmark's"):
        comparison(Config(), ("mars", "mappo"), bounds)


@pytest.mark.parametrize(
    ("objectives", "settings", "message"),
    [
        (("mars",), {}, "at least 2 different ones"),
        (("mars", "mars"), {}, "at least 2 different ones"),
        (("mars", "marz"), {}, "marz.*nearest are: mars"),
        (("mars", "mars@eps=1.0"), {}, "mars and mars@eps=1.0 have the same settings"),
        (("mars", "mappo"), {"eps_low": 0.1}, "eps_low"),
        (("mars", "mappo@eval_greedy=true"), {}, "eval_greedy = False and True"),
    ],
)
def test_what_is_no_comparison_is_refused(objectives, settings, message):
    with pytest.raises(UserError, match=message):
        comparison(Config(**settings), objectives)


def test_an_own_task_that_has_changed_is_not_compared_with_what_it_was(tmp_path, monkeypatch):
    """Whatever the objectives, the page would have both on one task."""
    (tmp_path / "mine.py").write_text("reward = 1\n")
    monkeypatch.chdir(tmp_path)
    config, out = Config(task="mine.py:env"), tmp_path / "out"
    old, new = (comparison(config, x) for x in (("mars", "mappo"), ("maspo", "mars-log")))
    for job in plan(adopt(old, out), out):
        job.folder.parent.mkdir(parents=True)
        note_source(job, tmp_path)
        job.folder.mkdir()
    check = partial(Compare(config, mixed=True)._check, new, out)
    before = (out / "suite.toml").read_text()
    check(old)
    (tmp_path / "mine.py").write_text("reward = 2\n")
    with pytest.raises(UserError, match=r"mine.py:env has changed since .* of another task"):
        adopt(new, out, check)
    assert (out / "suite.toml").read_text() == before


# --- runs that there are --------------------------------------------------------------------------


def test_scores_are_worked_by_hand(mars, mappo):
    summary = summarized(mars, mappo)
    first, second = summary.rows
    assert (first.objective, second.objective) == ("mars", "mappo")
    low, high = TASKS[TASK].low, TASKS[TASK].high
    assert first.returns == pytest.approx((11.0, 21.0, 31.0), abs=1e-4)
    assert first.score == pytest.approx((21 - low) / (high - low), abs=1e-6)
    # 11 beats 6 and ties 11; 21 and 31 beat all three
    (contest,) = summary.contests
    assert contest.overall.improvement.value == pytest.approx((1.5 + 3 + 3) / 9)
    assert summarized_again(mars, mappo, "last")[0].returns == pytest.approx((10, 20, 30), abs=1e-4)


def summarized_again(mars, mappo, endpoint):
    return summarize_benchmark(results_of([mars.path, mappo.path]), None, endpoint).rows


def test_a_diverged_seed_is_the_lowest_of_all(mars, mappo):
    mars.diverge(1, 500)
    mappo.change("final", 2, 1000, **{"return": -17.0})
    summary = summarized(mars, mappo)
    row = summary.rows[0]
    assert (row.ended, row.diverged) == (SEEDS, (1,))
    assert row.returns == pytest.approx((11.0, -17.0, 31.0), abs=1e-4)
    (line,) = [x for x in text_of(summary).splitlines() if x.startswith("| paxmen/4ag | mars")]
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[3] == "1"
    assert cells[-4:-1] == ["11", "−17", "31"]  # noqa: RUF001 (a minus sign)
    assert "mars on paxmen/4ag, seed 1, at step 500" in page_of(summary)
    assert "a diverged run is never dropped" in page_of(summary).lower()


def text_of(summary):
    console = PlainConsole(width=300)
    with console.capture() as capture:
        console.print(returns(summary))
    return capture.get()


def page_of(summary):
    return render_page(summary, make_plots(summary))


def test_runs_of_two_versions_of_a_task_of_ones_own_are_not_compared(tmp_path):
    paths = [Writer(tmp_path / x, x, task="mine.py:env").write() for x in ("mars", "mappo")]
    one, other = ({"sources": {"task": digest}} for digest in ("aaa", "bbb"))
    session = {"at": 100, "versions": {"marsrl": "1"}, "machine": {"cores": 1}, "git": None}

    def begun(path, note):
        content = from_file(path / "config.json")
        (path / "config.json").write_bytes(to_file(content | note))

    begun(paths[0], one)
    for fine in ({}, one, one | {"resumed": [session, session | one]}):
        begun(paths[1], fine)
        results_of(paths)
    for mixed in (other, one | {"resumed": [session | other]}):
        begun(paths[1], mixed)
        with pytest.raises(UserError, match=r"mine\.py:env was .* these are two tasks; train it"):
            results_of(paths)


def test_a_run_that_diverged_at_once_is_reported(mars, mappo):
    for seed in SEEDS:
        mars.diverge(seed, 100)
    summary = summarized(mappo, mars)
    assert summary.rows[1].diverged == SEEDS
    assert summary.rows[1].returns == pytest.approx([TASKS[TASK].low] * 3, abs=1e-4)
    assert np.isnan(summary.diagnostics.total["gradient/dead"][1])
    assert "not measured" in page_of(summary)


def test_diagnostics_skip_what_is_null(mars, mappo):
    mars.change("train", 0, 100, gradient__corrective=0.2, gradient__dead=0.75, ratio__min=0.01)
    mars.change("train", 0, 200, gradient__corrective=0.4, ratio__max=50.0)
    mars.change("train", 1, 100, gradient__corrective=0.9, ratio__collapsed=0.3)
    found = summarized(mars, mappo).diagnostics.total
    assert {name: found[name][0] for name in found if np.isfinite(found[name][0])} == pytest.approx(
        {
            "gradient/dead": 0.25 + 0.5 / 30,
            "gradient/corrective": (0.3 + 0.9) / 2,
            "ratio/collapsed": 0.3 / 30,
            "ratio/min": 0.01,
            "ratio/max": 50.0,
            "entropy": 1.0,
            "approx_kl": 0.5,
        }
    )


def test_the_figure_has_each_run(mars, mappo):
    plots = make_plots(summarized(mars, mappo))
    assert list(plots["curves"].styles) == ["mars", "mappo"]
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    plots["scores"].panels[0].draw(ax)
    low, high = TASKS[TASK].low, TASKS[TASK].high
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    scores = (np.array([11.0, 21.0, 31.0]) - low) / (high - low)
    np.testing.assert_allclose(dots[0].get_xdata(), scores, atol=1e-6)
    assert ax.get_xlim()[0] <= min(dots[1].get_xdata())
    assert max(scores) <= ax.get_xlim()[1]


def test_files_say_the_same_as_the_result(mars, mappo, tmp_path):
    results = results_of([mars.write(), mappo.write()])
    write(results, tmp_path / "out")
    again = read(tmp_path / "out")
    assert again.suite == results.suite
    assert again.runs == results.runs
    assert again.episodes.equals(results.episodes)
    assert again.curves.equals(results.curves)


def test_who_is_ahead_is_one_line(mars, mappo):
    summary = summarized(mars, mappo)
    (line,) = verdicts(summary)
    assert line.startswith("mars against mappo is not settled: its mean score is +0.099")
    assert line.endswith("on 1 task.")


def test_other_settings_that_differ_are_named(mars, tmp_path):
    other = Writer(tmp_path / "other", "mappo", eps=0.1)
    differing = [x.name for x in summarized(mars, other).settings if x.differs]
    assert differing == ["eps"]


def test_runs_of_one_objective_are_called_by_their_folders_too(mars, tmp_path):
    wide = Writer(tmp_path / "two words", width=16)
    assert summarized(mars, wide).objectives == ("mars@mars", "mars@two-words")
    with pytest.raises(UserError, match="two words is there twice, or another run"):
        results_of([wide.path, Writer(tmp_path / "b" / "two words").write()])


def test_an_unfinished_run_is_missing(mars, mappo):
    mars.status["2"]["status"] = "running"
    mars.drop("final", 2, 1000)
    summary = summarized(mars, mappo)
    assert summary.objectives == ("mappo",)
    assert "running" in page_of(summary)
    assert verdicts(summary) == ["mars against mappo: no task is complete for both."]


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "paxmen/2ag"},
        {"seeds": (0, 1, 3)},
        {"total_steps": 2000},
        {"eval_greedy": True},
        {"num_evaluations": 3},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_runs_that_cannot_be_compared(mars, tmp_path, settings):
    other = Writer(tmp_path / "other", "mappo", **settings)
    ((name, value),) = settings.items()
    with pytest.raises(UserError, match=name) as error:
        results_of([mars.write(), other.write()])
    assert str(value) in str(error.value)
    assert str(getattr(mars.config, name)) in str(error.value)


@pytest.mark.parametrize(
    ("file", "changes", "text"),
    [
        ("config.json", {"versions": None}, "versions = None, expected a table"),
        ("config.json", {"versions": []}, r"versions = \[\], expected a table"),
        ("status.json", {"seconds": {"train": 1e300}}, "1e\\+300"),
    ],
)
def test_records_of_another_form_are_one_line(mars, mappo, file, changes, text):
    runs = mars.write(), mappo.write()
    for run in runs:
        write_beside(run / file, to_file(from_file(run / file) | changes))
    with pytest.raises(UserError, match=text):
        results_of(runs)


def test_runs_that_are_evaluated_after_different_steps_are_named(mars, tmp_path):
    other = Writer(tmp_path / "other", "mappo", num_envs=4, rollout_length=10)
    text = "mars and mappo on .* num_envs x rollout_length = 10 x 50 and 4 x 10 .*steps = 2000"
    with pytest.raises(UserError, match=text):
        results_of([mars.write(), other.write()])


def test_one_run_and_damaged_ones_are_refused(mars, mappo):
    with pytest.raises(UserError, match="runs: got 1, expected at least 2"):
        results_of([mars.write()])
    mappo.rows.append(dict(mappo.rows[0]))
    with pytest.raises(UserError, match=r"twice; see what .* with: marsrl doctor .*mappo"):
        results_of([mars.path, mappo.write()])
    with pytest.raises(UserError, match="is not a run folder"):
        results_of([mars.path, mars.path.parent])


def test_a_run_of_an_old_version_has_no_origin(mars, mappo):
    for writer in (mars, mappo):
        content = {"config": writer.config.to_dict()}
        (writer.write() / "config.json").write_text(json.dumps(content))
    results = results_of([mars.path, mappo.path])
    assert results.runs[0].versions == {}
