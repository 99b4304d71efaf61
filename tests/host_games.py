"""Small games with PettingZoo's interface, and one of them in JAX, step for step the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from marsrl.types import Array, Discrete, EnvSpec, TimeStep

WALK, CART = "walk", "cart"


class Climb(ParallelEnv):
    """Two climb. `walk` has three actions, of which the last is illegal at odd steps, and sees
    three numbers; `cart` has two actions, sees two, and falls off (terminates) at height 3.

    It terminates when `walk` is at height 5, and is truncated after `max_cycles` steps.
    """

    metadata: ClassVar = {"name": "climb"}

    def __init__(self, max_cycles: int = 6, render_mode: str | None = None) -> None:
        self.possible_agents = [WALK, CART]
        self.render_mode = render_mode
        self.max_cycles = max_cycles

    def observation_space(self, agent):
        if agent == CART:
            return spaces.Box(-10, 10, (2,), np.float32)
        seen = spaces.Box(-10, 10, (3,), np.float32)
        return spaces.Dict({"observation": seen, "action_mask": spaces.MultiBinary(3)})

    def action_space(self, agent):
        return spaces.Discrete(3 if agent == WALK else 2)

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.start, self.t, self.height = seed % 7, 0, [0, 0]
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        acted = self.agents
        assert set(actions) == set(acted)
        self.t += 1
        for i, agent in enumerate(self.possible_agents):
            if agent in actions:
                assert self.action_space(agent).contains(actions[agent])
                self.height[i] += actions[agent]
        ended = {WALK: self.height[0] >= 5, CART: self.height[1] >= 3 or self.height[0] >= 5}
        terminations = {a: ended[a] for a in acted}
        truncations = {a: self.t >= self.max_cycles and not ended[a] for a in acted}
        rewards = {a: 0.1 * self.height[i] for i, a in enumerate((WALK, CART)) if a in acted}
        self.agents = [a for a in acted if not (terminations[a] or truncations[a])]
        return self._seen(acted), rewards, terminations, truncations, {a: {} for a in acted}

    def state(self):
        return np.array([*self.height, self.t, self.start]) * 0.25

    def render(self):
        assert self.render_mode == "rgb_array"
        return np.full((6, 8, 3), 30 * self.height[0], np.uint8)

    def _seen(self, agents=(WALK, CART)):
        of_walk = np.array([*self.height, self.start], np.float32) * np.float32(0.25)
        of_cart = np.array([self.height[1], self.t], np.float32) * np.float32(0.25)
        mask = np.array([1, 1, self.t % 2 == 0], np.int8)
        seen = {WALK: {"observation": of_walk, "action_mask": mask}, CART: of_cart}
        return {agent: seen[agent] for agent in agents}


class ClimbState(NamedTuple):
    start: Array
    t: Array
    height: Array
    live: Array


@dataclass(frozen=True)
class ClimbInJax:
    """`Climb` for the interface of this library, with its seeds."""

    max_cycles: int = 6
    shared_reward: bool = True

    @property
    def spec(self):
        return EnvSpec(2, (3,), (4,), Discrete(3), self.max_cycles, self.shared_reward)

    def reset(self, key):
        seed = jax.random.bits(key, (), jnp.uint32) >> 1
        start = (seed % 7).astype(jnp.int32)
        state = ClimbState(start, jnp.int32(0), jnp.zeros(2, jnp.int32), jnp.ones(2, bool))
        return state, self._time_step(state, state.live, jnp.zeros(2, bool), jnp.zeros(2))

    def step(self, key, state, action):
        height = state.height + jnp.where(state.live, action, 0)
        t = state.t + 1
        ended = jnp.stack([height[0] >= 5, (height[1] >= 3) | (height[0] >= 5)])
        stopped = state.live & ~ended & (t >= self.max_cycles)
        live = state.live & ~ended & ~stopped
        reward = jnp.where(state.live, 0.1 * height, 0.0)
        after = ClimbState(state.start, t, height, live)
        # at the end those count that were in it to the end
        counts = jnp.where(live.any(), live, jnp.where(stopped.any(), stopped, state.live))
        return after, self._time_step(after, counts, stopped, reward)

    def _time_step(self, state, counts, stopped, reward):
        height, numbers = state.height, [state.height[1], state.t, state.height[0] * 0]
        seen = jnp.stack([jnp.stack([*height, state.start]), jnp.stack(numbers)])
        over, odd = ~state.live.any(), state.t % 2 == 1
        mask = jnp.array([[True, True, True], [True, True, False]])
        mask = mask.at[0, 2].set(~(odd & state.live[0]))
        return TimeStep(
            obs=jnp.where(counts[:, None], seen, 0).astype(jnp.float32) * 0.25,
            global_state=jnp.stack([*height, state.t, state.start]).astype(jnp.float32) * 0.25,
            action_mask=mask,
            agent_mask=counts,
            reward=jnp.full(2, reward.mean()) if self.shared_reward else reward,
            terminated=over & ~stopped.any(),
            truncated=over & stopped.any(),
            metrics={},
        )


class Simple(ParallelEnv):
    """One number is seen, nothing happens, and three steps are an episode; to be varied."""

    metadata: ClassVar = {"name": "simple"}
    agents_by_step: tuple = (("a", "b"),) * 3
    max_cycles = 3

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.agents_by_step[0])
        return self._of_all(np.zeros(1, np.float32)), {}

    def step(self, actions):
        self.actions = actions
        self.t += 1
        over = self.t >= len(self.agents_by_step)
        results = [self._of_all(x) for x in (np.zeros(1, np.float32), 1.0, False, over)]
        self.agents = [] if over else list(self.agents_by_step[self.t])
        return (*results, {})

    def _of_all(self, value):
        return dict.fromkeys((*self.agents, *self.possible_agents), value)


class Counting(Simple):
    """One sees the step, the episode's length and its seed; lengths differ."""

    max_cycles = 15

    def observation_space(self, agent):
        return spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        self.episode = 3 + seed % 12, seed % 1000
        return self._seen(), {}

    def step(self, actions):
        self.t += 1
        over = self.t == self.episode[0]
        results = [self._of_all(x) for x in (1.0, over, False)]
        seen = self._seen()
        self.agents = [] if over else self.agents
        return seen, *results, {}

    def _seen(self):
        return self._of_all(np.array([self.t, *self.episode], np.float32))


class Ending(Simple):
    """In the first step agents terminate, or are truncated, or both; those stay that neither do."""

    def __init__(self, terminated, truncated) -> None:
        super().__init__()
        self.terminated, self.truncated = terminated, truncated

    def step(self, actions):
        seen, rewards, *_ = super().step(actions)
        ends = [{a: a in those for a in self.agents} for those in (self.terminated, self.truncated)]
        self.agents = [a for a in self.agents if a not in self.terminated | self.truncated]
        return seen, rewards, *ends, {}


class Returning(Simple):
    """What one of its calls returns is put through a function."""

    def __init__(self, call, change) -> None:
        super().__init__()
        self.call, self.change = call, change

    def reset(self, seed=None, options=None):
        result = super().reset(seed)
        return self.change(*result) if self.call == "reset" else result

    def step(self, actions):
        result = super().step(actions)
        return self.change(*result) if self.call == "step" else result


class Joining(Simple):
    agents_by_step = (("a",), ("a", "b"), ("a", "b"))


class Strange(Simple):
    agents_by_step = (("a", "b"), ("a", "c"))


class Endless(Simple):
    agents_by_step = (("a", "b"),) * 5


class Boundless(Simple):
    def __init__(self) -> None:
        pass


class Mixed(Simple):
    def action_space(self, agent):
        return spaces.Discrete(2) if agent == "a" else spaces.Box(-1, 1, (1,), np.float32)


class Parameterised(Simple):
    def action_space(self, agent):
        return spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (1,), np.float32)))


class Unbounded(Simple):
    def action_space(self, agent):
        return spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Signals(Simple):
    """Several choices at once: `a` moves and signals, `b` has three switches, `c` one choice.

    Each sees what it did last. What is legal is told in each of the ways that there are, and
    nothing else may be done.
    """

    agents_by_step = (("a", "b", "c"),) * 6
    max_cycles = 6
    of_agents: ClassVar = {
        "a": spaces.MultiDiscrete([3, 2], start=[2, -1]),
        "b": spaces.MultiBinary(3),
        "c": spaces.Discrete(4, start=1),
    }
    choices: ClassVar = {"a": (3, 2), "b": (2, 2, 2), "c": (4,)}

    def __init__(self) -> None:
        self.possible_agents = [*self.of_agents]

    def observation_space(self, agent):
        seen = spaces.Box(-9, 9, (3,), np.float32)
        mask = spaces.MultiBinary(6)
        return spaces.Dict({"observation": seen, "action_mask": mask}) if agent == "b" else seen

    def action_space(self, agent):
        return self.of_agents[agent]

    def legal(self):
        odd = self.t % 2
        return {
            "a": (np.int8([1, odd, 1 - odd]), np.int8([odd, 1])),
            "b": np.int8([1, 1, 1, 0, 1 - odd, 1]),
            "c": np.int8([0, 1, odd, 1]),
        }

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self._told({})

    def step(self, actions):
        for agent, mask in self.legal().items():
            space = self.of_agents[agent]
            assert space.contains(actions[agent])
            chosen = np.ravel(actions[agent]) - getattr(space, "start", 0)
            masks = np.split(np.hstack(mask), np.cumsum(self.choices[agent])[:-1])
            assert all(legal[k] for legal, k in zip(masks, chosen, strict=True))
        results = super().step(actions)
        seen, infos = self._told(actions)
        return seen, *results[1:4], infos

    def _told(self, actions):
        """Observations and infos."""
        seen = {agent: np.zeros(3, np.float32) for agent in self.possible_agents}
        for agent, action in actions.items():
            seen[agent][: np.size(action)] = action
        legal = self.legal()
        seen["b"] = {"observation": seen["b"], "action_mask": legal["b"]}
        return seen, {agent: {"action_mask": legal[agent]} for agent in ("a", "c")}


class Dials(Simple):
    """A Box of whole numbers, and one of float64 whose bounds are no float32."""

    def action_space(self, agent):
        if agent == "a":
            return spaces.Box(0, 5, (2,), np.int16)
        return spaces.Box(0.1, 0.7, (2,), np.float64)

    def step(self, actions):
        assert all(self.action_space(agent).contains(actions[agent]) for agent in self.agents)
        return super().step(actions)


class Growing(Simple):
    def observation_space(self, agent):
        return spaces.Sequence(spaces.Discrete(5))


class Forbidding(Simple):
    def reset(self, seed=None, options=None):
        seen, _ = super().reset(seed)
        return seen, {"a": {"action_mask": np.zeros(2, np.int8)}}


class Stateless(Simple):
    """Has no state any more from its second step on, in which it may terminate."""

    def __init__(self, dies=False) -> None:
        super().__init__()
        self.dies = dies

    def step(self, actions):
        seen, rewards, terminations, truncations, infos = super().step(actions)
        if self.dies and self.t == 2:
            self.agents = []
            terminations = self._of_all(True)
        return seen, rewards, terminations, truncations, infos

    def state(self):
        if self.t == 2:
            raise ArithmeticError("gone")
        return np.full(1, self.t, np.float32)


class Wrapped(Simple):
    """Keeps its clock where PettingZoo's SISL do."""

    max_cycles = None

    def __init__(self) -> None:
        super().__init__()
        self.env = Climb(max_cycles=6)


class Failing(Simple):
    """Raises in the 30th step: long after it has been tried."""

    agents_by_step = (("a", "b"),) * 40
    max_cycles = 40

    def step(self, actions):
        if self.t == 29:
            raise ArithmeticError("thirty is too much")
        return super().step(actions)


class Early(Simple):
    """Raises at once, in the call that is named."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call
        self.raise_in("making")

    def reset(self, seed=None, options=None):
        self.raise_in("reset")
        return super().reset(seed)

    def step(self, actions):
        self.raise_in("step")
        return super().step(actions)

    def raise_in(self, call):
        if call == self.call:
            raise KeyError("door")


class Exiting(Failing):
    def step(self, actions):
        if self.t == 29:
            import os

            os._exit(7)
        return super().step(actions)


class Overflowing(Simple):
    """Says that it shows bytes, and shows something else."""

    def observation_space(self, agent):
        return spaces.Box(0, 255, (1,), np.uint8)

    def step(self, actions):
        return (self._of_all(np.array([300.0])), *super().step(actions)[1:])


class Blurred(Simple):
    """Shows what is no number."""

    def step(self, actions):
        return (self._of_all(np.full(1, np.nan, np.float32)), *super().step(actions)[1:])


class Unpaid(Simple):
    """Forgets the reward of `b`, who is still there."""

    def step(self, actions):
        seen, rewards, *others = super().step(actions)
        return seen, {"a": rewards["a"]}, *others


class Leaving(Simple):
    """`b` leaves in the first step, and is not paid."""

    agents_by_step = (("a", "b"), ("a",), ("a",))

    def step(self, actions):
        seen, rewards, *others = super().step(actions)
        return seen, {"a": rewards["a"]}, *others


class Immense(Simple):
    def action_space(self, agent):
        return spaces.Box(-3e38, 3e38, (1,), np.float32)


class Blind(Simple):
    def observation_space(self, agent):
        return spaces.Dict({"action_mask": spaces.MultiBinary(2)})


class Robots(Simple):
    """Continuous: `a` has one dimension from 0 to 1, `b` a square from -2 to 4; seen in bytes."""

    def observation_space(self, agent):
        return spaces.Box(0, 255, (1,), np.uint8)

    def action_space(self, agent):
        if agent == "a":
            return spaces.Box(0, 1, (1,), np.float32)
        return spaces.Box(-2, 4, (2, 2), np.float32)

    def state(self):
        raise NotImplementedError


def no_environment():
    return 3
