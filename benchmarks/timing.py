"""What the benchmarks share: clocks, the machine, fresh processes, and files of results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from marsrl.devices.startup import configure_jax
from marsrl.runs.machine import describe_machine

T = TypeVar("T")


class Seconds(NamedTuple):
    """What each timed call took.

    Attributes:
        wall: by the wall clock.
        cpu: processor time of all threads of the process; other work on the machine, which
            misleads the wall clock, does not count.
    """

    wall: list[float]
    cpu: list[float]


def in_turn(
    calls: Mapping[str, Callable[[int], Any]], repetitions: int, warm_up: int = 1
) -> dict[str, Seconds]:
    """Times calls one after the other, again and again, so that other work meets all of them.

    Args:
        calls: each takes the number of the repetition and returns arrays, which are waited for.
        repetitions: how many count.
        warm_up: how many go before.
    """
    seconds = {name: Seconds([], []) for name in calls}
    for i in range(warm_up + repetitions):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call(i))
            if i >= warm_up:
                seconds[name].wall.append(time.perf_counter() - wall)
                seconds[name].cpu.append(time.process_time() - cpu)
    return seconds


def matmul() -> tuple[Callable[[int], jax.Array], float]:
    """A large product of float32 matrices on one device, and its GFLOP.

    On a CPU one product uses all cores that the process may use, however many devices there are.
    """
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    return lambda _: product(x, x), 2 * size**3 / 1e9


def fresh(call: Callable[..., T], *args: Any) -> T:
    """Calls a function of a module in a process of its own, which has not used JAX yet.

    Raises:
        BrokenProcessPool: the process was killed, for want of memory for instance.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def start_jax(devices: int | None = None, cache: Path | None = None) -> None:
    """What the command line does before anything touches a device, but for its cache.

    Args:
        devices: virtual devices of a CPU; default: one per core.
        cache: where compiled programs are kept; default: nowhere, everything is compiled anew.
    """
    configure_jax()
    jax.config.update("jax_compilation_cache_dir", str(cache) if cache else None)
    if devices is not None:
        jax.config.update("jax_num_cpu_devices", devices)


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def circumstances() -> dict[str, Any]:
    """The day, machine, its load now, versions and commit."""
    load = os.getloadavg()[0]
    return {"date": f"{date.today()}", "processor": processor(), "load": load, **describe_machine()}


def headline(where: Mapping[str, Any]) -> str:
    """The circumstances in one line."""
    machine, versions = where["machine"], where["versions"]
    return (
        f"{where['date']}, {where['processor']}, {machine['cores']} core(s), "
        f"load {where['load']:.1f}, {machine['num_devices']} x {machine['device']}, "
        f"Python {machine['python']}, jax {versions['jax']}, marsrl {versions['marsrl']}"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_json(path: Path, content: Any) -> None:
    """Writes beside and renames, so that an interruption leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def row_by_row(
    rows: Sequence[str],
    measure: Callable[[str], dict[str, Any]],
    markdown: Callable[[Mapping[str, dict[str, Any]]], str],
    path: Path | None,
) -> dict[str, Any]:
    """Measures, says where after each row, and writes what is there: JSON and a table beside it."""
    results = {}
    for row in rows:
        results[row] = measure(row)
        print(f"{row}: {headline(results[row]['circumstances'])}", flush=True)
        if path is not None:
            write_json(path, results)
            path.with_suffix(".md").write_text(markdown(results))
    return results


def median_rate(amount: float, seconds: Sequence[float]) -> float:
    """The median of `amount` per second."""
    return amount / statistics.median(seconds)
