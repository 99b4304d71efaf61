"""What a terminal shows, and what a pipe or a file gets."""

import io
import math
import re

import pytest
from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from marsrl.config import Config
from marsrl.console import PlainConsole, PlainTable
from marsrl.envs.commands import Envs
from marsrl.runs.monitor import ConsoleMonitor

CONFIG = Config(seeds=(0, 1), total_steps=2_500_000)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def row(value, **values):
    """A training row as long as real ones are."""
    names = ("entropy", "update_kl", "gradient/dead", "gradient/corrective", "ratio/collapsed")
    more = {"ratio/min": 0.5, "ratio/max": 1.5, "steps_per_second": 123_456.7}
    return {"episode/return": value, **dict.fromkeys(names, 0.12345)} | more | values


def watched(file, rows, config=CONFIG, **settings):
    """What a console of a run gets."""
    monitor = ConsoleMonitor(PlainConsole(file=file, **settings))
    monitor.start(config, 0)
    monitor.progress(1_000, [])
    monitor.progress(2_000, [])
    monitor.progress(2_048_000, rows)
    monitor.stop()
    return file.getvalue()


def test_a_pipe_gets_a_line_per_report():
    first, second = watched(io.StringIO(), [row(1.5), row(-2.0)]).splitlines()
    assert first == "    1,000 of 2,502,400 steps"
    assert second == (
        "2,048,000 of 2,502,400 steps | 123,457 steps/s | return 1.50 -2.00 | entropy 0.123 | "
        "kl 0.123 | dead 0.123 | corrective 0.123 | collapsed 0.123 | ratio 0.50 to 1.50"
    )


@pytest.mark.parametrize("name", ["FORCE_COLOR", "COLUMNS"])
def test_a_pipe_stays_a_pipe(monkeypatch, name):
    monkeypatch.setenv(name, "30")
    printed = watched(io.StringIO(), [row(1.5), row(-2.0)])
    assert "\x1b" not in printed
    assert len(printed.splitlines()) == 2


def test_what_was_not_measured_is_a_dash():
    nothing = dict.fromkeys(row(0), math.nan) | {"steps_per_second": 1.0}
    del nothing["update_kl"]
    line = watched(io.StringIO(), [nothing, row(2.0)]).splitlines()[-1]
    assert "return - 2.00 | entropy 0.123 | kl 0.123" in line
    line = watched(io.StringIO(), [nothing]).splitlines()[-1]
    assert "return - | entropy - | kl -" in line
    assert line.endswith("ratio - to -")


def test_many_seeds_are_a_mean_and_a_range():
    config = Config(seeds=range(10), total_steps=2_500_000)
    rows = [row(float(seed)) for seed in range(10)]
    line = watched(io.StringIO(), rows, config).splitlines()[-1]
    assert "return 4.50 (0.00 to 9.00, 10 seeds)" in line


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_the_bar_fits_the_terminal(width):
    printed = watched(Terminal(), [row(1.5), row(-2.0)], width=width, color_system=None)
    screen = re.sub(r"\x1b\[[?\d]*[A-Za-z]", "\r", printed).splitlines()
    last = next(line for line in reversed(screen) if " left" in line)
    assert len(last) <= width
    assert max(map(len, screen[1:])) <= width
    assert last.count("\N{BOX DRAWINGS HEAVY HORIZONTAL}") >= 8
    assert ("2,048,000/2,502,400 steps" in last) == (width >= 50)
    assert ("123,457 steps/s" in last) == (width >= 80)
    assert any("return 1.50 -2.00" in line for line in screen)


def test_tables_are_cropped_on_terminals_only(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("word " * 40)
    pipe, terminal, narrow = io.StringIO(), Terminal(), io.StringIO()
    PlainConsole(file=pipe).print(table)
    PlainConsole(file=terminal, width=80, color_system=None).print(table)
    monkeypatch.setenv("COLUMNS", "60")
    PlainConsole(file=narrow).print(table)
    longest = [max(map(len, file.getvalue().splitlines())) for file in (pipe, terminal, narrow)]
    assert longest[0] > 200
    assert 60 < longest[1] <= 80
    assert 40 < longest[2] <= 60


@pytest.mark.parametrize(("box", "rule"), [(MARKDOWN, "|---|---|"), (SIMPLE_HEAD, "\u2500" * 7)])
def test_tables_have_no_empty_lines_around_them(monkeypatch, box, rule):
    monkeypatch.delenv("COLUMNS", raising=False)
    table = PlainTable("a", "b", box=box)
    table.add_row("1", "2")
    table.add_row("", "3")
    pipe = io.StringIO()
    PlainConsole(file=pipe).print(table)
    head, line, *rows = pipe.getvalue().splitlines()
    assert head.replace("|", " ").split() == ["a", "b"]
    assert line.strip() == rule
    assert [row.replace("|", " ").split() for row in rows] == [["1", "2"], ["3"]]


def test_the_tasks_have_lines_between_them_only_where_these_are_wrapped(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    pipe, terminal = io.StringIO(), Terminal()
    for file, settings in ((pipe, {}), (terminal, {"width": 80, "color_system": None})):
        console = PlainConsole(file=file, **settings)
        monkeypatch.setattr("marsrl.envs.commands._console", console)
        Envs()()
    rule = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
    assert rule not in pipe.getvalue()
    assert rule in terminal.getvalue()
    (family,) = [line for line in pipe.getvalue().splitlines() if line.startswith("paxmen ")]
    assert "for every dot eaten" in family
    assert "one agent to each room" in family


def test_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    PlainConsole(file=file, color_system="standard").print("text", style="red")
    assert file.getvalue() == "text\n"
    assert isinstance(PlainConsole(), Console)
