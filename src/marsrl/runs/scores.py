"""Which checkpoint is meant: the best of a seed, the latest, those that are kept."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

from marsrl.errors import UserError, shown
from marsrl.reading import whole_number

Scores = dict[int, dict[int, float]]
"""Update -> seed -> evaluation return, of the checkpoints that were evaluated; ascending."""


def best_update(scores: Scores, seed: int) -> int | None:
    """The update of a seed's best evaluation, of equally good ones the newest; None if it has none.

    An evaluation that is not finite counts as the worst.
    """
    known = [update for update, of_seeds in scores.items() if seed in of_seeds]
    return max(known, key=lambda update: (scores[update][seed], update), default=None)


def best_seed(scores: Scores, seeds: Sequence[int]) -> int:
    """The seed whose best evaluation is the best of all, of equally good ones the first."""

    def score(seed: int) -> float:
        update = best_update(scores, seed)
        return -math.inf if update is None else scores[update][seed]

    return max(seeds, key=score)


def kept_updates(scores: Scores, keep: int) -> set[int]:
    """Which of these checkpoints are kept: the newest, and the best of each seed."""
    seeds = {seed for of_seeds in scores.values() for seed in of_seeds}
    best = {best_update(scores, seed) for seed in seeds}
    return {*sorted(scores)[-keep:], *(update for update in best if update is not None)}


def named_update(
    name: str,
    scores: Scores,
    saved: Sequence[int],
    seed: int,
    steps_per_update: int,
    run: Path,
) -> int:
    """The update that `best`, `latest` or a number of environment steps means.

    Args:
        name: one of these; the number also as `1e6` or `1_000_000`.
        scores: of the checkpoints that were evaluated.
        saved: updates that have a checkpoint, ascending; at least one.
        seed: whose best it is.
        steps_per_update: environment steps.
        run: for the message.

    Raises:
        UserError: there is no such checkpoint.
    """
    steps = {str(update * steps_per_update): update for update in saved}
    named = {"best": best_update(scores, seed), "latest": saved[-1], **steps}
    digits = name
    with contextlib.suppress(ValueError):
        digits = str(whole_number(name))
    if (update := named.get(digits)) is None:
        raise UserError(
            f"{run} has no checkpoint {shown(name)} of seed {seed}; expected "
            f"{', '.join(known for known, update in named.items() if update is not None)}"
        )
    return update
