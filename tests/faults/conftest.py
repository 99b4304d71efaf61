"""Faults of a run's folder: all of them with FAULTS=all (`make faults`), else a handful of each."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from compiled import once, program
from faults.record import CONFIG, ENV
from marsrl.runs import loop, runner

ALL = os.environ.get("FAULTS") == "all"
_count: Counter[str] = Counter()


@pytest.fixture(scope="session")
def some():
    """Chooses the cases that are tried: all, or so many of them, evenly spaced."""

    def choose(cases, number):
        cases = list(cases)
        return cases if ALL or len(cases) <= number else cases[:: -(-len(cases) // number)]

    return choose


@pytest.fixture(scope="session")
def counted():
    """Counts what was tried, for the summary."""
    return _count


@pytest.fixture(scope="package")
def compiled():
    """One program for every run, policy and restart of these tests."""
    with once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SECONDS_PER_CALL", 0.0)  # one update a call
        yield program(CONFIG, ENV)


@pytest.fixture(scope="package")
def whole(compiled, tmp_path_factory):
    """A run that nothing disturbed."""
    return runner.train(CONFIG, tmp_path_factory.mktemp("faults") / "run", env=ENV).path


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of pytest-xdist's
        session.config.workeroutput["faults"] = dict(_count)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    _count.update(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter):
    if _count:
        tried = ", ".join(f"{number} {name}" for name, number in sorted(_count.items()))
        terminalreporter.write_line(f"faults: {tried}")
