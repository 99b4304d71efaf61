"""Results as the JSON of marl-eval, in both directions.

`env -> task -> algorithm -> run -> step_0, step_1, ... -> {step_count, return: [...]}`, and beside
the steps of a run `absolute_metrics: {return: [...]}`, the best parameters again on more episodes.
Here env is the family, the algorithm the objective, and a run `seed_0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Any

from marsrl.bench.records import Results, RunRecord
from marsrl.bench.rows import curve_table, episode_table
from marsrl.bench.suite import Suite
from marsrl.bench.tables import LARGEST, MAX_STEP
from marsrl.envs.tasks import TASKS, family_of
from marsrl.errors import UserError, check_int, near_misses, shown
from marsrl.runs.records import Row

_METRICS = ("return", "episode_return", "mean_episode_return")  # ours, and what others call it
_ABSOLUTE = "absolute_metrics"
_SEED_DIGITS = 15
_Returns = dict[tuple[str, int], list[float]]  # of one run, by phase and step


def to_marl_eval(results: Results) -> dict[str, Any]:
    """The evaluation episodes of all runs that have ended; the others would have fewer steps.

    A diverged run has the evaluations from before it diverged. The others, and its absolute
    metrics, are the lowest mean return of the task, or the random policy's if that is lower.
    """
    of_tasks: dict[str, dict[tuple[str, int], _Returns]] = {}
    for run in results.runs:
        if run.status in ("done", "diverged"):
            of_tasks.setdefault(run.task, {})[run.objective, run.seed] = {}
    for row in results.episodes.to_pylist():
        of_run = of_tasks.get(row["task"], {}).get((row["objective"], row["seed"]))
        if of_run is not None:
            of_run.setdefault((row["phase"], row["step"]), []).append(row["return"])
    data: dict[str, Any] = {}
    for run in results.runs:
        of_task = of_tasks.get(run.task, {})
        of_run = of_task.get((run.objective, run.seed), {})
        if run.status == "diverged":
            of_run = _with_lowest(of_run, of_task.values(), results.suite.bounds_of(run.task).low)
        if of_run:
            env = family_of(run.task)
            name = run.task.removeprefix(env)[1:] or run.task
            runs = data.setdefault(env, {}).setdefault(name, {}).setdefault(run.objective, {})
            runs[f"seed_{run.seed}"] = _run(of_run)
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
        UserError: another form, a task that is none of ours, a return that is no finite number, or
            runs of a task that end at different steps.
    """
    evaluations = list(_evaluations(data, ()))
    if not evaluations:
        raise UserError(f"{name} holds no evaluations in the form of marl-eval")
    heads = [head for head, _ in evaluations]
    tasks, objectives, seeds = (
        tuple(dict.fromkeys(head[key] for head in heads)) for key in ("task", "objective", "seed")
    )
    values = {"tasks": tasks, "objectives": objectives, "seeds": tuple(sorted(seeds))}
    suite = Suite.from_dict({"name": name} | values)
    last: dict[tuple[str, str, int], int] = {}
    for head in heads:
        key = (head["task"], head["objective"], head["seed"])
        last[key] = max(last.get(key, 0), head["step"])
    _check_budgets(last)
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
        head | {"return": fmean(returns)}
        for head, returns in evaluations
        if head["phase"] == "eval"
    )
    return Results(suite, runs, episodes, curves)


def _run(of_run: _Returns) -> Row:
    """One run's evaluations as marl-eval has them."""
    steps = sorted(step for phase, step in of_run if phase == "eval")
    run: Row = {
        f"step_{number}": {"step_count": step, _METRICS[0]: of_run["eval", step]}
        for number, step in enumerate(steps)
    }
    for (phase, _), returns in of_run.items():
        if phase == "final":
            run[_ABSOLUTE] = {_METRICS[0]: returns}
    return run


def _with_lowest(of_run: _Returns, of_task: Iterable[_Returns], low: float) -> _Returns:
    """A diverged run's evaluations, and what it counts as at the task's later ones."""
    known = [item for returns in of_task for item in returns.items()]
    steps = {step for (phase, step), _ in known if phase == "eval"}
    lowest = min([low, *(fmean(returns) for _, returns in known)])
    places = [*(("eval", step) for step in sorted(steps)), ("final", max(steps, default=0))]
    before = {key: returns for key, returns in of_run.items() if key[0] == "eval"}
    return {place: [lowest] for place in places} | before


def _check_budgets(last: dict[tuple[str, str, int], int]) -> None:
    """Refuses runs of a task that end at different steps."""
    first: dict[str, tuple[str, int, int]] = {}
    for (task, objective, seed), step in last.items():
        other, number, budget = first.setdefault(task, (objective, seed, step))
        if step != budget:
            raise UserError(
                f"seed {seed} of {objective} on {task} ends at step {step}, seed {number} of "
                f"{other} at step {budget}; runs of a task must have the same budget"
            )


def _evaluations(data: Any, where: tuple[str, ...]) -> Iterator[tuple[Row, list[float]]]:
    """The head of a row and the returns, for each evaluation of each run."""
    items = _object(where, data).items()
    if len(where) < len(("env", "task", "algorithm")):
        for name, inner in items:
            yield from _evaluations(inner, (*where, name))
        return
    env, name, objective = where
    task = f"{env}/{name}"
    if task not in TASKS:
        raise UserError(f"unknown task {shown(task)}{near_misses(task, TASKS)}")
    names: dict[int, str] = {}
    for run, inner in items:
        number = re.search(r"[0-9]+$", run)
        if not number or len(number[0]) > _SEED_DIGITS:
            raise UserError(
                f"run {shown(run)} of {objective} on {task} has no number of 1 to {_SEED_DIGITS} "
                "digits, expected seed_0"
            )
        seed = int(number[0])
        if (other := names.setdefault(seed, run)) != run:
            raise UserError(
                f"runs {shown(other)} and {shown(run)} of {objective} on {task} are both seed "
                f"{seed}, expected one run for each"
            )
        head = {"family": env, "task": task, "objective": objective, "run": "", "seed": seed}
        for phase, step, returns in _of_run((*where, run), inner):
            yield head | {"step": step, "phase": phase}, returns


def _of_run(where: tuple[str, ...], data: Any) -> Iterator[tuple[str, int, list[float]]]:
    """Phase, step and returns of each evaluation of a run; the absolute ones are at its end."""
    last, keys = 0, {}
    for key, inner in _object(where, data).items():
        if key != _ABSOLUTE:
            returns, step = _returns((*where, key), inner), inner.get("step_count")
            check_int("/".join((*where, key, "step_count")), step, 0, MAX_STEP)
            if (other := keys.setdefault(step, key)) != key:
                text = f"{other} and {key} of {'/'.join(where)} are both at step {step}"
                raise UserError(f"{text}, expected one evaluation for each")
            last = max(last, step)
            yield "eval", step, returns
    if _ABSOLUTE in data:
        yield "final", last, _returns((*where, _ABSOLUTE), data[_ABSOLUTE])


def _returns(where: tuple[str, ...], data: Any) -> list[float]:
    for metric in _METRICS:
        if metric in _object(where, data):
            returns = data[metric]
            if isinstance(returns, list) and returns and all(map(_is_finite, returns)):
                return [float(x) for x in returns]
            name = "/".join((*where, metric))
            raise UserError(f"{name} is {shown(returns)}, expected a list of finite numbers")
    raise UserError(f"{'/'.join(where)} has none of {', '.join(_METRICS)}")


def _is_finite(x: Any) -> bool:
    return type(x) in (int, float) and -LARGEST <= x <= LARGEST


def _object(where: tuple[str, ...], data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"{'/'.join(where) or 'the file'} is {shown(data)}, expected an object")
    return data
