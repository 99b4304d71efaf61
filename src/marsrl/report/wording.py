"""Numbers and verdicts of a benchmark as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from marsrl.report.ablation import Effect
from marsrl.report.bootstrap import Estimate
from marsrl.report.origins import Mixture
from marsrl.report.verdict import Contest

MISSING = "not measured"


def score(x: float | None) -> str:
    """A normalised score or a probability, three decimals."""
    return _signed(x, ".3f")


def number(x: float | None) -> str:
    """A return, four significant digits."""
    return _signed(x, ".4g")


def between(estimate: Estimate) -> str:
    """The interval of scores or probabilities."""
    return f"[{score(float(estimate.low))}, {score(float(estimate.high))}]"


def with_interval(estimate: Estimate) -> str:
    """A score or probability and its interval."""
    return f"{score(float(estimate.value))} {between(estimate)}"


def count(number: int, noun: str) -> str:
    """How many of something there are."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Sequence[object], none: str = "none") -> str:
    """Names with commas in between."""
    return ", ".join(map(str, names)) or none


def hours(seconds: float) -> str:
    """A duration in hours, or in minutes if it is short."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def contest_head(contest: Contest) -> str:
    """The verdict on two objectives in a few words."""
    target, other, overall = contest.target, contest.other, contest.overall
    if overall is None:
        return f"{target} against {other}: no task is complete for both"
    if overall.word == "not settled":
        return f"{target} against {other}: not settled"
    return f"{target} {overall.word} {other}"


def mixture_line(mixture: Mixture) -> str:
    """What the runs do not share, and where that is between objectives."""
    values = ", ".join(f"{value} ({count(n, 'run')})" for value, n in mixture.runs.items())
    if not mixture.tasks:
        return f"{mixture.name}: {values}; on each task all objectives share theirs"
    return f"{mixture.name}: {values}; objectives differ in it on {listed(mixture.tasks)}"


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
