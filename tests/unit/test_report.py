import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from marsrl.config import Config
from marsrl.errors import UserError
from marsrl.report import figures
from marsrl.report.compare import compare
from marsrl.report.learning import learning_curve
from marsrl.report.runs import read_run

SEEDS = (0, 1, 2)
EVAL_STEPS = (0, 500, 1000)
TRAIN_STEPS = tuple(range(100, 1001, 100))
METRICS = {
    "entropy": 1.0,
    "gradient/dead": 0.25,
    "gradient/corrective": None,
    "ratio/collapsed": 0.0,
    "ratio/min": 0.5,
    "ratio/max": 2.0,
}


class Writer:
    """A run folder with plausible rows, to be bent before it is written."""

    def __init__(self, path, objective="mars", tops=(10.0, 20.0, 30.0), **settings):
        self.path = path
        config = {"objective": objective, "seeds": SEEDS, "total_steps": 1000} | settings
        self.config = Config(**config)
        self.status = {str(s): {"status": "finished", "step": 1000} for s in self.config.seeds}
        self.rows = []
        for seed, top in zip(self.config.seeds, tops, strict=True):
            self.rows += [
                {"kind": "train", "seed": seed, "step": step, "episode/return": top * step / 1000}
                | METRICS
                for step in TRAIN_STEPS
            ]
            self.rows += [
                {"kind": "eval", "seed": seed, "step": step, "return": top * step / 1000}
                for step in EVAL_STEPS
            ]
            self.rows.append({"kind": "final", "seed": seed, "step": 1000, "return": top + 1})

    def change(self, kind, seed, step, **values):
        (row,) = self.select(kind, seed, step)
        row.update({key.replace("__", "/"): value for key, value in values.items()})

    def drop(self, kind, seed, step):
        (row,) = self.select(kind, seed, step)
        self.rows.remove(row)

    def select(self, *wanted):
        return [r for r in self.rows if (r["kind"], r["seed"], r["step"]) == wanted]

    def diverge(self, seed, step):
        """As the runner does: no rows from this step on, but a final score of what went before."""
        self.status[str(seed)] = {"status": "diverged", "step": step}
        self.rows = [
            r for r in self.rows if r["seed"] != seed or r["kind"] == "final" or r["step"] < step
        ]

    def write(self):
        self.path.mkdir(parents=True)
        content = {"config": self.config.to_dict(), "hash": self.config.hash}
        (self.path / "config.json").write_text(json.dumps(content))
        status = {"status": "finished", "step": 1000, "seeds": self.status}
        (self.path / "status.json").write_text(json.dumps(status))
        lines = [json.dumps(row) + "\n" for row in self.rows]
        (self.path / "metrics.jsonl").write_text("".join(lines))
        return self.path


@pytest.fixture
def mars(tmp_path):
    return Writer(tmp_path / "mars")


@pytest.fixture
def mappo(tmp_path):
    return Writer(tmp_path / "mappo", "mappo", tops=(5.0, 10.0, 15.0))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "out"


# --- the table ---------------------------------------------------------------------------------


def test_scores_are_worked_by_hand(mars, mappo, out):
    comparison = compare([mars.write(), mappo.write()], out)
    first, second = comparison.rows
    assert (first.objective, second.objective) == ("mars", "mappo")
    # the last tenth of 1000 steps holds the row at 1000 alone
    assert first.scores["training_return"].per_seed == (10.0, 20.0, 30.0)
    assert first.scores["last_evaluation"].per_seed == (10.0, 20.0, 30.0)
    assert first.scores["final_score"].per_seed == (11.0, 21.0, 31.0)
    # three equal seeds have probability 1/27 > 0.025, so the interval is the range
    assert first.scores["final_score"][1:] == (21.0, 11.0, 31.0)
    # 11 beats 6 and ties 11; 21 and 31 beat all three
    assert second.beaten_by_first["final_score"] == pytest.approx((1.5 + 3 + 3) / 9)
    assert first.beaten_by_first == {}


def test_last_tenth_is_averaged_over_the_rows_that_measured(mars, mappo, out):
    extra = [
        {"kind": "train", "seed": seed, "step": 950, "episode/return": value} | METRICS
        for seed, value in zip(SEEDS, (0.0, 10.0, None), strict=True)
    ]
    mars.rows += extra
    scores = compare([mars.write(), mappo.write()], out).rows[0].scores
    assert scores["training_return"].per_seed == (5.0, 15.0, 30.0)


def test_a_diverged_seed_is_the_lowest_of_all(mars, mappo, out):
    mars.diverge(1, 500)
    mappo.change("eval", 2, 500, **{"return": -7.0})
    mappo.change("train", 0, 300, episode__return=-3.0)
    comparison = compare([mars.write(), mappo.write()], out)
    row = comparison.rows[0]
    assert row.diverged == {1: 500}
    assert row.scores["training_return"].per_seed == (10.0, -3.0, 30.0)
    assert row.scores["last_evaluation"].per_seed == (10.0, -7.0, 30.0)
    assert row.scores["final_score"].per_seed == (11.0, -7.0, 31.0)
    assert row.scores["final_score"].mean == pytest.approx(35 / 3)
    text = (out / "table.md").read_text()
    assert "| mars | final score | 11 | -7 (diverged) | 31 |" in text
    assert "counts as the lowest return of all" in text
    assert "(training -3, evaluation -7)" in text
    assert "mars: seed 1 diverged at step 500." in text


def test_a_run_that_diverged_at_once_is_reported(mars, mappo, out):
    for seed in SEEDS:
        mars.diverge(seed, 100)
    path = mars.write()
    assert not any(row["kind"] == "train" for row in mars.rows)
    row = compare([mappo.write(), path], out).rows[1]
    assert row.scores["final_score"].per_seed == (0.0, 0.0, 0.0)
    assert row.scores["training_return"].per_seed == (0.5, 0.5, 0.5)
    assert "not measured" in (out / "table.md").read_text()
    assert json.loads((out / "table.json").read_text())["rows"][1]["diagnostics"] == {
        "gradient/dead": None,
        "gradient/corrective": None,
        "ratio/collapsed": None,
        "ratio/min": None,
        "ratio/max": None,
    }
    assert learning_curve(path).stat().st_size > 10_000


def test_diagnostics_skip_what_is_null(mars, mappo, out):
    mars.change("train", 0, 100, gradient__corrective=0.2, gradient__dead=0.75, ratio__min=0.01)
    mars.change("train", 0, 200, gradient__corrective=0.4, ratio__max=50.0)
    mars.change("train", 1, 100, gradient__corrective=0.9, ratio__collapsed=0.3)
    row = compare([mars.write(), mappo.write()], out).rows[0]
    assert row.diagnostics == pytest.approx(
        {
            "gradient/dead": 0.25 + 0.5 / 30,
            "gradient/corrective": (0.3 + 0.9) / 2,
            "ratio/collapsed": 0.3 / 30,
            "ratio/min": 0.01,
            "ratio/max": 50.0,
        }
    )


def test_files_say_the_same_as_the_result(mars, mappo, out):
    comparison = compare([mars.write(), mappo.write()], out)
    content = json.loads((out / "table.json").read_text())
    assert content["task"] == comparison.task
    assert content["rows"][1]["scores"]["final_score"] == {
        "per_seed": [6.0, 11.0, 16.0],
        "mean": 11.0,
        "low": 6.0,
        "high": 16.0,
    }
    assert content["rows"][1]["beaten_by_first"] == comparison.rows[1].beaten_by_first
    text = (out / "table.md").read_text()
    assert "| mappo | 3 | 0 | 10 [5, 15] | 10 [5, 15] | 11 [6, 16] |" in text
    assert "75 % at 3 seeds, 84 % at 5 and 90 % at 10" in text
    assert "One seed" not in text
    assert "diverged seed" not in text
    assert all(note in text for note in content["notes"])
    widths = {}
    for number, block in enumerate(text.split("\n\n")):
        if block.startswith("|"):
            widths[number] = {line.count("|") for line in block.splitlines()}
    assert len(widths) == 4
    assert all(len(width) == 1 for width in widths.values())


def test_one_seed_and_ten_seeds_are_told_apart(tmp_path):
    for count, warned in [(1, True), (10, False)]:
        seeds, tops = tuple(range(count)), tuple(float(i) for i in range(count))
        runs = [
            Writer(tmp_path / f"{name}{count}", name, tops, seeds=seeds).write()
            for name in ("mars", "maspo")
        ]
        compare(runs, tmp_path / f"out{count}")
        text = (tmp_path / f"out{count}" / "table.md").read_text()
        assert ("cover only about" in text) == warned
        assert ("One seed: its interval is the point itself" in text) == warned


def test_returns_that_were_never_measured_are_missing(mars, mappo, out):
    for row in mars.rows:
        if row["kind"] == "train" and row["seed"] == 2:
            row["episode/return"] = None
    comparison = compare([mars.write(), mappo.write()], out)
    assert math.isnan(comparison.rows[0].scores["training_return"].mean)
    assert math.isnan(comparison.rows[1].beaten_by_first["training_return"])
    assert comparison.rows[1].beaten_by_first["final_score"] > 0.5
    content = json.loads((out / "table.json").read_text())
    assert content["rows"][0]["scores"]["training_return"]["per_seed"] == [10.0, 20.0, None]
    assert "| mars | 3 | 0 | not measured |" in (out / "table.md").read_text()


def test_other_settings_that_differ_are_named(mars, tmp_path, out):
    other = Writer(tmp_path / "other", "mappo", eps=0.1)
    comparison = compare([mars.write(), other.write()], out)
    assert comparison.differing == {"eps": (1.0, 0.1)}
    assert "Not the same in all runs: eps = 1.0, 0.1." in (out / "table.md").read_text()


# --- what is refused ---------------------------------------------------------------------------


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
def test_runs_that_cannot_be_compared(mars, tmp_path, out, settings):
    other = Writer(tmp_path / "other", "mappo", **settings)
    ((name, value),) = settings.items()
    with pytest.raises(UserError, match=name) as error:
        compare([mars.write(), other.write()], out)
    assert repr(value) in str(error.value)
    assert repr(getattr(mars.config, name)) in str(error.value)
    assert not out.exists()


def test_one_run_or_the_same_objective_twice(mars, tmp_path, out):
    path = mars.write()
    with pytest.raises(UserError, match="got 1 runs, expected from 2 to 10"):
        compare([path], out)
    with pytest.raises(UserError, match="same objective mars"):
        compare([path, Writer(tmp_path / "again").write()], out)


def corrupt_line(writer):
    writer.rows[3] = "not an object"


def unfinished(writer):
    writer.status["2"]["status"] = "running"


def duplicate(writer):
    writer.rows.append(dict(writer.rows[0]))


def stranger(writer):
    writer.rows[0]["seed"] = 7


def odd_kind(writer):
    writer.rows[0]["kind"] = "trian"


def no_step(writer):
    del writer.rows[5]["step"]


def text_for_step(writer):
    writer.rows[5]["step"] = "100"


def text_for_number(writer):
    writer.change("train", 1, 200, entropy="high")


def missing_metric(writer):
    del writer.rows[0]["gradient/dead"]


def null_evaluation(writer):
    writer.change("eval", 1, 500, **{"return": None})


def no_training(writer):
    writer.rows = [row for row in writer.rows if row["kind"] != "train"]


def no_evaluation(writer):
    writer.rows = [row for row in writer.rows if row["kind"] != "eval"]


def status_lacks_seed(writer):
    del writer.status["1"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (corrupt_line, "line 4, holds 'not an object', expected a JSON object"),
        (unfinished, "not finished"),
        (duplicate, "second train row of seed 0 at step 100"),
        (stranger, "seed 7, which the run does not have"),
        (odd_kind, "'trian', expected one of train, eval, final"),
        (no_step, "line 6, has no 'step'"),
        (text_for_step, "line 6, has step = '100'"),
        (text_for_number, "entropy = 'high'"),
        (missing_metric, "no 'gradient/dead'"),
        (null_evaluation, "evaluation of seed 1 at step 500 has no finite return"),
        (no_training, "no rows of kind 'train'"),
        (no_evaluation, "no rows of kind 'eval'"),
        (status_lacks_seed, "no '1'"),
        (lambda w: w.drop("train", 1, 300), "seed 1 has no row at step 300"),
        (lambda w: w.drop("eval", 2, 1000), "seed 2 has no row at step 1000"),
        (lambda w: w.drop("final", 2, 1000), "seed 2 has no final row"),
    ],
)
def test_corrupt_runs_are_refused(mars, mappo, out, damage, message):
    damage(mars)
    with pytest.raises(UserError, match=message) as error:
        compare([mappo.write(), mars.write()], out)
    assert str(mars.path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize("name", ["config.json", "status.json", "metrics.jsonl"])
def test_files_that_are_missing_or_no_json(mars, name):
    file = mars.write() / name
    file.write_text(file.read_text()[:-5])
    with pytest.raises(UserError, match=f"{name}.* is not JSON"):
        read_run(mars.path)
    file.unlink()
    with pytest.raises(UserError, match=f"cannot read .*{name}"):
        read_run(mars.path)


def test_rows_from_the_divergence_on_do_not_count(mars):
    mars.status["1"] = {"status": "diverged", "step": 500}
    run = read_run(mars.write())
    np.testing.assert_array_equal(run.eval_return[1], [0.0, math.nan, math.nan])
    np.testing.assert_array_equal(np.isfinite(run.train_return[1]), np.array(TRAIN_STEPS) < 500)
    assert run.diverged_steps == {1: 500}


# --- figures -----------------------------------------------------------------------------------


def picture(path):
    """The distinct colours as hex strings, and the size in pixels."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    packed = np.unique(pixels @ [1 << 16, 1 << 8, 1])
    return {f"#{color:06x}" for color in packed}, pixels.shape[:2]


def test_learning_curve_is_written_into_the_run(mars):
    mars.diverge(1, 500)
    path = learning_curve(mars.write())
    assert path == mars.path / "learning_curve.png"
    colors, size = picture(path)
    assert figures.COLORS[0] in colors
    assert size == (750, 1200)


def test_comparison_shows_every_objective(mars, mappo, out):
    compare([mars.write(), mappo.write()], out)
    colors, size = picture(out / "comparison.png")
    assert figures.COLORS[0] in colors
    assert figures.COLORS[1] in colors
    assert figures.COLORS[2] not in colors
    assert size == (1050, 1800)


def test_curve_draws_what_it_is_given():
    ax = Figure().add_subplot()
    step, mean = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0])
    figures.curve(ax, step, mean, mean - 1, mean + 1, "mars", figures.COLORS[0])
    (line,), (area,) = ax.lines, ax.collections
    np.testing.assert_array_equal(line.get_xydata(), np.stack([step, mean], axis=1))
    assert line.get_label() == "mars"
    corners = {tuple(point) for point in area.get_paths()[0].vertices}
    assert {(1.0, 1.0), (1.0, 3.0), (2.0, 0.0), (2.0, 2.0)} <= corners


def test_the_legend_names_a_divergence_once():
    ax = Figure().add_subplot()
    values = np.array([1.0, 2.0, math.nan])
    for _ in range(2):
        figures.mark_divergence(ax, np.array([0.0, 1.0, 2.0]), values, figures.COLORS[0])
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1.0, 2.0]])
    figures.legend(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["diverged: counts as lowest"]


@pytest.fixture
def drawn(monkeypatch):
    """The figures in place of their files."""
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure) or path)
    return kept


def labelled(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found.get_xydata().tolist()


def test_mean_falls_to_the_lowest_return_where_a_seed_diverged(mars, drawn):
    mars.diverge(2, 500)
    mars.change("eval", 0, 0, **{"return": -6.0})
    mars.change("train", 0, 100, episode__return=-9.0)
    learning_curve(mars.write())
    (ax,) = drawn[0].axes
    mean = labelled(ax, "evaluation, mean and 95 % interval")
    assert mean == [[0.0, -2.0], [500.0, 3.0], [1000.0, 8.0]]
    # seeds 0 and 1 return 5 and 10 at step 500, and the third counts as -9
    assert labelled(ax, "training, mean")[4] == [500.0, 2.0]
    assert labelled(ax, "diverged: counts as lowest") == [[0.0, 0.0]]


def test_a_run_of_diverged_seeds_is_drawn_to_the_end(mars, mappo, out, drawn):
    for seed in SEEDS:
        mars.diverge(seed, 400)
    mappo.change("eval", 0, 500, **{"return": -4.0})
    compare([mars.write(), mappo.write()], out)
    returns = drawn[0].axes[0]
    assert labelled(returns, "mars, 3 diverged") == [[0.0, 0.0], [400.0, -4.0], [1000.0, -4.0]]
    assert labelled(returns, "mappo")[-1] == [1000.0, 10.0]


def test_panels_show_means_over_seeds_and_the_whole_range_of_the_ratio(mars, mappo, out, drawn):
    mars.change("train", 1, 100, gradient__dead=0.55, ratio__min=0.1, ratio__max=9.0)
    compare([mars.write(), mappo.write()], out)
    panels = {ax.get_title(loc="left"): ax for ax in drawn[0].axes}
    mean, other = panels["Dead gradients, share"].lines
    assert mean.get_ydata()[:2] == pytest.approx([0.35, 0.25])
    assert other.get_ydata()[:2] == pytest.approx([0.25, 0.25])
    ratios = panels["Ratio, smallest and largest"]
    assert [line.get_ydata()[0] for line in ratios.lines] == [0.1, 9.0, 0.5, 2.0]
    assert ratios.get_yscale() == "log"
    assert [line.get_xdata()[0] for line in panels["Final score"].lines[:3]] == [11.0, 11.0, 21.0]
