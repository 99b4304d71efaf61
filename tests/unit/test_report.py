import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from marsrl.errors import UserError
from marsrl.report import figures
from marsrl.report.learning import learning_curve
from marsrl.report.runs import read_run
from run_folders import SEEDS, TRAIN_STEPS, Writer


@pytest.fixture
def mars(tmp_path):
    return Writer(tmp_path / "mars")


def corrupt_line(writer):
    writer.rows[3] = "not an object"


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
        (corrupt_line, r"1 damaged row\(s\) left out, line\(s\) 4;"),
        (duplicate, "row of kind train, seed 0, step 100 twice"),
        (stranger, "at step 100 of seed 7 a row, expected a seed of its run"),
        (odd_kind, "'trian', expected one of train, eval, final"),
        (no_step, r"line\(s\) 6;"),
        (text_for_step, r"line\(s\) 6;"),
        (text_for_number, "entropy = 'high'"),
        (missing_metric, "at step 100 of seed 0 gradient/dead = None, expected"),
        (null_evaluation, "evaluation of seed 1 at step 500 has no finite return"),
        (no_training, "no train row of seed 0 at step 500"),
        (no_evaluation, "no evaluation of seed 0 at step 0"),
        (status_lacks_seed, "nothing of seed 1"),
        (lambda w: w.drop("train", 1, 300), "no train row of seed 1 at step 300"),
        (lambda w: w.drop("eval", 2, 1000), "no evaluation of seed 2 at step 1000"),
        (lambda w: w.drop("final", 2, 1000), "no final row of seed 2"),
    ],
)
def test_corrupt_runs_are_refused(mars, damage, message):
    damage(mars)
    with pytest.raises(UserError, match=message) as error:
        read_run(mars.write())
    assert str(mars.path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "status.json", "metrics.jsonl"])
def test_files_that_are_missing_or_no_json(mars, name):
    file = mars.write() / name
    file.write_text(file.read_text()[:-5])
    with pytest.raises(UserError, match=f"{name} (is damaged|has no final row)"):
        read_run(mars.path)
    file.unlink()
    with pytest.raises(UserError, match=name):
        read_run(mars.path)


def test_a_run_that_has_not_ended_is_read_as_far_as_it_has_come(mars):
    assert read_run(str(mars.write())).finished  # a path may be text
    other = Writer(mars.path.with_name("other"))
    other.status["2"]["status"] = "running"
    other.drop("final", 2, 1000)
    assert not read_run(other.write()).finished


def test_a_run_that_diverged_at_once_is_read_and_drawn(mars):
    for seed in SEEDS:
        mars.diverge(seed, 100)
    path = mars.write()
    assert not any(row["kind"] == "train" for row in mars.rows)
    run = read_run(path)
    assert run.train_return.shape == (3, 0)
    np.testing.assert_array_equal(run.eval_return, [[0.0], [0.0], [0.0]])
    assert learning_curve(str(path)).stat().st_size > 10_000


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


@pytest.mark.parametrize("sizes", [(0.0013, 0.004), (1.1, 1.2), (0.0009, 0.003), (0.05, 0.05)])
def test_sizes_that_are_nearly_equal_stand_close_together(sizes):
    ax = figures.new_figure(3, 3).subplots()
    ax.plot(sizes, sizes)
    figures.dress_sizes(ax, "title", "eps")
    low, high = ax.get_xlim()
    assert high / low == pytest.approx(3.5**2, rel=0.05)
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 3  # more would touch each other


def test_sizes_that_are_far_apart_stay_so():
    ax = figures.new_figure(3, 3).subplots()
    ax.plot((0.01, 10), (0.01, 10))
    figures.dress_sizes(ax, "title", "eps")
    low, high = ax.get_xlim()
    assert 0.001 < low <= 0.01
    assert 10 <= high < 100


def test_an_interval_that_an_axis_cuts_off_ends_in_an_arrow():
    figure = figures.new_figure(4, 3)
    ax = figure.add_subplot()
    figures.reaches_beyond(ax, 2, np.array([-0.1, 0.9]), 0.5, "black")
    (arrow,) = ax.lines
    assert (arrow.get_xydata().tolist(), arrow.get_marker()) == ([[0.5, 2.0]], ">")
