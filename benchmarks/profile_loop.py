"""Shows where one core spends the time of a training loop.

    python benchmarks/profile_loop.py --json profile.json

JAX's profiler records every operation of some updates on one core. The rules of the environment
and the networks are traced under names of their own, which the compiler keeps for the operations
that it makes of them, gradients included:

- rules: one step of the environments; the bookkeeping around it is not in here.
- fresh: drawing the fresh starts.
- network: actor and critic, in the rollout, for the values and for the gradients.
- random: random numbers drawn elsewhere, for actions and minibatches.
- rest: sampling, losses and diagnostics, advantages, minibatches, Adam, restarts, bookkeeping.

An operation counts without those that it calls. One without a name, such as a copy, counts for the
loop that it is in; a matrix product without one is the network's. A fused operation bears one name
only, and recording takes time, which weighs on small operations: the table says how much longer
the recorded updates took than the others.
"""

from __future__ import annotations

import dataclasses
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from marsrl.compiler import compiler_options
from marsrl.config import Config
from marsrl.envs.registry import make
from marsrl.errors import UserError
from marsrl.learner.algorithm import make_algorithm
from marsrl.learner.networks import Networks
from marsrl.presets import preset
from marsrl.system import core_ids, stay_on
from timing import circumstances, fresh, in_turn, row_by_row, start_jax, table
from training_speed import updating

PARTS = ("rules", "fresh", "network", "random", "rest")


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        tasks: to train with their presets.
        core: of the networks.
        updates: recorded, at least 2.
        json: where to write the results, after every task; a Markdown table goes beside it.
    """

    tasks: tuple[str, ...] = (
        "paxmen/4ag",
        "lbf/15x15-4p-5f",
        "rware/tiny-4ag",
        "connector/10x10x10a",
    )
    core: Literal["ff", "gru"] = "ff"
    updates: int = 3
    json: Path | None = None


class NamedEnv:
    """An environment whose operations bear names."""

    def __init__(self, env) -> None:
        self.spec = env.spec
        self.reset = jax.named_scope("part_fresh")(env.reset)
        self.step = jax.named_scope("part_rules")(env.step)


class NamedNetworks(Networks):
    """Networks whose operations bear a name."""

    act = jax.named_scope("part_network")(Networks.act)
    act_once = jax.named_scope("part_network")(Networks.act_once)
    value = jax.named_scope("part_network")(Networks.value)


def named_update(config: Config) -> tuple[Any, Any]:
    """The compiled update of one seed, and the state before it."""
    algorithm = make_algorithm(config, NamedEnv(make(config.task, **config.task_settings)))
    named = NamedNetworks(**vars(algorithm.networks))
    algorithm = dataclasses.replace(algorithm, networks=named)
    state = jax.jit(algorithm.init)(jax.random.key(config.seeds[0]))
    step = jax.jit(algorithm.step, donate_argnums=0)
    return step.lower(state).compile(compiler_options(jax.default_backend())), state


def parts_of(hlo: str) -> dict[str, str]:
    """The part of each operation in the text of a compiled program."""
    own, called_from = {}, {}
    holder, computation = {}, ""
    for line in hlo.splitlines():
        if start := re.match(r"(?:ENTRY )?%(\S+) .*\{$", line):
            computation = start[1]
        if not (op := re.match(r"\s+(?:ROOT )?%(\S+) = .*? ([\w-]+)\(", line)):
            continue
        name, kind = op.groups()
        holder[name] = computation
        path = re.search(r'op_name="([^"]*)"', line)
        own[name] = _part(path[1] if path else "", kind == "dot" or name.startswith("ynn"))
        for callee in re.findall(r"(?:body|condition|calls|to_apply)=%([\w.-]+)", line):
            called_from[callee] = name

    def part(name: str) -> str:
        while name and not own[name]:
            name = called_from.get(holder[name], "")
        return own[name] if name else "rest"

    return {name: part(name) for name in own}


def _part(path: str, is_product: bool) -> str:
    """By an operation's own name; empty if that tells nothing."""
    if named := re.findall(r"part_(\w+)", path):
        return named[-1]
    if re.search(r"threefry|random|shuffle", path):
        return "random"
    return "network" if is_product else ""


def self_seconds(events: Iterable[Any], parts: dict[str, str]) -> Counter[str]:
    """Time of one thread's operations by part, each without those inside it."""
    spent: Counter[str] = Counter()
    around: list[tuple[float, str]] = []  # end and part of the operations that are running
    for event in sorted(events, key=lambda e: (e.start_ns, -e.duration_ns)):
        part = parts.get(event.name)
        if part is None:
            continue
        while around and around[-1][0] <= event.start_ns:
            around.pop()
        if around:
            spent[around[-1][1]] -= event.duration_ns / 1e9
        spent[part] += event.duration_ns / 1e9
        around.append((event.start_ns + event.duration_ns, part))
    return spent


def recorded(folder: Path, parts: dict[str, str]) -> Counter[str]:
    """Seconds by part in a trace."""
    (path,) = folder.rglob("*.xplane.pb")
    profile = jax.profiler.ProfileData.from_file(str(path))
    lines = (line for plane in profile.planes for line in plane.lines)
    return sum((self_seconds(line.events, parts) for line in lines), Counter())


def measure(config: Config, updates: int) -> dict[str, Any]:
    """The profile of one configuration, in a process that is fresh."""
    stay_on(core_ids()[0])
    start_jax()
    step, state = named_update(config)
    update = updating(lambda state: step(state)[0], state)
    free = in_turn({"update": update}, updates)["update"].wall
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            traced = in_turn({"update": update}, updates, warm_up=0)["update"].wall
        seconds = recorded(Path(folder), parts_of(step.as_text()))
    total = sum(seconds.values())
    return {
        "shares": {part: seconds[part] / total for part in PARTS},
        "seconds_per_update": statistics.median(free),
        "slowed_by_recording": statistics.median(traced) / statistics.median(free) - 1,
        "seen_of_recorded_time": total / sum(traced),
        "config": config.to_dict(),
        "circumstances": circumstances(),
    }


def markdown(results: Mapping[str, dict[str, Any]]) -> str:
    """The results as a table."""
    rows = [
        (
            f"`{task}`",
            result["config"]["core"],
            *(f"{result['shares'][part]:.1%}" for part in PARTS),
            f"{result['shares']['random'] + result['shares']['rest']:.0%}",
            f"{result['slowed_by_recording']:.0%}",
        )
        for task, result in results.items()
    ]
    columns = ("task", "core", *PARTS, "outside rules, fresh and network", "slowed by recording")
    return table(columns, rows)


def run(args: Args) -> dict[str, Any]:
    """Profiles task by task."""

    def profiled(task: str) -> dict[str, Any]:
        return fresh(measure, preset(task, core=args.core, seeds=(0,)), args.updates)

    return row_by_row(args.tasks, profiled, markdown, args.json)


def main() -> None:
    """Prints a table."""
    try:
        print(markdown(run(tyro.cli(Args, description=__doc__))))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
