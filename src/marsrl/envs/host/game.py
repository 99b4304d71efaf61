"""One copy of a `ParallelEnv`, played into arrays; needs no JAX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from marsrl.envs.host.layout import Layout, reader
from marsrl.envs.host.source import values_of
from marsrl.errors import UserError, raised, reason, shown

Arrays = Mapping[str, np.ndarray]
"""What a time step is, for one environment: see `Layout.outputs`."""

_NUMBERS = (int, float, np.number, np.bool_)


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
        self.t = 0
        result = self.env.reset(seed=seed)
        observations, infos = self._by_agent("reset", result, "observations")
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
        result = self.env.step(actions)
        self.t += 1
        observations, rewards, terminations, truncations, infos = self._by_agent(
            "step", result, "observations", "rewards", "terminations", "truncations"
        )
        terminated = {a for a in acted if self._number("termination", a, terminations)}
        truncated = {a for a in acted if self._number("truncation", a, truncations)} - terminated
        left = set(self.env.agents) - terminated - truncated
        self._check_known(left)
        if not left <= set(acted):
            raise UserError(
                f"{self.task}: agent {shown(min(left - set(acted), key=str))} joins an episode at "
                f"step {self.t}, expected those that it began with"
            )
        self._live = live = [agent for agent in acted if agent in left]
        stopped = [agent for agent in acted if agent in truncated]
        if live and self.t >= self.layout.max_steps:
            self._check_length()
            self._live, live, stopped = [], [], [*live, *stopped]
        over = not live
        late = over and bool(stopped)
        shown_agents = live or stopped or acted
        self._write(now, observations, infos, shown_agents, live)
        reward = now["reward"]
        reward[...] = 0.0
        for agent in acted:
            paid = self._number("reward", agent, rewards)
            if paid is None and agent in shown_agents:
                raise UserError(
                    f"{self.task}: no reward of agent {agent} at step {self.t}, expected one of "
                    "every agent that has acted"
                )
            self._put(f"agent {agent} is paid", np.asarray(paid or 0.0), reward[index[agent], ...])
        if self.layout.team_reward:
            reward[...] = reward.mean()
        now["terminated"][...] = over and not late
        now["truncated"][...] = late
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
            legal = None
            try:
                value = read.read(seen)
                if agent in live and self.layout.choices:
                    legal = seen["action_mask"] if read.has_mask else _of_info(infos, agent)
            except Exception as error:  # whatever it is that is no such thing
                raise UserError(
                    f"{self.task}: agent {agent} observes {shown(seen)} at step {self.t}, expected "
                    f"what its space holds, {shown(self.env.observation_space(agent))} "
                    f"({reason(error)})"
                ) from error
            if value.shape != read.shape:
                raise UserError(
                    f"{self.task}: agent {agent} observes an array of shape {value.shape}, its "
                    f"space says {read.shape}"
                )
            place = obs[i].reshape(-1)[: value.size]
            self._put(f"agent {agent} observes", value.reshape(-1), place)
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
        self._put("state() has", state, now["global_state"])

    def _by_agent(self, call: str, result: Any, *names: str) -> Sequence[Any]:
        """What a call has returned: dictionaries by agent, and infos."""
        values = values_of(self.task, call, result, *names, "infos")
        for name, value in zip(names, values, strict=False):  # infos may be anything
            if not isinstance(value, (dict, Mapping)):  # a dict is told faster
                raise UserError(
                    f"{self.task}: {call} returns {shown(value)} as {name}, expected a dictionary "
                    "with an entry for each agent"
                )
        return values

    def _number(self, what: str, agent: Any, of_agents: Mapping[Any, Any]) -> Any:
        """An agent's number, which may be in an array of one; None if it has none."""
        value = of_agents.get(agent)
        if value is None or isinstance(value, _NUMBERS):
            return value  # nearly always, and at each step
        try:
            return float(np.asarray(value).item())
        except Exception as error:  # there are arrays that NumPy cannot read
            what = f"the {what} of agent {agent} is"
            raise self._unfit(what, shown(value), "a single number or bool") from error

    def _put(self, what: str, value: np.ndarray, place: np.ndarray) -> None:
        """Writes numbers; refuses what is none, and what the type of the place cannot hold."""
        if value.dtype == place.dtype:  # nothing to check, at each step
            place[...] = value
            return
        try:
            if place.dtype == np.uint8 and value.dtype not in (np.uint8, np.bool_):
                wrong = ~((value >= 0) & (value <= 255) & (value == np.rint(value)))
                if wrong.any():
                    expected = "whole numbers from 0 to 255, since its type is said to be uint8"
                    raise self._unfit(what, f"{value[wrong][0]:g}", expected)
            with np.errstate(over="raise"):
                place[...] = value
        except FloatingPointError as error:
            largest = max(value[np.isfinite(value)].tolist(), key=abs)
            expected = "numbers of float32, which end at 3.4e38"
            raise self._unfit(what, f"{largest:g}", expected) from error
        except (TypeError, ValueError) as error:
            raise self._unfit(what, shown(value), "numbers") from error

    def _unfit(self, what: str, found: str, expected: str) -> UserError:
        return UserError(f"{self.task}: {what} {found} at step {self.t}, expected {expected}")

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
