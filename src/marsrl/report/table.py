"""A comparison as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from marsrl.report.scores import MEANS, MEASURES, Comparison, Row, Score
from marsrl.report.stats import coverage_note


def to_json(comparison: Comparison) -> str:
    """Every number of the comparison, null where one is missing, and the notes on them."""
    content = {
        **comparison._asdict(),
        "notes": _notes(comparison),
        "rows": [
            {**row._asdict(), "scores": {key: x._asdict() for key, x in row.scores.items()}}
            for row in comparison.rows
        ],
    }
    return json.dumps(_with_null(content), indent=2, allow_nan=False) + "\n"


def to_markdown(comparison: Comparison) -> str:
    """The tables: scores, values per seed, probability of improvement, diagnostics, notes."""
    names = ", ".join(row.objective for row in comparison.rows)
    seeds = ", ".join(map(str, comparison.seeds))
    parts = [
        f"# {comparison.task}: {names}",
        f"Seeds {seeds}; {comparison.total_steps:,} environment steps per seed. "
        "Return: mean over seeds [95 % bootstrap interval].",
        _scores(comparison),
        "## Values per seed",
        _per_seed(comparison),
        f"## Probability that {comparison.rows[0].objective} scores higher",
        _improvement(comparison),
        "## Failure modes",
        _diagnostics(comparison),
        "## Notes",
        "\n".join(f"- {note}" for note in _notes(comparison)),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(comparison: Comparison) -> str:
    return _table(
        ["objective", "seeds", "diverged", *MEASURES.values()],
        (
            [
                row.objective,
                str(len(comparison.seeds)),
                str(len(row.diverged)),
                *(_interval(row.scores[measure]) for measure in MEASURES),
            ]
            for row in comparison.rows
        ),
    )


def _per_seed(comparison: Comparison) -> str:
    def cells(row: Row, measure: str) -> list[str]:
        scores = zip(comparison.seeds, row.scores[measure].per_seed, strict=True)
        return [_number(x) + (" (diverged)" if s in row.diverged else "") for s, x in scores]

    return _table(
        ["objective", "measure", *(f"seed {seed}" for seed in comparison.seeds)],
        (
            [row.objective, name, *cells(row, measure)]
            for row in comparison.rows
            for measure, name in MEASURES.items()
        ),
    )


def _improvement(comparison: Comparison) -> str:
    return _table(
        ["than", *MEASURES.values()],
        (
            [row.objective, *(_number(row.beaten_by_first[measure]) for measure in MEASURES)]
            for row in comparison.rows[1:]
        ),
    )


def _diagnostics(comparison: Comparison) -> str:
    return _table(
        ["objective", *(f"{key}, mean" for key in MEANS), "smallest ratio", "largest ratio"],
        (
            [row.objective, *(_number(x) for x in row.diagnostics.values())]
            for row in comparison.rows
        ),
    )


def _notes(comparison: Comparison) -> list[str]:
    notes = [
        "Training return: mean over the last tenth of training of the logged episode returns. "
        "Final score: the best evaluation's parameters on new episodes.",
        "Probability that one scores higher: over all pairs of seeds, P(X > Y) + P(X = Y) / 2.",
        "Failure modes: mean over training (up to its divergence, if a seed diverged), then over "
        "seeds; rows without a sample outside the trust region have no gradient/corrective and "
        "are skipped.",
    ]
    if note := coverage_note(len(comparison.seeds)):
        notes.append(note)
    if any(row.diverged for row in comparison.rows):
        notes.append(
            "A diverged seed is never dropped: it counts as the lowest return of all, at any step "
            f"of any run (training {_number(comparison.lowest_training)}, evaluation "
            f"{_number(comparison.lowest_evaluation)})."
        )
    notes += [
        f"{row.objective}: seed {seed} diverged at step {step:,}."
        for row in comparison.rows
        for seed, step in row.diverged.items()
    ]
    notes += [
        f"Not the same in all runs: {setting} = {', '.join(map(str, values))}."
        for setting, values in comparison.differing.items()
    ]
    return notes


def _interval(score: Score) -> str:
    """A mean and the ends of its interval."""
    if math.isnan(score.mean):
        return _number(score.mean)
    return f"{_number(score.mean)} [{_number(score.low)}, {_number(score.high)}]"


def _number(x: float) -> str:
    """Four significant digits, or what says that there is no number."""
    return "not measured" if math.isnan(x) else f"{x:.4g}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _with_null(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _with_null(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(x) for x in value]
    return None if isinstance(value, float) and math.isnan(value) else value
