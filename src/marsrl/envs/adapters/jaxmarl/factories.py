"""JaxMARL's environments: MPE, SMAX, MABrax, and every other that it registers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from marsrl.envs.adapters.jaxmarl.base import JaxMARL, TeamReward
from marsrl.envs.adapters.jaxmarl.families import MABrax, Particles, Smax
from marsrl.envs.adapters.jaxmarl.library import (
    clock,
    construct,
    library,
    longest_game,
    setting_names,
)
from marsrl.envs.base import Environment
from marsrl.envs.limits import MAX_AGENTS, MAX_STEPS
from marsrl.errors import (
    UserError,
    check_bool,
    check_choice,
    check_int,
    check_number,
    near_misses,
    reason,
    shown,
)
from marsrl.extras import require

ActionType = Literal["continuous", "discrete"]
AttackMode = Literal["closest", "random"]
Homogenisation = Literal["max", "concat"]
Backend = Literal["positional", "generalized", "spring"]

ROBOTS = ("ant_4x2", "halfcheetah_6x1", "hopper_3x1", "humanoid_9|8", "walker2d_2x3")


def mpe_spread(
    *,
    num_agents: int = 3,
    num_landmarks: int | None = None,
    local_ratio: float = 0.5,
    action_type: ActionType = "continuous",
    max_steps: int = 25,
    team_reward: TeamReward = "mean",
) -> Environment:
    """Makes simple spread, a particle environment: cover the landmarks and do not collide.

    - Observation, (N, 4 + 2 L + 4 (N - 1)): own velocity and position, the offsets of the `L`
      landmarks and of the other agents, and the others' messages, which are always zero.
    - Global state: all observations in a row.
    - Action: from 0 to 1 each for nothing (masked, it has no effect), left, right, down, up; or
      one of the five.
    - Reward of an agent: `-local_ratio` for each of its collisions, and `-(1 - local_ratio)` times
      the distance to the nearest agent, summed over landmarks.
    - End: `truncated` at step `max_steps + 1`, since the library reads its clock before moving it.

    Args:
        num_agents: `N`.
        num_landmarks: `L`; None: as many as agents.
        local_ratio: weight of the agent's own collisions, from 0 to 1.
        action_type: "continuous" or "discrete".
        max_steps: the library's setting, one below the horizon.
        team_reward: "mean": every agent gets the mean over agents. "none": its own.

    Raises:
        UserError: a value out of range, or JaxMARL is not installed.
    """
    check_int("num_agents", num_agents, 1, most=MAX_AGENTS)
    num_landmarks = num_agents if num_landmarks is None else num_landmarks
    check_int("num_landmarks", num_landmarks, 1, most=MAX_AGENTS)
    check_int("max_steps", max_steps, 1, most=MAX_STEPS)
    check_number("local_ratio", local_ratio, 0, 1)
    check_choice("action_type", action_type, get_args(ActionType))
    check_choice("team_reward", team_reward, get_args(TeamReward))
    env = construct(
        "MPE_simple_spread_v3",
        num_agents=num_agents,
        num_landmarks=num_landmarks,
        local_ratio=local_ratio,
        action_type=action_type.capitalize(),
        max_steps=max_steps,
    )
    return Particles(env, max_steps + 1, max_steps + 1, team_reward)


def smax(
    *,
    scenario: str,
    see_enemy_actions: bool = True,
    walls_cause_death: bool = True,
    attack_mode: AttackMode = "closest",
    max_steps: int = 100,
) -> Environment:
    """Makes SMAX, a battle in the manner of StarCraft against a scripted team.

    `N` allies fight `M` enemies. `HeuristicEnemySMAX` of the library.

    - Observation, (N, 13 (N - 1 + M) + 10): features of every other unit in sight, then the
      agent's own; zeros for a dead agent.
    - Global state, (12 (N + M),): every unit's health, position, cooldown and type, then the
      teams and the types; not normalised.
    - Action: north, east, south, west, stop, or shoot an enemy in range; a dead agent can only
      stop, and its `agent_mask` is False.
    - Reward, the same for all: the share of the enemies' health taken in the step, and 1 for a win.
    - End: `terminated` when a side is dead, `truncated` at step `max_steps + 1` otherwise, since
      the library reads its clock before moving it.
    - Metric "won": all enemies are dead and an ally is not.

    Args:
        scenario: a map of the library, such as "2s3z".
        see_enemy_actions: whether observations show what enemies do.
        walls_cause_death: whether a unit dies at the edge of the map.
        attack_mode: whom the scripted team shoots, the "closest" or a "random" one in range.
        max_steps: the library's setting, one below the horizon.

    Raises:
        UserError: an unknown scenario, a value out of range, or JaxMARL is not installed.
    """
    check_int("max_steps", max_steps, 1, most=MAX_STEPS)
    check_bool("see_enemy_actions", see_enemy_actions)
    check_bool("walls_cause_death", walls_cause_death)
    check_choice("attack_mode", attack_mode, get_args(AttackMode))
    env = construct(
        "HeuristicEnemySMAX",
        scenario=scenario,
        see_enemy_actions=see_enemy_actions,
        walls_cause_death=walls_cause_death,
        attack_mode=attack_mode,
        max_steps=max_steps,
    )
    return Smax(env, max_steps + 1, max_steps + 1)


def mabrax(
    *,
    robot: str,
    episode_length: int = 1000,
    homogenisation_method: Homogenisation = "max",
    backend: Backend = "positional",
) -> Environment:
    """Makes MABrax: a brax robot whose joints are shared out among `N` agents.

    - Observation, (N, O): the parts of the robot's observation that the library gives an agent.
    - Global state: the robot's observation.
    - Action: torques from -1 to 1; the dimensions that an agent does not have are masked.
    - Reward: the robot's, the same for all.
    - End: `terminated` when the robot falls (never for halfcheetah), `truncated` at step
      `episode_length` if it has not.

    Oddities of the library, which belong to the benchmark: with "max", the own part of the
    observation overwrites the end of the one-hot agent index in front of it; indices for
    humanoid and halfcheetah exceed what brax observes, and read its last entry instead.

    Args:
        robot: "ant_4x2", "halfcheetah_6x1", "hopper_3x1", "humanoid_9|8" or "walker2d_2x3".
        episode_length: the horizon.
        homogenisation_method: "max": observations and actions as wide as the widest agent's.
            "concat": as wide as the whole robot's, with zeros for what is not the agent's.
        backend: brax's physics.

    Raises:
        UserError: an unknown robot, a value out of range, or JaxMARL is not installed.
    """
    check_choice("robot", robot, ROBOTS)
    check_int("episode_length", episode_length, 1, most=MAX_STEPS)
    check_choice("homogenisation_method", homogenisation_method, get_args(Homogenisation))
    check_choice("backend", backend, get_args(Backend))
    env = construct(
        robot,
        episode_length=episode_length,
        homogenisation_method=homogenisation_method,
        backend=backend,
        auto_reset=False,
    )
    return MABrax(env, episode_length, episode_length)


def any_jaxmarl(name: str, /, **settings: Any) -> Environment:
    """Makes any environment that JaxMARL registers.

    Args:
        name: its name there, such as "overcooked".
        settings: keyword arguments of its constructor; a scenario of SMAX and a layout of
            Overcooked by name. For "HeuristicEnemySMAX" those of `smax`, and for robots those of
            `mabrax` but `robot`. For all others also two of ours: `horizon`, an earlier end, or
            the end of an environment without a clock; and `team_reward`, "mean" (default) or
            "none", which leaves every agent its own and is the choice for games between rivals.

    Raises:
        UserError: an unknown name or setting, an environment without a clock and no horizon given,
            one that does not fit our interface, or a library that is not installed.
    """
    if name not in (known := library().registered_envs):
        raise UserError(f"unknown JaxMARL environment {shown(name)}{near_misses(name, known)}")
    if name == "HeuristicEnemySMAX":
        return _call(name, smax, settings)
    if name in ROBOTS:
        return _call(name, mabrax, settings, robot=name)
    return _adapt(name, **settings)


def _call(
    name: str, factory: Callable[..., Environment], settings: dict[str, Any], **fixed: Any
) -> Environment:
    """Calls a factory once its signature allows it; what is fixed is no setting."""
    signature = inspect.signature(factory)
    _known_settings(name, settings, signature.parameters.keys() - fixed.keys())
    try:
        signature.bind(**fixed, **settings)
    except TypeError as error:
        raise UserError(f"jaxmarl:{name}: {error}") from error
    return factory(**fixed, **settings)


def _adapt(
    name: str, /, horizon: int | None = None, team_reward: TeamReward = "mean", **settings: Any
) -> Environment:
    check_choice("team_reward", team_reward, get_args(TeamReward))
    if settings:
        _known_settings(name, settings, setting_names(construct(name)))
        for setting, value in settings.items():
            if isinstance(value, int) and not isinstance(value, bool):
                most = MAX_AGENTS if setting.startswith("num_") else MAX_STEPS
                check_int(setting, value, -MAX_STEPS, most=most)
    env = construct(name, **settings)
    end = clock(env)
    if horizon is None:
        horizon = end or longest_game(env)
    if horizon is None:
        raise UserError(f"jaxmarl:{name} has no clock of its own; expected a horizon, such as 100")
    check_int("horizon", horizon, 1, most=MAX_STEPS)
    if end is not None and horizon > end:
        raise UserError(f"horizon is {horizon}, but jaxmarl:{name} ends after {end} steps")
    particles = require("jaxmarl.environments.mpe.simple", "jaxmarl").SimpleMPE
    adapter = Particles if isinstance(env, particles) else JaxMARL
    adapted = adapter(env, horizon, end, team_reward)
    try:
        _ = adapted.spec
    except UserError:
        raise
    except Exception as error:  # whatever a foreign environment may raise
        raise UserError(f"jaxmarl:{name} does not fit the interface: {reason(error)}") from error
    return adapted


def _known_settings(name: str, settings: Iterable[str], known: Iterable[str]) -> None:
    for setting in settings:
        if setting not in known:
            tail = near_misses(setting, sorted(known))
            raise UserError(f"jaxmarl:{name} has no setting {shown(setting)}{tail}")
