"""A benchmark as one HTML page that needs nothing but itself, and its figures as files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from marsrl.bench.results import RunRecord
from marsrl.bench.suite import Suite, is_builtin
from marsrl.envs.tasks import BOUNDS_VERSION
from marsrl.files import write_beside
from marsrl.report import figures, wording
from marsrl.report.ablation import Factorial
from marsrl.report.benchmark_figures import Panel, Plot, draw_panel, draw_plot, make_plots
from marsrl.report.looks import COLORS_ON_DARK
from marsrl.report.origins import costs, mixtures, origins
from marsrl.report.stats import coverage_note
from marsrl.report.summary import Summary, TaskRow
from marsrl.report.verdict import Contest, Duel

_SECTIONS = {
    "verdict": "Verdict",
    "scores": "Scores",
    "profile": "Performance profile",
    "efficiency": "Sample efficiency",
    "tasks": "Tasks",
    "factorial": "Geometry and boundary",
    "diagnostics": "Failure modes",
    "curves": "Learning curves",
    "runs": "Diverged and missing runs",
    "origins": "Machines, versions, hours",
}
_PLACES = {
    "Ahead on": ("beats",),
    "Equal or ahead on": ("matches or beats",),
    "Equal on": ("matches",),
    "Equal or behind on": ("matches or loses to",),
    "Behind on": ("loses to",),
    "Not settled on": ("not settled",),
}
_THEMED = {figures.INK: "currentColor", figures.GRID: "var(--rule)", figures.SPINE: "var(--edge)"}
_THEMED |= {color: f"var(--c{i})" for i, color in enumerate(figures.COLORS)}


def write_page(summary: Summary, folder: Path) -> Path:
    """Writes `index.html` and `figures/*.{pdf,svg,png}`, and returns the page's path."""
    plots = make_plots(summary)
    files = folder / "figures"
    files.mkdir(parents=True, exist_ok=True)
    for plot in plots.values():
        figure = draw_plot(plot)
        for kind in ("pdf", "svg", "png"):
            write_beside(files / f"{plot.name}.{kind}", figures.render(figure, kind))
    page = folder / "index.html"
    write_beside(page, render_page(summary, plots).encode())
    return page


def render_page(summary: Summary, plots: dict[str, Plot]) -> str:
    """The page's HTML; whatever comes from files is escaped."""
    results = summary.results
    missing = [run for run in results.runs if run.status not in ("done", "diverged")]
    begun = {run.task for run in results.runs if run.status != "missing"}
    ended = {row.task for row in summary.rows if row.ended}
    spent = costs(results.runs)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            s=summary,
            plots=plots,
            sections=_SECTIONS,
            places=_PLACES,
            colors=figures.COLORS,
            dark_colors=COLORS_ON_DARK,
            bounds_version=BOUNDS_VERSION,
            version=version("marsrl"),
            ended=len(results.runs) - len(missing),
            diverged=[run for run in results.runs if run.status == "diverged"],
            missing=missing,
            unfinished=_unfinished(run for run in missing if run.task in begun),
            not_begun=[task for task in results.suite.tasks if task not in begun],
            rows=[row for row in summary.rows if row.task in ended],
            command=_command(results.suite),
            missing_tasks=_missing_tasks(results.suite, {run.task for run in missing}),
            left_out=[task for task in results.suite.tasks if task not in summary.complete],
            not_compared=[x for x in results.suite.objectives if x not in summary.objectives],
            no_factorial=_no_factorial(summary),
            programs=sorted({run.seeds_in_program for run in results.runs} - {0}),
            costs=spent,
            total_seconds=sum(sum(cost.seconds.values()) for cost in spent),
            origins=origins(results.runs),
            mixtures=mixtures(results.runs),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("marsrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("score", "number", "between", "with_interval", "count", "listed", "hours")
    words += ("contest_head", "effect_name", "mixture_line")
    environment.filters |= {name: getattr(wording, name) for name in words}
    environment.filters |= {
        "coverage_note": coverage_note,
        "themed": _themed,
        "dasharray": lambda dashes: " ".join(f"{2.4 * length:g}" for length in dashes),
        "svg": _svg,
        "duels": _duels,
        "having": _having,
        "seeds": _seeds,
    }
    return environment


def _svg(panel: Panel, name: str) -> Markup:
    """A panel as inline SVG in the page's colours, read out as its text."""
    text = figures.render(draw_panel(panel), "svg", transparent=True).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # ids must differ between the figures of a page
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    label = f'<svg role="img" aria-label="{escape(panel.text)}" '
    return Markup(_themed(text.replace("<svg ", label, 1)))


def _themed(text: str) -> str:
    """Colours of figures as those of the page, which follow light and dark."""
    for color, themed in _THEMED.items():
        text = text.replace(color, themed)
    return text


def _duels(contest: Contest) -> Iterator[tuple[str, Duel]]:
    if contest.overall is not None:
        yield "overall", contest.overall
        yield from contest.families.items()


def _having(factorials: Iterable[Factorial], effect: int, word: str) -> list[str]:
    """The families in which an effect goes this way."""
    return [x.name for x in factorials if x.effects[effect].word == word]


def _seeds(row: TaskRow, suite: Suite) -> str:
    """The seeds behind a row of the table of tasks."""
    text = wording.listed(row.ended)
    if len(row.ended) < len(suite.seeds):
        text += f" ({len(row.ended)} of {len(suite.seeds)})"
    return text + (f"; diverged: {wording.listed(row.diverged)}" if row.diverged else "")


def _unfinished(runs: Iterable[RunRecord]) -> dict[tuple[str, str, str, int], list[int]]:
    """The seeds of runs that share task, objective, status and step."""
    seeds: dict[tuple[str, str, str, int], list[int]] = {}
    for run in runs:
        seeds.setdefault((run.task, run.objective, run.status, run.step), []).append(run.seed)
    return seeds


def _command(suite: Suite) -> str:
    """What trains the suite; only one that does not come with marsrl must be in the store."""
    source = suite.name if is_builtin(suite) else "STORE/suite.toml"
    return f"marsrl bench run {source} --store STORE"


def _missing_tasks(suite: Suite, tasks: set[str]) -> str:
    """The option of the command that leaves out complete tasks; empty if there are none."""
    if len(tasks) == len(suite.tasks):
        return ""
    return f" --tasks {shlex.join(task for task in suite.tasks if task in tasks)}"


def _no_factorial(summary: Summary) -> str:
    if len(summary.cells) < 6:
        return (
            "The suite does not hold all six objectives of the 3 x 2 of geometries (clipped, "
            "quadratic, symmetric) and boundaries (additive, geometric)."
        )
    return "There is no task yet on which every seed of all six cells has ended."
