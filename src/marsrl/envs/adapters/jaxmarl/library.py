"""JaxMARL itself: imported and constructed quietly, and asked for its clocks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from marsrl.envs.limits import MAX_STEPS
from marsrl.errors import UserError, check_choice, check_int, reason
from marsrl.extras import quiet, require

_SCENARIOS = ("scenario", "jaxmarl.environments.smax.smax_env", "MAP_NAME_TO_SCENARIO")
_BY_NAME = {
    "SMAX": _SCENARIOS,
    "HeuristicEnemySMAX": _SCENARIOS,
    "overcooked": ("layout", "jaxmarl.environments", "overcooked_layouts"),
    "overcooked_v2": ("layout", "jaxmarl.environments", "overcooked_v2_layouts"),
}
"""Settings that the library takes as an object, and where it keeps the objects by name."""


def library() -> ModuleType:
    """Imports JaxMARL.

    Raises:
        UserError: it is not installed.
    """
    # it imports brax with the standard streams on a file that it then closes, and the log handlers
    # made meanwhile would keep that file
    with suppress(UserError):  # exports do without brax
        require("brax.envs", "jaxmarl")
    return require("jaxmarl", "jaxmarl")


def construct(name: str, /, **settings: Any) -> Any:
    """Makes an environment of the library, which takes scenarios and layouts by name here.

    Raises:
        UserError: the library fails, or does not know the scenario or layout.
    """
    make = library().make
    setting, module, table = _BY_NAME.get(name, ("", "", ""))
    if setting in settings:
        known = getattr(require(module, "jaxmarl"), table)
        check_choice(setting, settings[setting], known)
        settings[setting] = known[settings[setting]]
    try:
        with quiet(), _quiet_mujoco():
            return make(name, **settings)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign constructor may raise
        raise UserError(f"JaxMARL cannot make {name}: {reason(error)}") from error


@contextmanager
def _quiet_mujoco() -> Iterator[None]:
    # its warnings go past Python, and into a file in the working directory
    mujoco = require("mujoco", "jaxmarl")
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


def setting_names(env: Any) -> set[str]:
    """The keyword arguments that the constructors of an environment's classes name.

    Some of them swallow whatever else they are given.
    """
    constructors = [cls.__init__ for cls in type(env).__mro__]
    names = {name for init in constructors for name in inspect.signature(init).parameters}
    return names - {"self", "args", "kwargs"}


def clock(env: Any) -> int | None:
    """The step at which the clock of an environment ends an episode; None: it has no clock.

    Raises:
        UserError: the clock was set to what is no whole number from 1.
    """
    if hasattr(env, "num_inner_steps"):  # several games in a row, all of one length
        return _count(env, "num_inner_steps") * _count(env, "num_outer_steps")
    if getattr(env, "max_steps", None) is None:
        return None
    family = type(env).__module__.split(".")[2]
    # MPE and SMAX compare the clock before they move it
    return _count(env, "max_steps") + (family in ("mpe", "smax"))


def _count(env: Any, name: str) -> int:
    count = getattr(env, name)
    check_int(name, count, 1, most=MAX_STEPS)
    return count


def longest_game(env: Any) -> int | None:
    """A bound on the turns of Hanabi, the one game that must end without a clock; else None.

    Every play or discard takes a card off the deck, and one round follows the last; every hint
    costs a token, and only a discard or a finished colour gives one back.
    """
    if not hasattr(env, "max_info_tokens"):
        return None
    played = int(env.deck_size) - env.num_agents * env.hand_size + env.num_agents + 1
    return 2 * played + env.max_info_tokens + env.num_colors
