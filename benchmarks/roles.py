"""Measures who goes where on `mpe/simple_spread_v3-3ag`: is each episode shared out anew?

    python benchmarks/roles.py runs/levels/mpe-simple_spread_v3-3ag

Plays trained teams, and two that see the whole state and drive as fast as can be: one gives out the
landmarks by the least total distance in each episode, the other always in the same way. The table
says in how many episodes agents end nearest to the landmarks of the least total distance, and in
how many to those that they end at most often: 1 in N! each, if neither matters.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from marsrl.devices.startup import configure_jax
from marsrl.envs import registry
from marsrl.envs.base import Environment
from marsrl.errors import UserError, check_int
from marsrl.runs.folder import RunFolder
from marsrl.runs.policy import Policy, load_policy
from marsrl.types import TimeStep
from references import spread
from timing import table

TASK = "mpe/simple_spread_v3-3ag"


class Episodes(NamedTuple):
    """What a team did in B episodes.

    Attributes:
        returns: (B,).
        start: (B, N, N) distances of agents from landmarks.
        end: likewise, after the last step.
    """

    returns: np.ndarray
    start: np.ndarray
    end: np.ndarray


def distances(state: Any) -> np.ndarray:
    """(B, N, N) of agents from landmarks."""
    agents, landmarks = np.split(np.asarray(state.library.p_pos), 2, 1)
    return np.linalg.norm(agents[:, :, None] - landmarks[:, None], axis=-1)


Act = Callable[[Any, TimeStep, Any], Any]
"""State and time step of B episodes, a key for each -> their actions."""


def scripted(choose: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], Act]:
    """A team that drives to the landmarks that are chosen at the start."""

    def begin(start: Any) -> Act:
        policy = spread.script(jax.tree.map(np.asarray, start), choose)
        return lambda state, now, keys: policy(jax.tree.map(np.asarray, state))

    return begin


def trained(policy: Policy) -> Callable[[Any], Act]:
    """A team that samples what it does."""

    def begin(start: Any) -> Act:
        carry = policy.initial_carry(len(jax.tree.leaves(start)[0]))

        def act(state: Any, now: TimeStep, keys: Any) -> Any:
            nonlocal carry
            carry, action = policy.act(carry, now, keys)
            return action

        return act

    return begin


def play(env: Environment, begin: Callable[[Any], Act], episodes: int, key: Any) -> Episodes:
    """Plays whole episodes side by side."""
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    key, reset_key = jax.random.split(key)
    state, now = reset(jax.random.split(reset_key, episodes))
    start, returns, act = distances(state), np.zeros(episodes), begin(state)
    for _ in range(env.spec.max_steps):
        key, *keys = jax.random.split(key, 3)
        action_keys, step_keys = (jax.random.split(k, episodes) for k in keys)
        state, now = step(step_keys, state, act(state, now, action_keys))
        returns += np.asarray(now.reward).mean(-1)
    return Episodes(returns, start, distances(state))


def shares(episodes: Episodes) -> tuple[float, float]:
    """Of episodes that end at the landmarks of the least total distance, and at the usual ones."""
    taken = [tuple(nearest) for nearest in episodes.end.argmin(-1).tolist()]
    best = [tuple(chosen) for chosen in spread.best(episodes.start).tolist()]
    usual = Counter(taken).most_common(1)[0][1]
    return float(np.mean([a == b for a, b in zip(taken, best, strict=True)])), usual / len(taken)


@dataclass(frozen=True)
class Args:
    """Command line.

    Attributes:
        runs: run folders of the task; every seed's latest parameters.
        episodes: to be played by each team, at least 2.
        seed: of all random numbers.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    episodes: int = 2048
    seed: int = 0

    def __post_init__(self):
        check_int("episodes", self.episodes, 2)


def measure(args: Args) -> str:
    """Plays all teams; a table."""
    teams = {}
    for run in args.runs:
        for seed in RunFolder.open(run).config().seeds:
            teams[f"{run.name}, seed {seed}"] = trained(load_policy(run, seed, "latest"))
    env = registry.make(TASK)
    teams["scripted, the least total distance"] = scripted(spread.best)
    teams["scripted, always the same"] = scripted(spread.same)
    rows = []
    for name, team in teams.items():
        episodes = play(env, team, args.episodes, jax.random.key(args.seed))
        error = episodes.returns.std(ddof=1) / args.episodes**0.5
        least, usual = shares(episodes)
        rows.append(
            (name, f"{episodes.returns.mean():.2f} ± {error:.2f}", f"{least:.2f}", f"{usual:.2f}")
        )
    return table(("team", "return", "least distance", "the usual way"), rows)


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
