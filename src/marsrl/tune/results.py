"""The results of a search: the best settings as TOML, and a table of its trials."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marsrl.bench.locks import store_lock
from marsrl.envs.tasks import family_of
from marsrl.files import write_beside
from marsrl.presets import preset
from marsrl.reading import parse_toml
from marsrl.report.wording import count
from marsrl.toml import to_toml
from marsrl.tune.plan import TRIALS, Study, Tuning
from marsrl.tune.space import PROTOCOL, free
from marsrl.tune.studies import Studies
from marsrl.tune.trials import Trial, best_of, read_trials

BEST = "best.toml"


def write_results(tuning: Tuning, folder: Path, studies: Studies) -> list[Trial]:
    """Writes table and best settings of what there is, and draws it.

    Returns:
        The trials.
    """
    from marsrl.tune.figures import draw

    trials = read_trials(tuning, studies)
    importances = {study.name: studies.importances(study) for study in tuning.studies}
    with store_lock(folder / TRIALS):  # several processes may end at once
        write_beside(folder / "trials.md", to_markdown(tuning, trials, importances).encode())
        write_beside(folder / "trials.csv", to_csv(tuning, trials).encode())
        for name, text in best_files(tuning, trials).items():
            write_beside(folder / name, text.encode())
        draw(trials, importances, folder)
    return trials


def best_files(tuning: Tuning, trials: list[Trial]) -> dict[str, str]:
    """Name -> text of the files with the best settings; none if no trial has a score.

    Of a task by itself `best.toml` has the settings of one run, which `marsrl train --config`
    reads, with the best objective; several objectives have a file each besides. Of a suite it is
    the suite with a table for each objective.
    """
    best = {study.name: trial for study in tuning.studies if (trial := best_of(trials, study))}
    if not best:
        return {}
    if tuning.suite is not None:
        return {BEST: _suite_text(tuning, best)}
    texts = {name: _run_text(tuning, trial) for name, trial in best.items()}
    top = max(best, key=lambda name: best[name].score)
    several = len(tuning.studies) > 1
    each = {f"best-{name.replace('/', '-')}.toml": text for name, text in texts.items()}
    return {BEST: texts[top]} | (each if several else {})


def to_markdown(
    tuning: Tuning, trials: list[Trial], importances: Mapping[str, Mapping[str, float]]
) -> str:
    """A table for each study, the best trial first."""
    parts = [f"# Trials\n\n{describe(tuning)}"]
    for study in tuning.studies:
        mine = sorted((t for t in trials if t.study is study), key=_rank)
        names = list(mine[0].settings) if mine else []
        head = ["trial", "score", "KL x 10^4", "minutes", *names, ""]
        lines = [f"## {study.name}", "", _row(head), _row(["---"] * len(head))]
        lines += [_row(_cells(trial, names)) for trial in mine]
        shares = ", ".join(f"{k} {v:.0%}" for k, v in importances.get(study.name, {}).items())
        parts.append("\n".join(lines) + (f"\n\nImportance: {shares}" if shares else ""))
    return "\n\n".join(parts) + "\n"


def describe(tuning: Tuning) -> str:
    """What was searched, in a sentence."""
    first = tuning.studies[0]
    tasks = list(dict.fromkeys(config.task for s in tuning.studies for config in s.configs))
    where = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    scores = "return" if first.bounds[0] is None else "normalised score"
    kinds = {"last": "last evaluation", "auc": "mean of the evaluations", "best": "best evaluation"}
    seeds = ", ".join(map(str, first.configs[0].seeds))
    trials = count(tuning.goal(first), "trial")
    return (
        f"{trials} of each study ({tuning.sampler}, pruning: {tuning.pruner}) "
        f"on {where}; score: {scores} of the {kinds[tuning.score]}, mean over the tuning seeds "
        f"{seeds}."
    )


def to_csv(tuning: Tuning, trials: list[Trial]) -> str:
    """All trials with full precision, a row each."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "trial", "state", "score", "kl", "seconds", *names, "reason"])
    for t in trials:
        values = [t.settings.get(name, "") for name in names]
        row = [t.study.name, t.number, t.state, t.score, t.kl, t.seconds, *values, t.reason]
        writer.writerow(["" if isinstance(x, float) and math.isnan(x) else x for x in row])
    return text.getvalue()


def _rank(trial: Trial) -> tuple[int, float]:
    """Scored ones first, the best before the others."""
    order = ("scored", "running", "pruned", "failed")
    return order.index(trial.state), -trial.score if math.isfinite(trial.score) else math.inf


def _cells(trial: Trial, names: list[str]) -> list[str]:
    score = f"{trial.score:.4g}" if math.isfinite(trial.score) else "worst"
    return [
        str(trial.number),
        "" if math.isnan(trial.score) else score,
        f"{trial.kl * 1e4:.3g}" if math.isfinite(trial.kl) else "",
        f"{trial.seconds / 60:.1f}",
        *(_short(trial.settings.get(name, "")) for name in names),
        "" if trial.state == "scored" else trial.reason.replace("|", "/") or trial.state,
    ]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _run_text(tuning: Tuning, trial: Trial) -> str:
    """The settings of a task's best trial, as far as they are not its preset's."""
    config = trial.study.trial_configs(
        {k: trial.settings[k] for k in free(trial.study.dimensions)}
    )[0]
    usual = preset(config.task).to_dict()
    values = {
        name: value
        for name, value in config.to_dict().items()
        if name != "seeds"
        and value is not None  # TOML has no such value
        and (value != usual[name] or name in trial.settings)
    }
    first = {"task": config.task, "objective": config.objective}
    return f"{_comment(tuning, [trial])}{to_toml(first | values)}"


def _suite_text(tuning: Tuning, best: dict[str, Trial]) -> str:
    """The suite with the best settings of each objective."""
    values = parse_toml(tuning.suite or "")
    tables = values.setdefault("objective", {})
    for trial in best.values():
        study = trial.study
        fixed = [name for name in tuning.fixed if name not in PROTOCOL]
        own = {name: getattr(study.configs[0], name) for name in fixed}
        own = {name: value for name, value in own.items() if value is not None} | trial.settings
        table = tables.setdefault(study.objective, {})
        _clear(table, {*fixed, *trial.settings}, study)
        if study.family is not None:
            table = table.setdefault("family", {}).setdefault(study.family, {})
        table |= own
    values["chosen"] = f"marsrl tune: {describe(tuning)}"
    return f"{_comment(tuning, list(best.values()))}{to_toml(values)}"


def _clear(table: dict[str, Any], names: set[str], study: Study) -> None:
    """Takes these settings out of an objective's inner tables: they would lie over what was found.

    Trials had the same values on every task of the study, whatever the suite gives to some.
    """
    tasks = {config.task for config in study.configs}
    within = {"family": {family_of(task) for task in tasks}, "task": tasks}
    for kind, of_study in within.items():
        inner = {
            key: {k: v for k, v in settings.items() if key not in of_study or k not in names}
            for key, settings in table.pop(kind, {}).items()
        }
        if inner := {key: settings for key, settings in inner.items() if settings}:
            table[kind] = inner


def _comment(tuning: Tuning, best: list[Trial]) -> str:
    lines = [f"Found by marsrl tune. {describe(tuning)}"]
    lines += [f"{t.study.name}: trial {t.number}, score {t.score:.4g}" for t in best]
    return "".join(f"# {line}\n" for line in lines)
