"""The environments that compiled programs call, and what keeps their steps in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from marsrl.envs.host.crew import Crew
from marsrl.envs.host.layout import Layout
from marsrl.envs.host.memory import STARTS
from marsrl.envs.host.source import Source
from marsrl.errors import UserError, raised
from marsrl.types import Array


class HostState(NamedTuple):
    """A ticket for an environment that lives in another process.

    The environment itself cannot be copied, so each ticket is good for one step, which gives the
    next ticket. That makes every step depend on the one before it: the compiler can neither
    reorder nor drop one.

    Attributes:
        row: () int32, which of those that are played together.
        moment: () int32, how often they have all been moved.
    """

    row: Array
    moment: Array


class Bank:
    """The environments behind the tickets of one place in a program, as many as its batch has.

    Its methods are what compiled programs call. They must not raise, for what happens then is
    undefined: the first fault is kept for `check`, and from then on every episode is over.
    """

    def __init__(self, source: Source, layout: Layout) -> None:
        self._new_crew: Callable[[int], Crew] = partial(Crew, source, layout)
        self._outputs = layout.outputs
        self._crew: Crew | None = None
        self._moment = np.zeros(0, np.int32)
        self._over = np.zeros(0, bool)
        self._action: np.ndarray | None = None
        self.failure: UserError | None = None

    def use(self, new_crew: Callable[[int], Any]) -> None:
        """Has others than a `Crew` play, who are made for a number of environments."""
        self._new_crew = new_crew

    def reset(self, seed: np.ndarray) -> dict[str, np.ndarray]:
        """Fresh starts; seeds (...,)."""

        def act() -> Crew:
            crew = self._of_size(seed.size)
            crew.reset(seed.reshape(-1))
            latest = self._moment.max(initial=-1)
            # two on: a ticket from before is then neither of now nor of the step that led here
            self._moment = np.full(seed.size, latest + 2, np.int32)
            self._over = np.zeros(seed.size, bool)
            self._action = None
            return crew

        seed = np.asarray(seed)
        return self._guarded(act, seed.shape)

    def step(self, state: HostState, action: np.ndarray) -> dict[str, np.ndarray]:
        """One step of every episode that is not over."""
        return self._step(state, action, None)

    def step_and_restart(
        self, state: HostState, action: np.ndarray, seed: np.ndarray
    ) -> dict[str, np.ndarray]:
        """One step of every environment, and fresh starts of those whose episode it has ended."""
        return self._step(state, action, np.asarray(seed))

    def play_on(self, state: HostState, seed: np.ndarray) -> dict[str, np.ndarray]:
        """Random steps of every environment from its start."""

        def act() -> Crew:
            if not self._valid(state, None).all():
                raise _used_twice()
            assert self._crew is not None
            self._crew.play_on(np.asarray(seed).reshape(-1))
            self._moment += 2  # as after a start
            self._action = None
            return self._crew

        return self._guarded(act, np.shape(seed), ("length",))

    def check(self) -> None:
        """Raises the first fault, once."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Ends the processes."""
        if self._crew is not None:
            self._crew.close()
        self._crew = None

    def _step(
        self, state: HostState, action: np.ndarray, seed: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        batch = np.shape(state.row)

        def act() -> Crew:
            flat = np.asarray(action).reshape((len(self._moment), *np.shape(action)[len(batch) :]))
            moving = self._valid(state, flat)
            crew = self._crew
            assert crew is not None
            crew.shared["reward"][moving & self._over] = 0.0
            crew.step(moving & ~self._over, flat, None if seed is None else seed.reshape(-1))
            self._moment += moving
            self._action = flat.copy()
            if seed is None:
                self._over |= crew.shared["terminated"] | crew.shared["truncated"]
            return crew

        more = () if seed is None else tuple(f"start/{n}" for n in STARTS if n in self._outputs)
        return self._guarded(act, batch, more)

    def _valid(self, state: HostState, action: np.ndarray | None) -> np.ndarray:
        """Which environments are to be moved, (E,) bool.

        The others have been moved by this very call before, and it is repeated: a loop over seeds
        goes on for those that are through until the last of them is.
        """
        row, moment = (np.asarray(x).reshape(-1) for x in state)
        known = self._crew is not None and np.array_equal(row, np.arange(len(self._moment)))
        if known:
            moving, again = moment == self._moment, moment == self._moment - 1
            if action is not None and self._action is not None and again.any():
                again &= (action == self._action).reshape(len(action), -1).all(-1)
            if bool((moving | again).all()):
                return moving
        raise _used_twice()

    def _of_size(self, num_envs: int) -> Crew:
        """The crew, a new one if the number of environments has changed."""
        if self._crew is None or self._crew.num_envs != num_envs:
            self.close()
            self._crew = self._new_crew(num_envs)
        return self._crew

    def _guarded(
        self, act: Callable[[], Crew], batch: tuple[int, ...], more: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """What the environments wrote, (*batch, ...); zeros and an ended episode after a fault."""
        names = (*self._outputs, *more)
        if self.failure is None:
            try:
                shared = act().shared
                found = {name: shared[name] for name in names} | {
                    "row": np.arange(len(self._moment), dtype=np.int32),
                    "moment": self._moment,
                }
                # copies: a device may still read when the next command is given
                return {n: x.reshape((*batch, *x.shape[1:])).copy() for n, x in found.items()}
            except UserError as error:
                self.failure = error
            except Exception as error:  # nothing may get out of here
                self.failure = UserError(f"environments outside of JAX {raised(error)}")
            self.close()
        parts = self._outputs | dict.fromkeys(("length", "row", "moment"), ((), "int32"))
        nothing = {
            name: np.zeros((*batch, *shape), dtype)
            for name in (*names, "row", "moment")
            for shape, dtype in [parts[name.removeprefix("start/")]]
        }
        return nothing | {"terminated": np.ones(batch, bool)}


def _used_twice() -> UserError:
    return UserError(
        "the state of an environment outside of JAX was used a second time; such environments "
        "move on with every step, and cannot go back"
    )
