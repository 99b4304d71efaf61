import gc
import os
import shutil
from pathlib import Path

# Nearly all the time goes into compiling small programs that run once. What is compiled is kept,
# for other tests, for the processes that they start and for the next time; not optimising saves
# 40 % of the rest, the older way to emit fused operations 60 %, and one piece of machine code for
# each program in place of many 10 %. The programs of trainings have most of it anyway
# (`marsrl.compiler`). JAX and XLA, of this process and of those that it starts, read it at once.
CACHE = Path(__file__).parents[1] / ".cache" / "tests"
for name in ("JAX_COMPILATION_CACHE_DIR", "MARSRL_CACHE"):
    os.environ.setdefault(name, str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
import jax  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

FLAGS = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])

# Tracing makes many objects and hardly a cycle: looking for cycles less often saves 10 % of it.
gc.set_threshold(200_000, 20, 100)

# The same examples every time, and no failure because the machine was busy.
settings.register_profile("marsrl", derandomize=True, deadline=None)
settings.load_profile("marsrl")


def pytest_configure(config):
    """What is kept begins anew when it is much, most of it of code that is no more."""
    alone = not hasattr(config, "workerinput")  # or it starts the workers of pytest-xdist
    if alone and config.getoption("note_slow"):
        config.pluginmanager.register(Times())
    if alone and CACHE.exists() and sum(file.stat().st_size for file in CACHE.iterdir()) > 4e9:
        shutil.rmtree(CACHE)


# --- which tests are slow ------------------------------------------------------------------------

SLOW = Path(__file__).with_name("slow.txt")
"""What `make test ARGS=--note-slow` found: functions of which a case takes longer than LONG, and
files with a fixture that takes longer than LONG_SETUP, which the next of their tests would pay for.
"""
LONG, LONG_SETUP = 0.2, 5.0
"""Seconds."""


def pytest_addoption(parser):
    parser.addoption("--note-slow", action="store_true", help=f"write {SLOW.name} anew")


def function_of(nodeid):
    """The name of a test without that of its case."""
    return nodeid.partition("[")[0]


def file_of(nodeid):
    return nodeid.partition("::")[0]


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` is heeded
def pytest_collection_modifyitems(items):
    slow = set(SLOW.read_text().splitlines())
    for item in items:
        if {function_of(item.nodeid), file_of(item.nodeid)} & slow:
            item.add_marker(pytest.mark.slow)


class Times:
    """How long the cases of each function took, in whichever process."""

    def __init__(self):
        self.seconds, self.files = {}, set()

    def pytest_runtest_logreport(self, report):
        name = function_of(report.nodeid)
        taken = self.seconds.setdefault(name, {})
        taken[report.nodeid] = taken.get(report.nodeid, 0.0) + report.duration
        if report.when == "setup" and report.duration > LONG_SETUP:
            self.files.add(file_of(report.nodeid))

    def pytest_sessionfinish(self):
        slow = self.files | {
            name
            for name, cases in self.seconds.items()
            if sum(cases.values()) > LONG * len(cases) and file_of(name) not in self.files
        }
        SLOW.write_text("".join(f"{name}\n" for name in sorted(slow)))
