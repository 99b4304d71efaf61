"""One copy of a `ParallelEnv`, played into arrays; needs no JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from marsrl.envs.host.layout import Layout, reader
from marsrl.errors import UserError, raised, shown

Arrays = Mapping[str, np.ndarray]
"""What a time step is, for one environment: see `Layout.outputs`."""


class Game:
    """An environment and where its episode is.

    Args:
        task: what messages call it.
        env: a `ParallelEnv`.
        layout: its own.
    """

    def __init__(self, task: str, env: Any, layout: Layout) -> None:
        self.task = task
        self.env = env
        self.layout = layout
        self.t = 0
        self._index = {agent: i for i, agent in enumerate(layout.agents)}
        self._readers = [reader(task, a, env.observation_space(a)) for a in layout.agents]
        self._own_actions = layout.own_actions()
        self._starts = (0, *itertools.accumulate(layout.choices[:-1]))
        self._live: list[Any] = []

    def reset(self, seed: int, now: Arrays) -> None:
        """Starts an episode, written to `now`; the same seed gives the same one."""
        observations, infos = self.env.reset(seed=seed)
        self.t = 0
        self._live = live = list(self.env.agents)
        self._check_known(live)
        if not live:
            raise UserError(f"{self.task}: reset starts an episode without agents")
        self._write(now, observations, infos, live, live)
        now["reward"][...] = 0.0
        now["terminated"][...] = now["truncated"][...] = False
        self._write_state(now)

    def step(self, action: np.ndarray, now: Arrays) -> bool:
        """Moves one step on, written to `now`, and tells whether the episode has ended.

        An episode ends with its last agent. If the clock has stopped any of those that were in it
        to the end it is truncated, and agents that terminated then are masked; otherwise it has
        terminated. Who terminates as the clock strikes has terminated: no future is cut off. An
        agent that leaves earlier is masked from then on.

        Args:
            action: see `Layout.action_shape`.
            now: where the time step is written, with the true final observation.
        """
        acted = self._live
        index = self._index
        actions = {agent: self._action(index[agent], action) for agent in acted}
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self.t += 1
        gone = {a for a in acted if terminations.get(a) or truncations.get(a)}
        left = set(self.env.agents) - gone
        self._check_known(left)
        if not left <= set(acted):
            raise UserError(
                f"{self.task}: agent {shown(min(left - set(acted), key=str))} joins an episode at "
                f"step {self.t}, expected those that it began with"
            )
        self._live = live = [agent for agent in acted if agent in left]
        stopped = [a for a in acted if truncations.get(a) and not terminations.get(a)]
        if live and self.t >= self.layout.max_steps:
            self._check_length()
            self._live, live, stopped = [], [], [*live, *stopped]
        over = not live
        truncated = over and bool(stopped)
        shown_agents = live or stopped or acted
        self._write(now, observations, infos, shown_agents, live)
        reward = now["reward"]
        reward[...] = 0.0
        for agent in acted:
            paid = rewards.get(agent)
            if paid is None and agent in shown_agents:
                raise UserError(
                    f"{self.task}: no reward of agent {agent} at step {self.t}, expected one of "
                    "every agent that has acted"
                )
            reward[index[agent]] = 0.0 if paid is None else paid
        if self.layout.team_reward:
            reward[...] = reward.mean()
        now["terminated"][...] = over and not truncated
        now["truncated"][...] = truncated
        self._write_state(now)
        return over

    def random_action(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        """Uniformly random legal actions, given the mask (N, A)."""
        layout = self.layout
        if layout.choices:
            of_choices = np.split(rng.random(mask.shape) * mask, self._starts[1:], axis=-1)
            action = np.stack([numbers.argmax(-1) for numbers in of_choices], axis=-1)
        else:
            action = rng.uniform(*layout.bounds, mask.shape)
        return action.reshape(layout.action_shape).astype(layout.action_dtype)

    def _action(self, i: int, action: np.ndarray) -> Any:
        own = self.layout.actions[i]
        if own.choices:
            mine = action[i].reshape(-1)[: len(own.choices)] + np.array(own.start)
            return mine.astype(own.dtype).reshape(own.shape) if own.shape else int(mine[0])
        low, high = np.array(own.low), np.array(own.high)
        mine = action[i, : own.size].astype(np.float64)
        if self.layout.rescaled:
            mine = low + (high - low) * (mine + 1) / 2
        mine = np.clip(np.nan_to_num(mine), low, high)
        return (np.rint(mine) if own.rounded else mine).astype(own.dtype).reshape(own.shape)

    def _write(
        self, now: Arrays, observations: Any, infos: Any, agents: list[Any], live: list[Any]
    ) -> None:
        """Observations and masks; `agents` are those who count, `live` who can still act."""
        obs, mask = now["obs"], now["action_mask"]
        obs[...] = 0
        mask[...] = self._own_actions
        now["agent_mask"][...] = False
        for agent in agents:
            i = self._index[agent]
            now["agent_mask"][i] = True
            seen, read = observations.get(agent), self._readers[i]
            if seen is None:
                raise UserError(
                    f"{self.task}: no observation of agent {agent} at step {self.t}, expected one "
                    "of every agent that has acted"
                )
            value = read.read(seen)
            if value.shape != read.shape:
                raise UserError(
                    f"{self.task}: agent {agent} observes an array of shape {value.shape}, its "
                    f"space says {read.shape}"
                )
            self._check_bytes(f"agent {agent} observes", value, obs.dtype)
            obs[i].reshape(-1)[: value.size] = value.reshape(-1)
            if agent in live and self.layout.choices:
                legal = seen["action_mask"] if read.has_mask else _of_info(infos, agent)
                if legal is not None:
                    self._write_mask(agent, list(_parts(legal)), mask[i])

    def _write_state(self, now: Arrays) -> None:
        if self.layout.state_shape is None:
            return
        try:
            state = np.asarray(self.env.state())
        except Exception as error:
            if now["terminated"]:  # nothing reads it, and some cannot tell what is gone
                return
            raise UserError(
                f"{self.task}: at step {self.t} state() {raised(error)}; to do without it: "
                "--task-settings global_state observations"
            ) from error
        if state.shape != self.layout.state_shape:
            raise UserError(
                f"{self.task}: state() has shape {state.shape} at step {self.t}, expected "
                f"{self.layout.state_shape} as at the start"
            )
        self._check_bytes("state() has", state, now["global_state"].dtype)
        now["global_state"][...] = state

    def _check_bytes(self, what: str, value: np.ndarray, dtype: np.dtype) -> None:
        """Refuses what the bytes that an environment says it shows cannot hold."""
        if dtype != np.uint8 or value.dtype in (np.uint8, np.bool_):
            return
        wrong = ~((value >= 0) & (value <= 255) & (value == np.rint(value)))
        if wrong.any():
            raise UserError(
                f"{self.task}: {what} {value[wrong][0]:g} at step {self.t}, expected whole numbers "
                "from 0 to 255, since its type is said to be uint8"
            )

    def _write_mask(self, agent: Any, parts: list[np.ndarray], mask: np.ndarray) -> None:
        """An agent's own mask: one for each choice, or all in a row."""
        choices = self.layout.actions[self._index[agent]].choices
        sizes, legal = tuple(map(len, parts)), np.concatenate([np.zeros(0, bool), *parts])
        of_choices = np.split(legal, np.cumsum(choices)[:-1])
        fits = len(legal) == sum(choices) and (sizes == choices or len(sizes) != len(choices))
        if not fits or not all(part.any() for part in of_choices):
            what = "no legal action" if fits else f"{' + '.join(map(str, sizes)) or 0} entries"
            each = " in each choice" if len(choices) > 1 else ""
            raise UserError(
                f"{self.task}: the action mask of agent {agent} has {what} at step {self.t}, "
                f"expected {' + '.join(map(str, choices))}, and one that is legal{each}"
            )
        for start, part in zip(self._starts, of_choices, strict=False):  # it may lack some
            mask[start : start + len(part)] = part

    def _check_known(self, agents: Any) -> None:
        for agent in agents:
            if agent not in self._index:
                raise UserError(
                    f"{self.task}: agent {shown(agent)} is none of possible_agents "
                    f"{shown(list(self.layout.agents))}; agents that come and go cannot be trained"
                )

    def _check_length(self) -> None:
        if not self.layout.ends:
            raise UserError(
                f"{self.task}: an episode goes on after {self.t} steps, the most according to the "
                "environment's own max_cycles or max_steps; say what it is: --task-settings "
                "horizon STEPS"
            )


def _of_info(infos: Any, agent: Any) -> Any:
    info = infos.get(agent) if isinstance(infos, Mapping) else None
    return info.get("action_mask") if isinstance(info, Mapping) else None


def _parts(legal: Any) -> Iterator[np.ndarray]:
    """The arrays in a mask: one for each choice, if it is a tuple of such."""
    if isinstance(legal, tuple | list):
        for part in legal:
            yield from _parts(part)
    else:
        yield np.asarray(legal, bool).reshape(-1)
