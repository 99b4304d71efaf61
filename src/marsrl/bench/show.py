"""What the benchmark's commands print."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from marsrl.bench.launch import Outcome
from marsrl.bench.measure import Cost, seconds_left
from marsrl.bench.plan import Job
from marsrl.bench.progress import has_ended, seed_states
from marsrl.bench.suite import Suite
from marsrl.console import PlainTable
from marsrl.report.wording import answer, between, count, hours, number, score, with_interval

if TYPE_CHECKING:
    from marsrl.report.summary import Summary


_MOST_COLUMNS = 8


def plain(name: str) -> Text:
    """A name from a file, in which the console looks for no markup."""
    return Text(name)


def outcome_line(outcome: Outcome) -> str:
    """When which job ended how."""
    said = {
        "done": f"done in {outcome.minutes:.1f} min",
        "failed": f"failed: {outcome.reason}",
        "locked": f"is left to others: {outcome.reason or 'some of its seeds are in another job'}",
        "stopped": "stopped",
    }[outcome.status]
    return f"{time.strftime('%H:%M')} {outcome.job.name}: {said}"


def estimates(suite: Suite, jobs: Sequence[Job], known: dict[Job, Cost]) -> Table:
    """A row for each task: its jobs, and what those that are left will take."""
    table = Table(
        Column("task", no_wrap=True), "jobs", "left", "steps per run", "time left", "memory"
    )
    for task in suite.tasks:
        own = [job for job in jobs if job.config.task == task]
        left = [job for job in own if not has_ended(job)]
        numbers = f"{len(own)}", f"{len(left)}", f"{own[0].config.total_steps:,}"
        table.add_row(task, *numbers, *_estimate(left, known))
    return table


def _estimate(jobs: Sequence[Job], known: dict[Job, Cost]) -> tuple[str, str]:
    """Time of one worker and memory of one process, as far as known."""
    mine = [(job, known[job]) for job in jobs if job in known]
    if len(mine) < len(jobs):
        return "not measured", "not measured"
    seconds = sum(seconds_left(job, cost) for job, cost in mine)
    memory = max((cost.peak_memory_mb for _, cost in mine), default=0.0)
    return hours(seconds), f"{memory:,.0f} MB"


def total(suite: Suite, jobs: Sequence[Job], known: dict[Job, Cost], workers: int) -> str:
    """The sums over a plan, and the time and memory that is left, if all of it is known."""
    runs = len(suite.tasks) * len(suite.objectives) * len(suite.seeds)
    steps = sum(job.config.total_steps * len(job.config.seeds) for job in jobs)
    left = [job for job in jobs if not has_ended(job)]
    text = (
        f"{suite.name}: {count(len(jobs), 'job')}, {count(runs, 'run')}, "
        f"{count(steps, 'environment step')}; {count(len(left), 'job')} left"
    )
    if any(job not in known for job in left):
        return f"{text}, of unknown length"
    seconds = sum(seconds_left(job, known[job]) for job in left) / workers
    memory = sorted((known[job].peak_memory_mb for job in left), reverse=True)[:workers]
    return (
        f"{text}, about {hours(seconds)} with {count(workers, 'worker')}, and up to "
        f"{sum(memory):,.0f} MB of memory"
    )


def scores(summary: Summary) -> Table:
    """Each objective over all tasks and by family, and who is ahead, as Markdown."""
    names = ["tasks", "objective", "mean score", "IQM"]
    names += [f"{summary.target} against it"] if summary.contests else []
    table = PlainTable(*(Column(plain(name), overflow="fold") for name in names), box=MARKDOWN)
    duels = {(name, x.other): duel for x in summary.contests for name, duel in x.families.items()}
    duels |= {("overall", x.other): x.overall for x in summary.contests}
    for group in summary.groups:
        for name, mean, iqm in zip(summary.objectives, group.mean, group.iqm, strict=True):
            duel = duels.get((group.name, name))
            tasks = f"{group.name} ({len(group.tasks)})"
            said = [duel.verdict if duel else ""] if summary.contests else []
            table.add_row(tasks, plain(name), with_interval(mean), with_interval(iqm), *said)
    return table


def returns(summary: Summary) -> Table:
    """Each objective on each task, and each of its seeds, as Markdown."""
    seeds = summary.results.suite.seeds
    names = ["task", "objective", "diverged", "return", "score", *(f"seed {x}" for x in seeds)]
    table = PlainTable(*(Column(name, overflow="fold") for name in names), box=MARKDOWN)
    for row in summary.rows:
        mean = f"{number(float(row.mean.value))} {between(row.mean, number)}" if row.mean else "-"
        of_seed = dict(zip(row.ended, map(number, row.returns), strict=True))
        cells = f"{len(row.diverged)}", mean, score(row.score)
        table.add_row(
            row.task, plain(row.objective), *cells, *(of_seed.get(seed, "-") for seed in seeds)
        )
    return table


def verdicts(summary: Summary) -> list[str]:
    """Who is ahead of whom, a line for each contest."""
    return [" ".join(answer(x, summary.margin)).strip() for x in summary.contests]


def progress(suite: Suite, jobs: Sequence[Job]) -> tuple[Table, str]:
    """The table of tasks by methods, or with a row for each if these are many, and the totals."""
    cells: dict[tuple[str, str], Counter[str]] = {}
    shares: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        cell = job.config.task, job.label
        for seed, state in seed_states(job).items():
            if seed in suite.seeds:
                cells.setdefault(cell, Counter())[state.status] += 1
                if state.status == "running":
                    shares.setdefault(cell, []).append(state.step / job.config.total_steps)

    def text(task: str, label: str) -> str:
        cell = task, label
        parts = [f"{n} {status}" for status, n in cells[cell].items()]
        if running := shares.get(cell):
            parts.append(f"({sum(running) / len(running):.0%})")
        return " ".join(parts)

    wide = len(suite.objectives) <= _MOST_COLUMNS
    names = suite.objectives if wide else ("objective", "runs")
    heads = (Column(plain(name), overflow="fold") for name in names)
    table = PlainTable(
        Column("task", no_wrap=True), *heads, box=SIMPLE_HEAD, padding=0, pad_edge=False
    )
    for task in suite.tasks:
        if wide:
            table.add_row(task, *(text(task, label) for label in suite.objectives))
        else:
            for label in suite.objectives:
                table.add_row(task, plain(label), text(task, label))
    totals = sum(cells.values(), Counter())
    return table, ", ".join(f"{count} {status}" for status, count in totals.items())
