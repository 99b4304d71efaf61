"""A benchmark as one HTML page that needs nothing but itself, and its figures as files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from marsrl.bench.records import RunRecord
from marsrl.bench.suite import Suite, is_builtin
from marsrl.envs.tasks import BOUNDS_VERSION
from marsrl.files import write_beside
from marsrl.report import figures, wording
from marsrl.report.benchmark_figures import Panel, Plot, draw_panel, draw_plot, make_plots
from marsrl.report.origins import costs, extensions, mixtures, origins
from marsrl.report.permutation import attainable
from marsrl.report.settings import Setting
from marsrl.report.stats import coverage_note
from marsrl.report.styles import COLORS_ON_DARK
from marsrl.report.summary import Summary, TaskRow
from marsrl.report.verdict import Contest, Duel

_SECTIONS = {
    "verdict": "Verdict",
    "response": "Score and trust region",
    "heat": "Tasks and methods",
    "scores": "Scores",
    "profile": "Performance profile",
    "efficiency": "Sample efficiency",
    "curves": "Learning curves",
    "factorial": "Geometry and boundary",
    "diagnostics": "During training",
    "tasks": "Returns",
    "runs": "Diverged and missing runs",
    "origins": "Settings, machines, versions, hours",
}
_THEMED = {figures.INK: "currentColor", figures.GRID: "var(--rule)", figures.SPINE: "var(--edge)"}
_THEMED |= {color: f"var(--c{i})" for i, color in enumerate(figures.COLORS)}
_TOTALS = {
    "update_kl": "KL of an update",
    "approx_kl": "KL over minibatches",
    "entropy": "entropy",
    "gradient/dead": "dead gradients",
    "gradient/corrective": "corrective outside",
    "gradient/low": "gradient, ratios below 0.5",
    "gradient/high": "gradient, ratios above 2",
    "ratio/collapsed": "collapsed ratios",
    "ratio/min": "smallest ratio",
    "ratio/max": "largest ratio",
}


class Cell(NamedTuple):
    """One objective on one task in the map of scores.

    Attributes:
        text: the score, or what there is instead.
        share: of the color, in percent.
        whole: whether every seed has ended.
    """

    text: str
    share: int
    whole: bool


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
    results, suite = summary.results, summary.results.suite
    missing = [run for run in results.runs if run.status not in ("done", "diverged")]
    begun = {run.task for run in results.runs if run.status != "missing"}
    ended = {row.task for row in summary.rows if row.ended}
    spent = costs(results.runs)
    judged = any(contest.tasks for contest in summary.contests)
    context = {
        "s": summary,
        "suite": suite,
        "plots": plots,
        "sections": _sections(summary, plots),
        "colors": figures.COLORS,
        "dark_colors": COLORS_ON_DARK,
        "bounds_version": BOUNDS_VERSION,
        "version": version("marsrl"),
        "ended": len(results.runs) - len(missing),
        "identity": wording.identity(results.runs),
        "unjudged": wording.unjudged(summary.target),
        "rules": wording.rules(
            summary.margin, summary.endpoint, summary.fresh, len(summary.contests)
        ),
        "seeds_note": wording.seeds_note(
            len(suite.seeds),
            attainable(len(suite.seeds)),
            judged,
        ),
        "judged": judged,
        "settings_caption": wording.settings_caption(len(suite.objectives)),
        "chosen": suite.chosen if isinstance(suite.chosen, str) else "",
        "settings": _settings(summary, differs=True),
        "shared": _settings(summary, differs=False),
        "board": _board(summary) if summary.groups else "",
        "diverged_rule": wording.DIVERGED if summary.any_diverged else "",
        "efficiency_note": _efficiency_note(summary, plots),
        "totals": _totals(summary),
        "unmeasured_note": wording.unmeasured_note(_unmeasured(summary, plots)),
        "heat": _heat(summary, ended),
        "diverged": [run for run in results.runs if run.status == "diverged"],
        "missing": missing,
        "unfinished": _unfinished(run for run in missing if run.task in begun),
        "not_begun": [task for task in suite.tasks if task not in begun],
        "rows": [row for row in summary.rows if row.task in ended],
        "command": _command(suite),
        "missing_tasks": _missing_tasks(suite, {run.task for run in missing}),
        "effects": wording.effects(summary.factorial),
        "interactions": _interactions(summary),
        "costs": spent,
        "total_seconds": sum(sum(cost.seconds.values()) for cost in spent),
        "origins": origins(results.runs),
        "mixtures": mixtures(results.runs),
        "extensions": extensions(results.runs),
    }
    return _environment().get_template("page.html.j2").render(context)


def _sections(summary: Summary, plots: dict[str, Plot]) -> dict[str, str]:
    """The id and title of each section that has something to show."""
    there = {
        "response": "response-eps" in plots or "response-kl" in plots,
        "heat": any(row.ended for row in summary.rows),
        "scores": bool(summary.groups),
        "profile": "profile" in plots,
        "efficiency": "efficiency-steps" in plots,
        "curves": "curves" in plots,
        "factorial": bool(summary.factorial),
        "diagnostics": "diagnostics" in plots,
        "tasks": any(row.ended for row in summary.rows),
    }
    return {name: title for name, title in _SECTIONS.items() if there.get(name, True)}


def _settings(summary: Summary, differs: bool) -> list[tuple[str, list[str]]]:
    """The rows of the settings in which objectives differ, or do not."""
    names = summary.results.suite.objectives
    if not differs:
        return [
            (x.name, [wording.setting_value(x, name) for name in names[:1]])
            for x in _with_values(summary)
            if not x.differs and x.name != "objective"
        ]
    shown = [x for x in summary.settings if x.differs or x.name == "eps"]
    rows = [(x.name, [wording.setting_value(x, name) for name in names]) for x in shown]
    if isinstance(chosen := summary.results.suite.chosen, dict):  # or it stands above the table
        found = [summary.results.suite.chosen_of(name) for name in names]
        rows += [("how chosen", [text or "not said" for text in found])] if chosen else []
    return rows


def _with_values(summary: Summary) -> list[Setting]:
    """Settings with the values of the first objective, or of those that have begun a task."""
    return [
        x._replace(
            values={
                summary.results.suite.objectives[0]: {
                    task: value for of in x.values.values() for task, value in of.items()
                }
            }
        )
        for x in summary.settings
    ]


def _board(summary: Summary) -> str:
    suite = summary.results.suite
    ended: dict[str, int] = dict.fromkeys(suite.objectives, 0)
    for row in summary.rows:
        ended[row.objective] += len(row.ended) == len(suite.seeds)
    return wording.board(summary.objectives, summary.complete, ended, suite.tasks)


def _efficiency_note(summary: Summary, plots: dict[str, Plot]) -> str:
    if not summary.groups or "steps" not in summary.groups[0].efficiency:
        return ""  # of results without curves
    programs = sorted({run.seeds_in_program for run in summary.results.runs} - {0})
    curves = summary.groups[0].efficiency
    return wording.efficiency_note(curves, programs, "efficiency-time" in plots)


def _unmeasured(summary: Summary, plots: dict[str, Plot]) -> list[str]:
    """The labels that are not in each panel of their divergence, if there is one."""
    found = {label for x in summary.responses for label in x.unmeasured}
    return [name for name in summary.objectives if name in found and "response-kl" in plots]


def _totals(summary: Summary) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The heads and rows of what was measured over all of training."""
    found = summary.diagnostics
    if found is None:
        return [], []
    names = [name for name in _TOTALS if np.isfinite(found.total[name]).any()]
    text = {"ratio/min": wording.ratio, "ratio/max": wording.ratio}
    rows = [
        (objective, [text.get(name, wording.small)(found.total[name][i]) for name in names])
        for i, objective in enumerate(summary.objectives)
    ]
    return [_TOTALS[name] for name in names], rows


def _heat(summary: Summary, ended: set[str]) -> list[tuple[str, list[Cell]]]:
    """The map of scores: a row for each task of which a run has ended."""
    seeds = len(summary.results.suite.seeds)
    rows: dict[str, list[Cell]] = {}
    for row in summary.rows:
        if row.task in ended:
            whole = len(row.ended) == seeds
            text = wording.score(row.score) if row.ended else "missing"
            if row.ended and not whole:
                text += f" ({len(row.ended)} of {seeds})"
            share = round(70 * min(max(row.score or 0.0, 0.0), 1.0))
            rows.setdefault(row.task, []).append(Cell(text, share, whole))
    return list(rows.items())


def _interactions(summary: Summary) -> bool:
    """Whether a settled interaction makes averages of the factorial ones over unlike cells."""
    effects = summary.factorial[0].effects if summary.factorial else ()
    return any(x.kind == "interaction" and x.verdict in ("higher", "lower") for x in effects)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("marsrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("score", "difference", "number", "between", "with_interval", "count", "listed")
    words += ("hours", "answer", "places", "effect_name", "mixture_line", "extension_line")
    environment.filters |= {name: getattr(wording, name) for name in words}
    environment.filters |= {
        "coverage_note": coverage_note,
        "themed": _themed,
        "dasharray": lambda dashes: " ".join(f"{2.4 * length:g}" for length in dashes),
        "svg": _svg,
        "duels": _duels,
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
        yield from contest.families.items() if len(contest.families) > 1 else ()


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
