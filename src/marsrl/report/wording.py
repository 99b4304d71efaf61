"""Numbers and verdicts of a benchmark as text: every sentence of its page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from marsrl.bench.records import RunRecord
from marsrl.report.bootstrap import Estimate
from marsrl.report.curves import Efficiency
from marsrl.report.factorial import Effect, Factorial
from marsrl.report.grids import Endpoint
from marsrl.report.origins import Extension, Mixture
from marsrl.report.settings import Setting
from marsrl.report.verdict import FEWEST_SEEDS, Contest, Verdict, by_family

MISSING = "not measured"
SMALLEST_RATIO = 1e-8
"""Ratios are measured down to exp(-20) = 2e-9; below this it is the limit that was measured."""
ENDPOINTS: dict[Endpoint, str] = {
    "last": "the last parameters",
    "best": "the best evaluation's parameters, on new episodes",
    "area": "the mean of the evaluations over training",
}
PLACES: dict[Verdict, str] = {
    "exceeds": "Exceeds on",
    "matches": "Matches on",
    "behind": "Behind on",
    "not settled": "Not settled on",
}


# --- numbers --------------------------------------------------------------------------------------


def score(x: float | None) -> str:
    """A normalised score or a probability, three decimals."""
    return _signed(x, ".3f")


def difference(x: float | None) -> str:
    """A difference of scores, three decimals, with its sign."""
    text = _signed(x, ".3f")
    return f"+{text}" if x is not None and x > 0 and float(f"{x:.3f}") else text


def number(x: float | None) -> str:
    """A return, four significant digits."""
    return _signed(x, ".4g")


def small(x: float | None) -> str:
    """Something that spans orders of magnitude, two significant digits."""
    return _signed(x, ".2g")


def ratio(x: float | None) -> str:
    """A probability ratio; where it is the smallest that is measured, this is said."""
    return f"below {SMALLEST_RATIO:g}" if x is not None and x < SMALLEST_RATIO else number(x)


def between(estimate: Estimate, text: Callable[[float], str] = score) -> str:
    """The interval of scores or probabilities, or of what `text` writes."""
    return f"[{text(float(estimate.low))}, {text(float(estimate.high))}]"


def with_interval(estimate: Estimate) -> str:
    """A score or probability and its interval."""
    return f"{score(float(estimate.value))} {between(estimate)}"


def count(number: int, noun: str) -> str:
    """How many of something there are."""
    if number == 1:
        return f"{number:,} {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def listed(names: Iterable[object]) -> str:
    """Names with commas in between."""
    return ", ".join(map(str, names)) or "none"


def hours(seconds: float) -> str:
    """A duration in hours, or in minutes if it is short."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


# --- the answer -----------------------------------------------------------------------------------


def answer(contest: Contest, margin: float) -> tuple[str, str]:
    """The verdict on two objectives, and what it rests on: the difference with its interval."""
    target, other, overall = contest.target, contest.other, contest.overall
    if overall is None:
        return f"{target} against {other}: no task is complete for both.", ""
    head = {
        "exceeds": f"{target} exceeds {other}:",
        "matches": f"{target} matches {other} within {margin:g}:",
        "behind": f"{target} is behind {other}:",
        "not settled": f"{target} against {other} is not settled:",
    }[overall.verdict]
    families = len(by_family(overall.tasks))
    over = f" in {count(families, 'family')}" if families > 1 else ""
    low, value, high = (difference(float(x)) for x in sorted(overall.difference))
    interval = f", {_percent(overall.confidence)} interval {low} to {high}"
    return head, (
        f"its mean score is {value} apart{interval if overall.confidence else ''}, on "
        f"{count(len(overall.tasks), 'task')}{over}."
    )


def places(contest: Contest) -> list[str]:
    """Where the target exceeds, matches, is behind, or nothing is settled: families, then tasks."""
    lines = []
    if len(contest.families) > 1 and len(contest.families) < len(contest.tasks):
        found: dict[Verdict, tuple[str, ...]] = {x: contest.families_where(x) for x in PLACES}
        lines += [f"{PLACES[w]} the family {listed(x)}." for w, x in found.items() if len(x) == 1]
        lines += [f"{PLACES[w]} the families {listed(x)}." for w, x in found.items() if len(x) > 1]
    for word, text in PLACES.items():
        if tasks := contest.tasks_where(word):
            if len(tasks) == len(contest.tasks) and len(tasks) > 1:
                lines.append(f"{text} each of the {len(tasks)} tasks by itself.")
            else:
                lines.append(f"{text} {count(len(tasks), 'task')}: {listed(tasks)}.")
    return lines


def unjudged(target: str | None) -> str:
    """Why there is no verdict."""
    if target is not None:
        return f"The suite has {target} alone: nothing to compare it with."
    return (
        "A sweep: nothing is judged here, since whoever has more points would win by chance. What "
        "it shows is how the scores answer to the settings."
    )


def rules(margin: float, endpoint: Endpoint, fresh: float, contests: int) -> str:
    """How a score, and a verdict, comes about."""
    scores = f"Scores are of {endpoint_name(endpoint, fresh)}."
    if not contests:
        return scores
    return (
        f"{scores} A target exceeds another if its "
        f"advantage is settled to be above 0, matches it if it is settled to be above "
        f"{score(-margin)}, and is behind if it is settled to be below 0, each at 2.5 %. Overall "
        f"verdicts are corrected for {count(contests, 'contest')}, those of families and tasks for "
        "their number (Holm), so an interval may exclude 0 and nothing be settled."
    )


def seeds_note(seeds: int, confidence: float, judged: bool) -> str | None:
    """What so few seeds cannot say; None if they are enough for every interval.

    Args:
        seeds: how many.
        confidence: the highest that the runs of a task can settle it with.
        judged: whether there is a verdict on a task.
    """
    if seeds == 1:
        return (
            f"With one seed an interval is the point itself{', and nothing is settled' * judged}."
        )
    if confidence >= 0.95 or not judged:
        return None
    several = " Nor do they settle anything over several tasks." * (seeds < FEWEST_SEEDS)
    return (
        f"With {seeds} seeds no order of a single task's runs is rare enough to settle it: its "
        f"interval is the {_percent(confidence)} one, the widest that there is.{several}"
    )


def unmeasured_note(labels: Sequence[str]) -> str:
    """Who is not part of what was measured while training; empty if all are."""
    if not labels:
        return ""
    return (
        f"Left out where nothing was measured on a task, as of a method whose seeds all diverged "
        f"in their first update: {listed(labels)}."
    )


def endpoint_name(endpoint: Endpoint, fresh: float) -> str:
    """What scores are made of, in words.

    Args:
        endpoint: which.
        fresh: the share of runs whose last parameters were scored on episodes of their own.
    """
    if endpoint != "last":
        return ENDPOINTS[endpoint]
    if fresh == 1:
        return f"{ENDPOINTS[endpoint]}, on new episodes"
    if fresh == 0:
        return f"{ENDPOINTS[endpoint]}, in the last evaluation"
    return f"{ENDPOINTS[endpoint]}, on new episodes or, of some runs, in the last evaluation"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# --- where runs come from -------------------------------------------------------------------------


def identity(runs: Sequence[RunRecord]) -> str:
    """Of which source the runs are, in one sentence."""
    begun = [run for run in runs if run.machine]
    if not begun:
        return ""
    commits = {run.git["commit"][:12] for run in begun if run.git}
    dirty = sum(bool(run.git and run.git["dirty"]) for run in begun)
    installed = sum(run.git is None for run in begun)
    if not commits:
        return "All runs are of an installed package."
    text = f"Runs are of {_commits(sorted(commits))}"
    parts = [f"{dirty:,} of {len(begun):,} with changes that were not committed"] if dirty else []
    parts += [f"{installed:,} of an installed package"] if installed else []
    versions = {
        name
        for name in {name for run in begun for name in run.versions}
        if len({run.versions.get(name) for run in begun}) > 1
    }
    parts += [f"with several versions of {listed(sorted(versions))}"] if versions else []
    return f"{text}{', ' if parts else ''}{'; '.join(parts)}."


def _commits(names: list[str]) -> str:
    return f"the commit {names[0]}" if len(names) == 1 else f"{len(names)} commits"


def mixture_line(mixture: Mixture) -> str:
    """What the runs do not share, and where that is between objectives."""
    values = ", ".join(f"{value} ({count(n, 'run')})" for value, n in mixture.runs.items())
    if not mixture.tasks:
        return f"{mixture.name}: {values}; on each task all objectives share theirs"
    return f"{mixture.name}: {values}; objectives differ in it on {listed(mixture.tasks)}"


def extension_line(extension: Extension) -> str:
    """Which runs were trained further than they were to be."""
    first, *later = (f"{steps:,}" for steps in extension.steps)
    return (
        f"{extension.objective} on {extension.task} ({count(extension.runs, 'run')}): "
        f"first {first} steps, then up to {', then '.join(later)}"
    )


# --- settings -------------------------------------------------------------------------------------


def settings_caption(methods: int) -> str:
    """What the table of the settings of so many methods has."""
    if methods == 1:
        return "What the method is; all settings are listed at the end."
    return "What the methods are, and in what they differ; what they share is listed at the end."


def setting_value(setting: Setting, objective: str) -> str:
    """The value of one objective, or each of its values and where it has it."""
    tasks: dict[str, list[str]] = {}
    for task, value in setting.values.get(objective, {}).items():
        tasks.setdefault(_value(value), []).append(task)
    if len(tasks) <= 1:
        return next(iter(tasks), "not begun")
    known = by_family(task for found in tasks.values() for task in found)
    return "; ".join(f"{value} ({_where(found, known)})" for value, found in tasks.items())


def _where(tasks: list[str], families: dict[str, tuple[str, ...]]) -> str:
    """Tasks by the names of families that are among them whole."""
    names = {
        family if set(members) <= set(tasks) else task
        for family, members in families.items()
        for task in members
        if task in tasks
    }
    return listed(sorted(names))


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return listed(map(_value, value))
    if isinstance(value, dict):
        return listed(f"{key} {_value(x)}" for key, x in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return "default" if value is None else str(value)


# --- the scoreboard and its curves ----------------------------------------------------------------


def board(
    compared: Sequence[str], complete: Sequence[str], done: dict[str, int], tasks: Sequence[str]
) -> str:
    """Over which tasks aggregates are, and who is not part of them.

    Args:
        compared: the objectives of the scoreboard.
        complete: tasks that all of them have completed.
        done: how many tasks each objective of the suite has completed.
        tasks: of the suite.
    """
    text = f"Over {len(complete)} of {count(len(tasks), 'task')}"
    text += f": those on which every seed of {listed(compared)} has ended."
    if left := [task for task in tasks if task not in complete]:
        text += f" Left out: {listed(left)}."
    if others := [name for name in done if name not in compared]:
        them = listed(f"{name} ({count(done[name], 'task')} complete)" for name in others)
        text += f" Not part of it, since too few of its tasks are complete: {them}."
    return text


DIVERGED = (
    "A diverged run is never dropped: it counts as the lowest score of those it is compared with, "
    "or as the random policy's 0 if that is lower."
)


def efficiency_note(curves: dict[str, Efficiency], programs: Sequence[int], some_time: bool) -> str:
    """What the axes of the sample-efficiency curves are.

    Args:
        curves: of all tasks.
        programs: how many seeds programs had.
        some_time: whether the wall time of some tasks was measured.
    """
    steps, time = curves["steps"], curves.get("time")
    if steps.alike:
        text = f"Every task was given {steps.totals[0]:,.0f} environment steps. "
    else:
        text = (
            f"Budgets differ between tasks ({steps.totals.min():,.0f} to {steps.totals.max():,.0f} "
            "environment steps); where they do, the axis is the share of each task's own budget. "
        )
    text += (
        "The step size falls to 0 within each budget unless a setting says otherwise, so a curve "
        "is no short version of a longer training. "
    )
    if time is None:
        return f"{text}Wall time was not measured{' on every task' if some_time else ''}."
    share = (
        ""
        if time.alike
        else ", as a share of what the slowest compared run of each task took "
        f"({hours(time.totals.min())} to {hours(time.totals.max())})"
    )
    return (
        f"{text}Time is wall time{share}; a run that is over keeps its last score. It is the time "
        f"of a whole program with all of its seeds ({listed(programs)} per program), compilation "
        "included, on the machines named below, whatever else they did."
    )


def effects(factorials: Sequence[Factorial]) -> list[tuple[str, str]]:
    """What the factorial settles: the effect with its direction, and what that rests on.

    Interactions are left out unless they are settled. The last line is how they are.
    """
    lines = []
    overall, *families = factorials or (None,)
    for place, effect in enumerate(overall.effects if overall else ()):
        if effect.kind == "interaction" and effect.verdict not in ("higher", "lower"):
            continue
        text = f"Difference of IQMs {with_interval(effect.estimate)}."
        if overall and effect.kind != "interaction":
            text = f"On {count(len(overall.tasks), 'task')}, {text[0].lower()}{text[1:]}"
            for word in ("higher", "lower", "equal", "not settled"):
                names = [x.name for x in families if x.effects[place].verdict == word]
                text += f" {word.capitalize()} in {listed(names)}." if names else ""
        lines.append((f"{effect_name(effect)}: {effect.verdict}.", text))
    if overall:
        rule = (
            f"higher and lower each at 2.5 %, corrected for the {len(overall.effects)} effects, "
            "interactions among them, of all tasks or of a family (Holm), so an interval may "
            "exclude 0 and nothing be settled."
        )
        lines.append(("How an effect is settled:", rule))
    return lines


def effect_name(effect: Effect) -> str:
    """What an effect of the factorial compares."""
    first, second = effect.first, effect.second
    if effect.kind == "interaction":
        return f"interaction: the boundary's effect, {first} minus {second}"
    return f"{first} {effect.kind}, minus {second}"


def _signed(x: float | None, form: str) -> str:
    """With a minus sign that lines up with digits and never with a zero's sign."""
    if x is None or math.isnan(x):
        return MISSING
    text = format(x, form)
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")
