"""Results as the JSON of marl-eval, in both directions.

`env -> task -> algorithm -> run -> step_0, step_1, ... -> {step_count, return: [...]}`, and beside
the steps of a run `absolute_metrics: {return: [...]}`, the best parameters again on more episodes.
Here env is the family, the algorithm the objective, and a run `seed_0`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from marsrl.bench.results import Results, RunRecord
from marsrl.bench.rows import curve_table, episode_table
from marsrl.bench.suite import Suite
from marsrl.envs.tasks import TASKS
from marsrl.errors import UserError, near_misses
from marsrl.runlog import Row

_METRICS = ("return", "episode_return", "mean_episode_return")  # ours, and what others call it
_ABSOLUTE = "absolute_metrics"


def to_marl_eval(results: Results) -> dict[str, Any]:
    """The evaluation episodes of all runs that have ended; the others would have fewer steps.

    A diverged run has the evaluations from before it diverged.
    """
    ended = {
        (run.task, run.objective, run.seed)
        for run in results.runs
        if run.status in ("done", "diverged")
    }
    returns: dict[tuple[str, str, int], dict[tuple[str, int], list[float]]] = {}
    for row in results.episodes.to_pylist():
        key = (row["task"], row["objective"], row["seed"])
        if key in ended:
            of_run = returns.setdefault(key, {})
            of_run.setdefault((row["phase"], row["step"]), []).append(row["return"])
    data: dict[str, Any] = {}
    for (task, objective, seed), of_run in returns.items():
        env, _, name = task.partition("/")
        runs = data.setdefault(env, {}).setdefault(name, {}).setdefault(objective, {})
        runs[f"seed_{seed}"] = _run(of_run)
    return data


def from_marl_eval(data: dict[str, Any], name: str) -> Results:
    """Results as another program measured them; their bounds are those of our tasks.

    Tasks, objectives and seeds are what the data hold; a run that others have and one lacks is
    missing. The curves are means over episodes, without times and diagnostics.

    Args:
        data: as in the module's docstring; the metric may also be called episode_return or
            mean_episode_return.
        name: what the results' suite is called.

    Raises:
        UserError: another form, a task that is none of ours, or a return that is no finite number.
    """
    evaluations = list(_evaluations(data, ()))
    if not evaluations:
        raise UserError(f"{name} holds no evaluations in the form of marl-eval")
    heads = [head for head, _ in evaluations]
    tasks, objectives, seeds = (
        tuple(dict.fromkeys(head[key] for head in heads)) for key in ("task", "objective", "seed")
    )
    suite = Suite(name, tasks, objectives, tuple(sorted(seeds)))
    last: dict[tuple[str, str, int], int] = {}
    for head in heads:
        key = (head["task"], head["objective"], head["seed"])
        last[key] = max(last.get(key, 0), head["step"])
    runs = tuple(
        RunRecord(task, objective, "", seed, "done", last[task, objective, seed])
        if (task, objective, seed) in last
        else RunRecord(task, objective, "", seed, "missing")
        for task in suite.tasks
        for objective in suite.objectives
        for seed in suite.seeds
    )
    episodes = episode_table(
        head | {"episode": number, "return": value}
        for head, returns in evaluations
        for number, value in enumerate(returns)
    )
    curves = curve_table(
        head | {"return": sum(returns) / len(returns)}
        for head, returns in evaluations
        if head["phase"] == "eval"
    )
    return Results(suite, runs, episodes, curves)


def _run(of_run: dict[tuple[str, int], list[float]]) -> Row:
    """One run's evaluations, (phase, step) -> returns, as marl-eval has them."""
    steps = sorted(step for phase, step in of_run if phase == "eval")
    run: Row = {
        f"step_{number}": {"step_count": step, _METRICS[0]: of_run["eval", step]}
        for number, step in enumerate(steps)
    }
    for (phase, _), returns in of_run.items():
        if phase == "final":
            run[_ABSOLUTE] = {_METRICS[0]: returns}
    return run


def _evaluations(data: Any, where: tuple[str, ...]) -> Iterator[tuple[Row, list[float]]]:
    """The head of a row and the returns, for each evaluation of each run."""
    if not isinstance(data, dict):
        raise UserError(f"{'/'.join(where) or 'the file'} is {data!r}, expected an object")
    if len(where) < len(("env", "task", "algorithm", "run")):
        for name, inner in data.items():
            yield from _evaluations(inner, (*where, name))
        return
    env, name, objective, run = where
    task = f"{env}/{name}"
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}{near_misses(task, TASKS)}")
    number = re.search(r"\d+$", run)
    if not number:
        raise UserError(f"run {run!r} of {objective} on {task} has no number, expected seed_0")
    head = {"family": env, "task": task, "objective": objective, "run": "", "seed": int(number[0])}
    steps = [inner.get("step_count", 0) for inner in data.values() if isinstance(inner, dict)]
    for key, inner in data.items():
        final = key == _ABSOLUTE
        returns = _returns("/".join((*where, key)), inner)
        step = max(steps) if final else inner.get("step_count")
        if not isinstance(step, int):
            raise UserError(f"{'/'.join((*where, key))} has step_count {step!r}, expected a number")
        yield head | {"step": step, "phase": "final" if final else "eval"}, returns


def _returns(where: str, values: Any) -> list[float]:
    for metric in _METRICS:
        if isinstance(values, dict) and metric in values:
            returns = values[metric]
            if returns and all(isinstance(x, int | float) and math.isfinite(x) for x in returns):
                return [float(x) for x in returns]
            raise UserError(f"{where}/{metric} is {returns!r}, expected a list of finite numbers")
    raise UserError(f"{where} has none of {', '.join(_METRICS)}")
