"""Waiting for jobs."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from marsrl.bench.launch import completed


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
