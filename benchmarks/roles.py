"""Measures who goes where: do the agents of a team have roles, and is a place left to nobody?

    python benchmarks/roles.py runs/levels/mpe-simple_spread_v3-3ag
    python benchmarks/roles.py runs/levels/paxmen-4ag

Plays trained teams and scripted ones, which see the whole state. Of simple spread the table says in
how many episodes agents end nearest to the landmarks of the least total distance, and in how many
to those that they end at most often: 1 in N! each, if neither matters. Of PaxMen it says to which
share of its time in rooms each agent is in the room where it is most often, by the room's side of
the hub, and which rooms get less than 1 % of the team's time.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from marsrl.devices.startup import configure_jax
from marsrl.envs import registry
from marsrl.envs.paxmen.env import PaxMen
from marsrl.errors import UserError, check_int
from marsrl.runs.folder import RunFolder
from marsrl.runs.policy import load_policy
from playing import Team, play, scripted, trained
from references import paxmen, spread
from timing import table

SPREAD, PAXMEN = "mpe/simple_spread_v3-3ag", "paxmen/4ag"
SIDES = "NSEW"
"""The arms of `paxmen/4ag` in each layout."""


def distances(state: Any) -> np.ndarray:
    """(B, N, N) of agents from landmarks."""
    agents, landmarks = np.split(state.library.p_pos, 2, 1)
    return np.linalg.norm(agents[:, :, None] - landmarks[:, None], axis=-1)


def shares(start: np.ndarray, end: np.ndarray) -> tuple[float, float]:
    """Of episodes that end at the landmarks of the least total distance, and at the usual ones.

    Args:
        start: (B, N, N) distances.
        end: likewise, after the last step.
    """
    taken = [tuple(nearest) for nearest in end.argmin(-1).tolist()]
    best = [tuple(chosen) for chosen in spread.best(start).tolist()]
    usual = Counter(taken).most_common(1)[0][1]
    return float(np.mean([a == b for a, b in zip(taken, best, strict=True)])), usual / len(taken)


def in_rooms(env: PaxMen, state: Any) -> np.ndarray:
    """(B, N, rooms) bool: the agent is in the room."""
    rooms = env.layouts.rooms[state.layout]  # (B, rooms, cells, 2)
    here = state.agent_pos[:, :, None, None]
    return (here == rooms[:, None]).all(-1).any(-1)


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        runs: run folders of one of the two tasks; every seed's latest parameters.
        episodes: to be played by each team, at least 2.
        seed: of all random numbers.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    episodes: int = 2048
    seed: int = 0

    def __post_init__(self):
        check_int("episodes", self.episodes, 2)


def on_spread(args: Args, teams: dict[str, Team]) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and rows for simple spread."""
    teams |= {
        "scripted, the least total distance": scripted(partial(spread.script, choose=spread.best)),
        "scripted, always the same": scripted(partial(spread.script, choose=spread.same)),
    }
    env, rows = registry.make(SPREAD), []
    for name, team in teams.items():
        returns, seen = play(env, team, args.episodes, args.seed, distances)
        rows.append((name, measured(returns), *(f"{x:.2f}" for x in shares(seen[0], seen[-1]))))
    return ("team", "return", "least distance", "the usual way"), rows


def on_paxmen(args: Args, teams: dict[str, Team]) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and rows for PaxMen."""
    env, rows = PaxMen(4), []
    teams |= {"scripted, a room for each": scripted(partial(paxmen.script, env.layouts))}
    for name, team in teams.items():
        returns, seen = play(env, team, args.episodes, args.seed, partial(in_rooms, env))
        kept, empty = rooms_of(np.sum(seen, axis=(0, 1)))
        rows.append((name, measured(returns), kept, empty))
    return ("team", "return", "each agent's room", "left to nobody"), rows


def rooms_of(time: np.ndarray) -> tuple[str, str]:
    """Each agent's room with its share of the agent's time in rooms, and rooms that get none.

    Args:
        time: (N, rooms), of each agent in each room.
    """
    shares = time / np.maximum(time.sum(1, keepdims=True), 1)
    of_all = time.sum(0) / max(time.sum(), 1)
    kept = ", ".join(f"{SIDES[share.argmax()]} {share.max():.2f}" for share in shares)
    return kept, "".join(s for s, x in zip(SIDES, of_all, strict=True) if x < 0.01) or "none"


def measured(returns: np.ndarray) -> str:
    """Mean and standard error."""
    return f"{returns.mean():.2f} ± {returns.std(ddof=1) / len(returns) ** 0.5:.2f}"


def measure(args: Args) -> str:
    """Plays all teams; a table."""
    configs = {run: RunFolder.open(run).config() for run in args.runs}
    tasks = {config.task for config in configs.values()}
    if tasks not in ({SPREAD}, {PAXMEN}):
        raise UserError(f"runs are of {', '.join(sorted(tasks))}, expected {SPREAD} or {PAXMEN}")
    teams = {
        f"{run.name}, seed {seed}": trained(load_policy(run, seed, "latest"))
        for run, config in configs.items()
        for seed in config.seeds
    }
    return table(*(on_spread if tasks == {SPREAD} else on_paxmen)(args, teams))


def main() -> None:
    """Prints a table."""
    try:
        args = tyro.cli(Args, description=__doc__)
        configure_jax()
        print(measure(args))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
