"""The trials of a search, with what they came to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from marsrl.tune.plan import Study, Tuning
from marsrl.tune.scores import WORST, measure
from marsrl.tune.studies import Studies, chosen_for, failure_of


class Trial(NamedTuple):
    """A trial that counts: one that has ended, or trains.

    Attributes:
        study: of the trial.
        number: in its study.
        state: scored, pruned, failed or running.
        score: what it came to; of a pruned one until then; NaN if nothing yet.
        kl: mean divergence of an update, over its tasks; NaN if not measured.
        seconds: that its runs took.
        settings: that were chosen for it, or as they are; without those in which its tasks differ.
        reason: why it has no score.
    """

    study: Study
    number: int
    state: str
    score: float
    kl: float
    seconds: float
    settings: dict[str, Any]
    reason: str


def read_trials(tuning: Tuning, studies: Studies) -> list[Trial]:
    """All trials of a search, in the order of studies and numbers; those tried again, once."""
    return [
        _trial(studies, study, trial)
        for study in tuning.studies
        for trial in studies.trials(study)
        if trial.state.name in _STATES
    ]


def best_of(trials: Iterable[Trial], study: Study) -> Trial | None:
    """The trial of a study with the highest score, the first of equals; None if none has one."""
    scored = [t for t in trials if t.study is study and t.state == "scored" and t.score > WORST]
    return max(scored, key=lambda t: t.score, default=None)


_STATES = {"COMPLETE": "scored", "PRUNED": "pruned", "RUNNING": "running"}


def _trial(studies: Studies, study: Study, trial: Any) -> Trial:
    state, reason = _STATES[trial.state.name], failure_of(trial)
    jobs = studies.jobs(study, trial)
    measured = [measure(j.folder, j.config, b) for j, b in zip(jobs, study.bounds, strict=False)]
    kls = [m.kl for m in measured if math.isfinite(m.kl)]
    return Trial(
        study,
        trial.number,
        "failed" if reason else state,
        math.nan if trial.value is None else trial.value,
        sum(kls) / len(kls) if kls else math.nan,
        sum(m.seconds for m in measured),
        study.trial_settings(chosen_for(trial)) if jobs else dict(trial.params),
        reason,
    )
