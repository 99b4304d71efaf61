"""Results of a benchmark that never ran: 8 tasks x 6 objectives x 3 seeds, or as few as wanted."""

import functools

import numpy as np

from marsrl.bench.records import Results, RunRecord
from marsrl.bench.rows import curve_table, episode_table
from marsrl.bench.suite import Suite, read_suite
from marsrl.envs.tasks import TASKS
from marsrl.report.summary import summarize_benchmark

_NANO = read_suite("nano")
NANO_TASKS, FACTORIAL = _NANO.tasks, _NANO.objectives
HOSTILE = "my_module:<img src=x onerror=alert(1)>$x_"
"""An objective's name that is a danger to HTML, and to matplotlib's mathematics."""
BUDGET = 100_000
EVALUATIONS = 5
TRAIN_ROWS = 12


def make_results(
    scores,
    tasks=NANO_TASKS,
    objectives=FACTORIAL,
    seeds=(0, 1, 2),
    status=None,
    budgets=None,
    settings=None,
):
    """Results whose final scores are given.

    Args:
        scores: score(task, objective, seed), 0 at the low bound and 1 at the high one.
        tasks: of the suite.
        objectives: of the suite.
        seeds: of the suite.
        status: (task, objective, seed) -> status of the runs that are not done; a diverged,
            running or failed one gets halfway.
        budgets: task -> environment steps, where not `BUDGET`.
        settings: objective -> settings that its runs have recorded.
    """
    status, budgets = status or {}, budgets or {}
    suite = Suite("nano <b>bold</b>", tuple(tasks), tuple(objectives), tuple(seeds))
    runs, episodes, curves = [], [], []
    for task in tasks:
        budget = budgets.get(task, BUDGET)
        for objective in objectives:
            for seed in seeds:
                state = status.get((task, objective, seed), "done")
                score = scores(task, objective, seed)
                runs.append(_record(task, objective, seed, state, budget, settings))
                if state != "missing":
                    head = {"family": task.partition("/")[0], "task": task}
                    head |= {"objective": objective, "run": "0123456789ab", "seed": seed}
                    curves += _curves(head, state, score, budget)
                    if state == "done":
                        episodes += _final(head, score, budget)
    return Results(suite, tuple(runs), episode_table(episodes), curve_table(curves))


def nano_results():
    """The whole page: a diverged run, missing ones, a running one, other budgets, odd names."""
    rng = np.random.default_rng(0)
    noise = {}
    gains = dict(zip((*FACTORIAL, HOSTILE), (0.3, 0.33, 0.55, 0.57, 0.6, 0.63, 0.4), strict=True))

    def scores(task, objective, seed):
        shift = noise.setdefault((task, objective, seed), rng.normal(0, 0.07))
        return gains[objective] + 0.25 * np.sin(len(task)) + shift

    status = {(NANO_TASKS[-1], "maspo", seed): "missing" for seed in range(3)}
    status |= {(NANO_TASKS[-1], "mars", 1): "running", (NANO_TASKS[0], "mappo", 2): "diverged"}
    status |= {(task, HOSTILE, 0): "missing" for task in NANO_TASKS[:3]}
    objectives = (*FACTORIAL, HOSTILE)
    return make_results(scores, objectives=objectives, status=status, budgets={"smax/2s3z": 50_000})


@functools.cache
def nano_summary():
    """Their summary, which takes a while."""
    return summarize_benchmark(nano_results())


def _record(task, objective, seed, state, budget, settings):
    if state == "missing":
        return RunRecord(task, objective, "0123456789ab", seed, state)
    step = budget if state == "done" else budget // 2
    return RunRecord(
        task,
        objective,
        "0123456789ab",
        seed,
        state,
        step=step,
        diverged_step=step if state == "diverged" else None,
        seconds={"compile": 30.0, "train": 3600.0, "evaluate": 90.0},
        seeds_in_program=3,
        peak_memory_mb=900.0,
        config={
            "task": task,
            "objective": objective.partition("@")[0],
            "total_steps": budget,
            "eps": 0.2,
            "seeds": [0, 1, 2],
            **(settings or {}).get(objective, {}),
        },
        versions={"marsrl": "0.1.0", "jax": "0.10.2<i>"},
        machine={"cores": 2, "device": "cpu (<script>alert(2)</script>)"},
        git={"commit": "abc123", "dirty": True},
    )


def _curves(head, state, score, budget):
    end = 1.0 if state == "done" else 0.49
    hours = 2.0 if head["objective"] == "mars" else 1.0
    for share in np.linspace(0, 1, EVALUATIONS + 1):
        if share <= end:
            value = _to_return(head["task"], score * share)
            yield head | _at(share, budget, hours) | {"phase": "eval", "return": value}
    for share in np.linspace(0, 1, TRAIN_ROWS + 1)[1:]:
        if share <= end:
            yield (
                head
                | _at(share, budget, hours)
                | {"phase": "train", "return": _to_return(head["task"], score * share)}
                | _diagnostics(head["objective"], share)
            )


def _diagnostics(objective, share):
    clips = objective.startswith("mappo")
    return {
        "entropy": 1.0 - 0.5 * share,
        "approx_kl": 0.02 if clips else 0.002,
        "gradient/dead": 0.2 * share if clips else 0.0,
        "gradient/corrective": None if clips else 0.9 + 0.1 * share,
        "ratio/collapsed": 0.01 if clips else 0.0,
        "ratio/min": 0.5 - (0.49 if clips else 0.1) * share,
        "ratio/max": 2 + share,
    }


def _at(share, budget, hours):
    return {"step": round(share * budget), "seconds": share * hours * 3600}


def _final(head, score, budget):
    mean = _to_return(head["task"], score)
    for episode, shift in enumerate((-0.5, 0.5)):
        yield head | {"step": budget, "phase": "final", "episode": episode, "return": mean + shift}


def _to_return(task, score):
    low, high = TASKS[task].low, TASKS[task].high
    return low + score * (high - low)
