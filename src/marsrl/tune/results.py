"""The results of a search: the best settings as TOML, and a table of its trials."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from marsrl.bench.labels import base_of, settings_of
from marsrl.bench.locks import store_lock
from marsrl.bench.suite import Suite
from marsrl.envs.tasks import family_of
from marsrl.errors import UserError, shown
from marsrl.files import write_beside
from marsrl.presets import preset
from marsrl.reading import parse_toml
from marsrl.report.wording import count
from marsrl.toml import to_toml
from marsrl.tune.plan import TRIALS, Study, Tuning, slugs
from marsrl.tune.space import PROTOCOL, free, settings
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
        draw(trials, importances, folder)
        for name, text in best_files(tuning, trials).items():
            write_beside(folder / name, text.encode())
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
    files = slugs(study.name for study in tuning.studies)
    each = {f"best-{files[name]}.toml": text for name, text in texts.items()}
    return {BEST: texts[top]} | (each if several else {})


def check_best(tuning: Tuning) -> None:
    """Refuses a search of a suite that could not say what may be found, before anything starts.

    Raises:
        UserError: with what it could not say.
    """
    best_files(tuning, [_first(study) for study in tuning.studies])


def to_markdown(
    tuning: Tuning, trials: list[Trial], importances: Mapping[str, Mapping[str, float]]
) -> str:
    """A table for each study, the best trial first."""
    parts = [f"# Trials\n\n{describe(tuning)}"]
    for study in tuning.studies:
        mine = sorted((t for t in trials if t.study is study), key=_rank)
        names = list(dict.fromkeys(name for trial in mine for name in trial.settings))
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


def _first(study: Study) -> Trial:
    """A trial as if it had been: with the first of all that may be chosen."""
    chosen = {name: dim.ends()[0] for name, dim in free(study.dimensions).items()}
    values = settings(study.dimensions, chosen)
    return Trial(study, 0, "scored", 0.0, math.nan, 0.0, values, "")


def _run_text(tuning: Tuning, trial: Trial) -> str:
    """The settings of a task's best trial, as far as they are not its preset's."""
    config = dataclasses.replace(trial.study.configs[0], **trial.settings)
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
    """The suite with the best settings of each objective that has some; all others keep theirs."""
    before = Suite.from_dict(parse_toml(tuning.suite or ""))
    values = before.to_dict()
    tables = values.setdefault("objective", {})
    for trial in best.values():
        _keep_others(tables, before, trial.study, _found(tuning, trial))
    for trial in best.values():
        study, found = trial.study, _found(tuning, trial)
        table = tables.setdefault(study.objective, {})
        _clear(table, set(found), study)
        if study.family is not None:
            table = table.setdefault("family", {}).setdefault(study.family, {})
        table |= {name: value for name, value in found.items() if value is not None}
    values["chosen"] = _chosen(tuning, best, before)
    _check_trained(tuning, best, before, Suite.from_dict(values))
    return f"{_comment(tuning, list(best.values()))}{to_toml(values)}"


def _found(tuning: Tuning, trial: Trial) -> dict[str, Any]:
    """What a trial was trained with in place of its suite's, but for the measurement."""
    fixed = [name for name in tuning.fixed if name not in PROTOCOL]
    return {name: getattr(trial.study.configs[0], name) for name in fixed} | trial.settings


def _keep_others(tables: dict[str, Any], suite: Suite, study: Study, found: Iterable[str]) -> None:
    """Gives methods to which an objective's table applies too, `mars@eps=0.4`, what they have."""
    for other in suite.objectives:
        names = [name for name in found if name not in settings_of(other)]
        if base_of(other) == study.objective != other and names:
            tasks = tables.setdefault(other, {}).setdefault("task", {})
            for config in study.configs:
                has = suite.config(config.task, other).to_dict()
                kept = {name: has[name] for name in names if has[name] is not None}
                tasks[config.task] = tasks.get(config.task, {}) | kept


def _chosen(tuning: Tuning, best: Mapping[str, Trial], suite: Suite) -> str | dict[str, str]:
    """How the settings of each method were found; once, if that is the same of all."""
    words: dict[str, str] = {}
    for label in suite.objectives:
        studies = [study for study in tuning.studies if study.objective == label]
        lacking = [study.family or "" for study in studies if study.name not in best]
        words[label] = suite.chosen_of(label)
        if len(lacking) < len(studies):
            rest = f" Not of {', '.join(lacking)}: no trial has a score." if lacking else ""
            words[label] = f"marsrl tune: {describe(tuning)}{rest}"
    for label in words:
        if not words[label] and words.get(base_of(label)):  # whose words it would have
            words[label] = f"as in the suite {suite.name}"
    same = len(set(words.values())) == 1
    return words[suite.objectives[0]] if same else {x: text for x, text in words.items() if text}


def _check_trained(tuning: Tuning, best: dict[str, Trial], before: Suite, after: Suite) -> None:
    """Refuses a suite that would train what was not tried, or anything but what was tuned anew.

    Such are the settings that no suite can say: that something has no value, where it had one.
    """
    found = {
        (config.task, trial.study.objective): _found(tuning, trial)
        for trial in best.values()
        for config in trial.study.configs
    }
    for task, label in product(before.tasks, before.objectives):
        right = before.config(task, label).to_dict() | found.get((task, label), {})
        would = after.config(task, label).to_dict()
        for name, value in right.items():
            if would[name] != value:
                raise UserError(
                    f"{label} has {name} = {shown(value)} on {task}, but {BEST} could only have it "
                    f"with {name} = {shown(would[name])}; expected a value that its own "
                    f"table in the suite can say"
                )


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
