import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from bench_results import FACTORIAL, HOSTILE, NANO_TASKS, make_results, nano_summary
from marsrl.bench.suite import read_suite
from marsrl.envs.tasks import TASKS
from marsrl.report import figures
from marsrl.report.benchmark_figures import draw_panel, draw_plot, make_plots
from marsrl.report.page import render_page, write_page
from marsrl.report.styles import COLORS_ON_DARK, style_at
from marsrl.report.summary import summarize_benchmark

TASK, OTHER = "lbf/8x8-2p-2f-coop", "smax/2s3z"
NOTE = "cover only about"


class Reader(HTMLParser):
    """The tags of a page, the text of each section, and how often each id is used."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.sections, self._open = [], [], {"head": ""}, "head"
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "section":
            self._open = attrs["id"]
            self.sections[self._open] = ""

    def handle_data(self, data):
        self.sections[self._open] += " ".join(data.split()) + " "

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(results):
    summary = summarize_benchmark(results)
    return render_page(summary, make_plots(summary))


@pytest.fixture(scope="module")
def html():
    return render_page(nano_summary(), make_plots(nano_summary()))


@pytest.fixture(scope="module")
def page(html):
    return Reader(html)


def test_names_from_files_are_escaped(html, page):
    assert page.all("img") == page.all("b") == page.all("i") == []
    assert len(page.all("script")) == 1
    assert "&lt;img src=x onerror=alert(1)&gt;$x_" in html
    assert HOSTILE in page.sections["verdict"]
    assert "cpu (<script>alert(2)</script>)" in page.sections["origins"]


def test_nothing_is_loaded(html, page):
    loading = [x for _, x in page.tags if "src" in x or "srcset" in x or "data" in x]
    assert loading == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    for _, attrs in page.tags:
        for key in ("href", "xlink:href"):
            assert attrs.get(key, "#").startswith(("#", "data:"))
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    (policy,) = [x["content"] for x in page.all("meta") if "http-equiv" in x]
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_read_without_seeing_it(page):
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.ids) == len(set(page.ids))
    assert len(page.all("main")) == len(page.all("header")) == len(page.all("nav")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(x.get("scope") in ("col", "row") for x in page.all("th"))
    pictures = [x for x in page.all("svg") if x.get("role") == "img"]
    assert len(pictures) > 20
    assert all(re.search(r"\d", x["aria-label"]) for x in pictures)
    others = [x for x in page.all("svg") if x.get("role") != "img"]
    assert all(x.get("aria-hidden") == "true" for x in others)
    for attrs in page.all("div"):
        if attrs.get("class") == "scroll":
            assert attrs["tabindex"] == "0"
            assert attrs["aria-labelledby"] in page.ids


def test_the_verdict_comes_first_and_carries_its_interval(page):
    assert list(page.sections)[1] == "verdict"
    verdict = re.sub(" +", " ", page.sections["verdict"])
    interval = r"its mean score is \+0\.\d+ apart, 95 % interval \+0\.\d+ to \+0\.\d+,"
    assert re.search(rf"mars exceeds mappo: {interval} on 7 tasks in 7 families\.", verdict)
    assert "mars exceeds mars-additive:" in verdict
    assert "Runs are of the commit abc123, 162 of 162 with changes that" in verdict


def test_the_first_screen_has_the_answer_the_settings_and_the_forest(html):
    places = [
        html.index(text)
        for text in ("mars exceeds mappo:", 'id="t-settings"', "Differences of mean scores", "<nav")
    ]
    assert places == sorted(places)
    assert html.index("<nav") < html.index('id="heat"')


def test_what_few_seeds_cannot_say_is_said_once_where_it_belongs(page):
    noted = {name for name, text in page.sections.items() for _ in range(text.count(NOTE))}
    assert noted == {"curves"}  # whose intervals alone are plain
    assert "".join(page.sections.values()).count(NOTE) == 1
    few = "With 3 seeds no order of a single task's runs is rare enough to settle it"
    assert page.sections["verdict"].count(few) == 1
    assert "its interval is the 90 % one" in page.sections["verdict"]
    enough = make_results(lambda task, name, seed: seed / 10, (TASK,), seeds=tuple(range(10)))
    html = page_of(enough)
    assert NOTE not in html
    assert "rare enough" not in html


def test_what_is_left_out_is_said(page):
    scores = page.sections["scores"]
    assert "Over 4 of 8 tasks: those on which every seed of" in scores
    assert f"Left out: {', '.join((*NANO_TASKS[:3], NANO_TASKS[-1]))}." in scores
    assert "counts as the lowest score" in scores
    assert "Budgets differ between tasks (50,000 to 100,000" in page.sections["efficiency"]


def test_diverged_and_missing_runs_are_listed_with_the_command(page):
    runs = page.sections["runs"]
    assert "mappo on rware/tiny-2ag, seed 2, at step 50,000" in runs
    assert "7 runs of 168 have not ended" in runs
    command = "marsrl bench run STORE/suite.toml --store STORE --tasks rware/tiny-2ag"
    assert f"marsrl bench restore FOLDER --store STORE {command}" in runs
    assert "aerojax/track-3ag mars 1 running 50,000" in re.sub(" +", " ", runs)


def test_tasks_that_have_not_begun_are_named_once_instead_of_a_row_for_each_run():
    status = {(OTHER, name, seed): "missing" for name in ("mars", "mappo") for seed in range(3)}
    status |= {(TASK, "mappo", seed): "missing" for seed in (1, 2)}
    page = Reader(
        page_of(make_results(lambda *run: 0.5, (TASK, OTHER), ("mars", "mappo"), status=status))
    )
    runs = re.sub(" +", " ", page.sections["runs"])
    assert "8 runs of 12 have not ended" in runs
    assert f"{TASK} mappo 1, 2 missing 0 Not begun: {OTHER}." in runs
    assert OTHER not in page.sections["tasks"]
    assert "Tasks on which no run has ended are listed under" in page.sections["tasks"]


def test_every_task_has_its_row_and_its_curve(page):
    rows = re.sub(" +", " ", page.sections["tasks"])
    assert "rware/tiny-2ag mappo 0, 1, 2; diverged: 2" in rows
    assert "aerojax/track-3ag maspo none (0 of 3) missing" in rows
    assert "0.016 32.66" in rows
    labels = [x.get("aria-label", "") for x in page.all("svg")]
    for task in NANO_TASKS:
        assert sum(f"return on {task}," in label for label in labels) == 1


def test_a_complete_suite_has_nothing_missing():
    five = make_results(lambda *run: 0.5, (TASK,), ("mars", "mappo"), seeds=range(5))
    page = Reader(page_of(five))
    assert "No run has diverged." in page.sections["runs"]
    assert "Nothing is missing." in page.sections["runs"]
    assert "factorial" not in page.sections
    assert "mars matches mappo within 0.03:" in page.sections["verdict"]
    assert "diverged" not in page.sections["scores"]


def test_families_are_named_where_they_hold_several_tasks():
    gains = {TASK: 0.3, "lbf/10x10-3p-3f": 0.2, OTHER: -0.3}
    results = make_results(
        lambda task, name, seed: (gains[task] if name == "mars" else 0) + seed / 100,
        tuple(gains),
        ("mars", "mappo"),
        seeds=range(6),
    )
    verdict = re.sub(" +", " ", Reader(page_of(results)).sections["verdict"])
    assert "Exceeds on the family lbf. Behind on the family smax. Exceeds on 2 tasks: " in verdict
    assert f"Exceeds on 2 tasks: {TASK}, lbf/10x10-3p-3f. Behind on 1 task: {OTHER}." in verdict


def test_a_settled_interaction_is_part_of_the_verdict():
    boost = {"mars": 0.3}  # the geometric boundary helps with the symmetric geometry alone
    for gains, settled in ((boost, True), ({}, False)):
        results = make_results(
            lambda task, name, seed, gains=gains: 0.2 + gains.get(name, 0) + seed / 100, (TASK,)
        )
        section = Reader(page_of(results)).sections["factorial"]
        effect = r"interaction: the boundary's effect, symmetric minus clipped: higher\. "
        found = re.search(rf"{effect} *Difference of IQMs 0\.300 \[0\.2\d+, 0\.3\d+\]", section)
        assert bool(found) == settled
        assert ("averages over unlike cells" in section) == settled
        assert "corrected for the 7 effects" in section


def test_how_settings_were_found_stands_with_them():
    results = make_results(lambda *run: 0.5, (TASK,), ("mars", "mappo", "maspo"))

    def words(chosen):
        suite = dataclasses.replace(results.suite, chosen=chosen)
        return " ".join(re.sub(r"<[^>]+>", " ", page_of(results._replace(suite=suite))).split())

    chosen = {"mars": "16 trials", "mappo": "by hand"}
    assert "how chosen 16 trials by hand not said" in words(chosen)
    assert words("by hand & eye").count("How it was chosen: by hand &amp; eye.") == 1
    assert "chosen" not in words("")


def test_a_suite_that_has_not_begun_still_has_a_page():
    status = {(TASK, name, seed): "missing" for name in FACTORIAL for seed in range(3)}
    page = Reader(page_of(make_results(lambda *run: 0.5, (TASK,), status=status)))
    # nothing is empty: what there is nothing of has no section, and no link
    assert set(page.sections) == {"head", "verdict", "runs", "origins"}
    assert {x["href"] for x in page.all("a")} == {"#verdict", "#runs", "#origins"}
    assert "mars against mappo: no task is complete for both." in page.sections["verdict"]
    assert "marsrl bench run STORE/suite.toml --store STORE " in page.sections["runs"]


def test_the_command_of_a_suite_that_comes_with_marsrl_needs_no_file():
    nano = read_suite("nano")
    status = {
        (task, name, seed): "missing"
        for task in nano.tasks
        for name in nano.objectives
        for seed in nano.seeds
    }
    results = make_results(lambda *run: 0.5, nano.tasks, nano.objectives, status=status)
    page = Reader(page_of(results._replace(suite=nano)))
    for section in ("runs", "origins"):
        assert "marsrl bench run nano --store STORE " in page.sections[section]
    grown = dataclasses.replace(nano, settings=nano.settings | {"width": 64})
    page = Reader(page_of(results._replace(suite=grown)))
    assert "marsrl bench run STORE/suite.toml --store STORE " in page.sections["runs"]


def test_one_objective_alone():
    page = Reader(page_of(make_results(lambda *run: 0.5, (TASK,), (HOSTILE,))))
    assert f"The suite has {HOSTILE} alone" in page.sections["verdict"]


@pytest.mark.parametrize(
    ("objectives", "judged"),
    [(("mars", "mappo"), True), (("mars",), False), (("mars@eps=0.1", "mars@eps=0.2"), False)],
)
def test_a_page_speaks_of_no_more_than_it_has(objectives, judged):
    settings = {label: {"eps": float(label.partition("=")[2] or 0.2)} for label in objectives}
    page = page_of(make_results(lambda *run: 0.5, (TASK,), objectives, (0,), settings=settings))
    sections = Reader(page).sections
    assert ("and nothing is settled" in sections["verdict"]) == judged
    assert ("exact (permutation test)" in sections["origins"]) == judged
    assert ("in what they differ" in sections["verdict"]) == (len(objectives) > 1)
    assert "an interval is the point itself" in sections["verdict"]  # as its tables show it


def test_results_without_times_and_diagnostics():
    results = make_results(lambda *run: 0.5, (TASK,), ("mars", "mappo"))
    phase = results.curves.column("phase").to_numpy()
    curves = results.curves.filter(phase == "eval")
    at = curves.schema.get_field_index("seconds")
    curves = curves.set_column(at, curves.schema.field(at), pa.nulls(len(curves), pa.float64()))
    page = Reader(page_of(results._replace(curves=curves)))
    assert "Wall time was not measured." in page.sections["efficiency"]
    assert "diagnostics" not in page.sections


# --- figures -----------------------------------------------------------------------------------


def test_looks_differ_by_more_than_colour():
    styles = [style_at(place) for place in range(70)]
    assert len(set(styles)) == 70
    assert len({style.dashes for style in styles[:7]}) == 7
    assert len({style.marker for style in styles[:7]}) == 7
    assert len(COLORS_ON_DARK) == len(figures.COLORS)


def test_the_target_has_the_first_look_and_everybody_keeps_theirs():
    summary = nano_summary()
    plots = make_plots(summary)
    efficiency = ["efficiency-steps", "efficiency-time"]
    names = ["forest", "response-kl", "scores", "profile", *efficiency]
    names += ["factorial", "diagnostics", "curves"]
    assert list(plots) == names
    groups = [group.name for group in summary.groups]
    assert groups[0] == "overall"
    for name in ("scores", "profile", *efficiency):
        assert [panel.title.partition(":")[0] for panel in plots[name].panels] == groups
    assert plots["curves"].styles["mars"] == style_at(0)
    for plot in plots.values():
        assert plot.styles.items() <= plots["curves"].styles.items()


@pytest.mark.parametrize(("score", "shown"), [(0.01, {"low"}), (0.9, {"low", "high"})])
def test_a_reference_that_is_far_away_does_not_flatten_the_curves(score, shown):
    results = make_results(lambda *run: score, (TASK,), ("mars",))
    panel = make_plots(summarize_benchmark(results))["curves"].panels[0]
    (ax,) = draw_panel(panel).axes
    bottom, top = ax.get_ylim()
    bounds = {"low": TASKS[TASK].low, "high": TASKS[TASK].high}
    assert {name for name, value in bounds.items() if bottom <= value <= top} == shown
    assert max(ax.lines[-1].get_ydata()) > (bottom + top) / 2


def test_a_legend_is_inside_its_figure():
    plots = make_plots(nano_summary())
    for plot in plots.values():
        figure = draw_plot(plot)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 < min(ax.get_window_extent().y0 for ax in figure.axes)


def test_figures_are_written_beside_the_page_the_same_every_time(tmp_path):
    results = make_results(lambda task, name, seed: seed / 4, (TASK, OTHER), ("mars", HOSTILE))
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        path = write_page(summarize_benchmark(results), folder)
        assert path == folder / "index.html"
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        contents.append({file.relative_to(folder): file.read_bytes() for file in files})
    assert contents[0] == contents[1]
    names = {str(name) for name in contents[0]} - {"index.html"}
    drawn = ["forest", "response-kl", "scores", "profile", "efficiency-steps", "efficiency-time"]
    drawn += ["diagnostics", "curves"]
    assert names == {f"figures/{name}.{kind}" for name in drawn for kind in ("pdf", "svg", "png")}
    for name, content in contents[0].items():
        if name.suffix == ".svg":
            text = "".join(ElementTree.fromstring(content.decode()).itertext())
            assert "mars" in text
        assert not content.startswith(b"%PDF") or name.suffix == ".pdf"
