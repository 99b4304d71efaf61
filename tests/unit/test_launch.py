"""Waiting for jobs."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from marsrl.bench.launch import completed, run_local
from marsrl.bench.plan import adopt, plan
from marsrl.bench.suite import Suite


@pytest.fixture
def told():
    """An event that SIGUSR1 sets, by a handler in the main thread."""
    event = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    yield event
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_that_another_thread_receives_is_handled_while_jobs_are_awaited(told):
    def work():
        time.sleep(0.2)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        return told.wait(20)

    with ThreadPoolExecutor(1) as pool:
        assert list(completed([pool.submit(work)])) == [True]


def test_results_come_as_they_are_there():
    first = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(lambda: first.wait(20) and "late")
        early = pool.submit(lambda: "early")
        results = completed([late, early])
        assert next(results) == "early"
        first.set()
        assert list(results) == ["late"]
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(completed([pool.submit(lambda: 1 / 0)]))


def test_a_lock_that_nobody_can_have_is_a_failure_and_not_another_s(tmp_path):
    suite = adopt(Suite("s", ("paxmen/4ag",), ("mars",), (0,)), tmp_path)
    (job,) = plan(suite, tmp_path)
    job.lock.mkdir(parents=True)
    told = []
    (outcome,) = run_local([job], 1, told.append)
    assert (outcome.status, told) == ("failed", [outcome])
    assert f"cannot write {job.lock}" in outcome.reason
