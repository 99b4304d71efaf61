"""The configuration of a run: one frozen, validated dataclass."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from marsrl.errors import UserError, closest, near_misses, shown
from marsrl.loading import LONGEST, is_code
from marsrl.objectives import (
    OBJECTIVES,
    Objective,
    check_objective,
    default_eps,
    make_objective,
)

Core = Literal["gru", "ff"]
Activation = Literal["relu", "tanh", "gelu", "silu"]
KernelInit = Literal["normal", "orthogonal"]
CriticView = Literal["state", "obs", "both"]
InputNorm = Literal["none", "running", "layer"]
Sharing = bool | Literal["groups"]
"""True: all agents share parameters; False: none do; "groups": those of a group."""


@dataclass(frozen=True)
class Layout:
    """What may be spread over devices.

    Attributes:
        num_seeds: of the program.
        env_blocks: of each seed.
        devices: how many are asked for; None for as many as can be used.
    """

    num_seeds: int
    env_blocks: int
    devices: int | None

    @property
    def shapes(self) -> dict[int, tuple[int, int]]:
        """How each usable number of devices is laid out: over seeds, over environments of each."""
        seeds, blocks = _divisors(self.num_seeds), _divisors(self.env_blocks)
        return {s * e: (s, e) for s in seeds for e in blocks}  # the most seeds come last


@dataclass(frozen=True)
class Config:
    """Everything that determines a run; the same config gives the same numbers on one machine."""

    task: str = "paxmen/4ag"
    """Environment: a name that `marsrl envs` lists, jaxmarl:NAME, pettingzoo:MODULE, gymnasium:ID,
    or your own module:factory."""
    task_settings: dict[str, bool | int | float | str] = field(default_factory=dict, hash=False)
    """Settings of the environment in place of the task's, as NAME VALUE pairs."""
    objective: str = "mars"
    """Per-sample surrogate: mars, maspo, mappo, a variant (see docs/objectives.md), or your own
    module:factory."""
    eps: float | None = None
    """Size of the trust region; default: the objective's own."""
    eps_low: float | None = None
    """Lower size, for the -flexible objectives only."""
    eps_high: float | None = None
    """Upper size, for the -flexible objectives only."""
    eps_end: float | None = None
    """Size of the trust region at the end of the run, evenly from eps; default: eps."""
    target_kl: float | None = None
    """KL of an update (nats) that the size of the trust region is steered to, from eps on; default:
    it is not steered."""
    seeds: tuple[int, ...] = (0, 1)
    """One independent training per seed, all in one program."""
    total_steps: int = 2_500_000
    """Environment steps per seed (not times agents), rounded up to whole updates."""
    init_from: str | None = None
    """Start from parameters of another run, RUN, RUN:SEED, RUN@STEPS or both; default: fresh."""

    num_envs: int = 128
    """Environments per seed."""
    rollout_length: int = 50
    """Steps per environment and update."""
    chunk_length: int | None = None
    """Steps of back-propagation through time; default: the whole rollout, or 1 if feed-forward."""
    reset_pool: int = 4
    """Fresh starts that an environment draws at a time: a matter of speed and memory."""
    stagger: bool = True
    """Start environments at random points of their first episode, so that phases mix."""

    core: Core = "gru"
    """Recurrent or feed-forward networks."""
    width: int = 64
    """Units of every hidden layer and of the GRU."""
    depth: int = 1
    """Hidden layers before the core; one more follows it."""
    activation: Activation = "relu"
    """Of the hidden layers."""
    kernel_init: KernelInit = "normal"
    """How kernels begin: as independent normal values, or with orthogonal columns."""
    network: str | None = None
    """Your own module:factory, in place of the hidden layers and the core."""
    critic: CriticView = "state"
    """What the critic sees: the global state, each agent's observation (IPPO), or both."""
    share_parameters: Sharing = True
    """One actor for all agents, told apart by an id (all), for each group of the environment's
    (groups), or for each agent (none); in files also true and false."""
    agent_ids: bool = True
    """Agents that share a network are told apart; without, they act alike on what looks alike."""
    actor_norm: InputNorm = "running"
    """Standardise what actors read: by its running mean and deviation, or each input by itself."""
    critic_norm: InputNorm = "running"
    """Standardise what the critic reads, likewise."""
    state_std: bool = False
    """The spread of continuous actions depends on what is seen, instead of on the agent alone."""

    update_epochs: int = 4
    """Passes over each rollout."""
    num_minibatches: int = 4
    """Minibatches per pass."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """Trace decay of the advantage estimate."""
    bootstrap_truncated: bool = True
    """Value the true final observation where the clock ran out, instead of counting it as 0."""
    reward_scale: float = 1.0
    """What the learner multiplies rewards by; returns are reported as they are."""
    normalize_advantage: bool = True
    """Per minibatch, over live agents."""
    advantage_per_agent: bool = False
    """Normalise each agent's advantage by itself, so that small rewards count beside large ones."""
    advantage_floor: float = 0.0
    """Least deviation that advantages are divided by, in units of the scaled reward."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus."""
    ent_coef_end: float | None = None
    """Its weight at the end of the run, evenly from ent_coef; default: ent_coef."""
    value_norm: bool = False
    """The critic predicts targets standardised by their running mean and deviation."""
    value_clip: float | None = None
    """Largest value change that the value loss rewards, in units of its targets; default: any."""
    huber_delta: float | None = None
    """Error, in units of its targets, beyond which the value loss is linear; default: never."""
    kl_stop: float | None = None
    """Mean approx_kl of a pass after which an update makes no other; default: never."""
    max_grad_norm: float = 0.5
    """Global-norm clip, for actor and critic each."""
    actor_lr: float = 2e-3
    """Adam's step size for the actor."""
    critic_lr: float = 2e-3
    """Adam's step size for the critic."""
    anneal_lr: bool = True
    """Linearly to zero over the run."""

    num_evaluations: int = 20
    """Evenly spaced, besides the one before training; each is followed by a checkpoint."""
    eval_episodes: int = 32
    """Episodes per evaluation and seed."""
    eval_seed: int = 1_000_003
    """Seed of the evaluation episodes, for each training seed its own, the same ones each time."""
    eval_longest: int = 10_000
    """Steps after which an evaluation counts an episode that has not ended as it stands."""
    eval_greedy: bool = False
    """Evaluate the mode of the policy instead of sampling."""
    log_interval: int = 10
    """Updates per row of metrics.jsonl."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, besides the best one of each seed."""
    devices: int | None = None
    """Devices, of all processes, that share the seeds, and then a seed's environments; default: as
    many as can."""

    def __post_init__(self) -> None:
        """Refuses values that no run could use; nothing is imported, allocated or counted up to."""
        for name, hint in get_type_hints(Config).items():
            value = _plain(getattr(self, name), hint)
            object.__setattr__(self, name, value)
            _check_type(name, value, hint)
            _check_size(name, value, hint)
        for name in _POSITIVE:
            value = getattr(self, name)
            nearest = "; nearest: 1" if isinstance(value, int) else ""
            _require(name, value, value > 0, f"greater than 0{nearest}")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            _require(name, value, value >= 0, "0 or greater; nearest: 0")
        for name in ("gamma", "gae_lambda"):
            value = getattr(self, name)
            _require(name, value, 0 <= value <= 1, f"from 0 to 1; nearest: {0 if value < 0 else 1}")
        for name in _POSITIVE_IF_ANY:
            value = getattr(self, name)
            nearest = "; nearest: 1" if isinstance(value, int) else ""
            _require(name, value, value is None or value > 0, f"greater than 0{nearest}")
        self._check_seeds()
        self._check_names()
        self._check_counters()
        _require_divides(
            "chunk_length", self.sequence_length, "rollout_length", self.rollout_length
        )
        _require_divides(
            "num_minibatches", self.num_minibatches, "num_envs x chunks", self.num_sequences
        )
        if self.devices and self.devices not in self.layout.shapes:
            devices = self.devices
            nearest = min(self.layout.shapes, key=lambda size: abs(size - devices))
            raise UserError(
                f"devices = {devices} cannot share {len(self.seeds)} seeds and {self.env_blocks} "
                f"blocks of environments evenly; the nearest that can is {nearest}",
                "devices",
            )
        for name in ("advantage_per_agent", "advantage_floor"):
            value = getattr(self, name)
            used = self.normalize_advantage or not value
            _require(name, value, used, f"{value.__class__()!r} without normalize_advantage")
        _require("ent_coef_end", self.ent_coef_end, (self.ent_coef_end or 0) >= 0, "0 or greater")

    def _check_seeds(self) -> None:
        seeds = self.seeds
        _require("seeds", seeds, len(seeds) > 0, "at least one seed")
        _require("seeds", seeds, len(seeds) <= MAX_SEEDS, f"at most {MAX_SEEDS:,} seeds")
        _require("seeds", seeds, bool not in map(type, seeds), "whole numbers")
        _require("seeds", seeds, len(set(seeds)) == len(seeds), "distinct")
        _require("seeds", seeds, all(0 <= s < 2**32 for s in seeds), "from 0 to 2**32 - 1")

    def _check_names(self) -> None:
        """Checks task, its settings and objective by shape; only using them imports what they mean.

        So a configuration out of a file can be read without running what the file names.
        """
        right = 0 < len(self.task) <= LONGEST and self.task.isprintable()
        _require("task", self.task, right, f"a name of at most {LONGEST} printable characters")
        for name, value in self.task_settings.items():
            right = 0 < len(name) <= LONGEST and name.isprintable()
            _require("task_settings", name, right, "names of settings")
            if isinstance(value, str):
                fits = len(value) <= LONGEST and value.isprintable()
                expected = f"at most {LONGEST} printable characters"
            else:
                fits, expected = abs(value) < 2**63, "a finite number below 2**63"
            _require(f"task_settings: {name}", value, fits, expected, "task_settings")
        expected = "module:factory or path/file.py:factory, or None for marsrl's own"
        _require("network", self.network, self.network is None or is_code(self.network), expected)
        path = self.init_from
        right = path is None or (0 < len(path) <= _LONGEST_PATH and path.isprintable())
        _require("init_from", path, right, f"a path of at most {_LONGEST_PATH} characters")
        try:
            check_objective(self.objective, self.eps_low, self.eps_high)
        except ValueError as error:
            raise UserError(str(error), "objective") from error
        if self.eps_end is not None and self.eps_low is not None:
            text = f"eps_end = {self.eps_end!r} is not for {self.objective}, without eps"
            raise UserError(text, "eps_end")
        for name in ("eps", "eps_end"):
            eps = getattr(self, name)
            if self.objective in OBJECTIVES:
                self._make_objective(name, eps)
            else:
                _require(name, eps, eps is None or eps > 0, "greater than 0")

    def _check_counters(self) -> None:
        """Checks what is counted or indexed in 32 bits on the device."""
        steps = self.steps_per_update
        expected = f"at most {_INT32:,}"
        _require("num_envs x rollout_length", steps, steps <= _INT32, expected, "num_envs")
        passes = self.num_updates * self.update_epochs * self.num_minibatches
        if passes > _INT32:
            most = _INT32 // (self.update_epochs * self.num_minibatches) * steps
            raise UserError(
                f"total_steps = {self.total_steps} needs {passes:,} steps of the optimiser, which "
                f"counts them to {_INT32:,}; nearest: {most}",
                "total_steps",
            )

    @property
    def sequence_length(self) -> int:
        """`L`, steps per chunk."""
        return self.chunk_length or (1 if self.core == "ff" else self.rollout_length)

    @property
    def num_chunks(self) -> int:
        """`K`, chunks per rollout."""
        return self.rollout_length // self.sequence_length

    @property
    def num_sequences(self) -> int:
        """`K * E`, what a pass over the rollout shuffles."""
        return self.num_chunks * self.num_envs

    @property
    def steps_per_update(self) -> int:
        """Environment steps between two updates of one seed."""
        return self.num_envs * self.rollout_length

    @property
    def num_updates(self) -> int:
        """Updates per seed."""
        return -(-self.total_steps // self.steps_per_update)

    @property
    def evaluation_updates(self) -> tuple[int, ...]:
        """The updates after which a run is evaluated: 0, evenly spaced ones, and the last."""
        spaced = np.linspace(0, self.num_updates, self.num_evaluations + 1)
        return tuple(sorted({round(x) for x in spaced}))

    @property
    def evaluation_steps(self) -> tuple[int, ...]:
        """The environment steps of one seed before each of its evaluations."""
        return tuple(self.steps_per_update * update for update in self.evaluation_updates)

    @property
    def env_blocks(self) -> int:
        """Into how many equal parts the environments of a seed can be cut.

        Each is shuffled by itself and gives every minibatch an equal share (see `update.shuffle`).
        """
        return max(
            blocks
            for blocks in range(1, min(self.num_envs, _MAX_ENV_BLOCKS) + 1)
            if self.num_envs % blocks == 0
            and self.num_sequences // blocks % self.num_minibatches == 0
        )

    @property
    def layout(self) -> Layout:
        """What may be spread over devices."""
        return Layout(len(self.seeds), self.env_blocks, self.devices)

    @property
    def hash(self) -> str:
        """Twelve hex digits that name the settings that numbers depend on, without the seeds."""
        hints = get_type_hints(Config)
        content = {
            # 1 and 1.0 are the same setting
            name: float(value) if isinstance(value, int) and hints[name] in _FLOATS else value
            for name, value in self.settled().to_dict().items()
            if name not in OUTSIDE and (name, value) not in LATER.items()
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def make_objective(self) -> Objective:
        """The named objective with this trust region."""
        return self._make_objective("eps", self.eps)

    def _make_objective(self, name: str, eps: float | None) -> Objective:
        try:
            return make_objective(self.objective, eps, self.eps_low, self.eps_high)
        except ValueError as error:
            size = name if self.eps_low is None else "eps_low"
            named = self.objective in OBJECTIVES  # of these, only the size can be wrong by now
            text = str(error) if name == "eps" else f"{name} = {eps!r}: {error}"
            raise UserError(text, size if named else "objective") from error

    def settled(self) -> Config:
        """The same with the objective's own `eps` written down, as in the records of a run."""
        eps = default_eps(self.objective) if self.eps is None else self.eps
        return self if eps == self.eps else dataclasses.replace(self, eps=eps)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"seeds": list(self.seeds)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Config:
        """The inverse of `to_dict`; missing keys take their default.

        Raises:
            UserError: an unknown key (near misses named), a wrong type or an impossible value.
        """
        if not isinstance(values, dict):
            raise UserError(f"a configuration must be a table of settings, not {shown(values)}")
        names = [f.name for f in fields(Config)]
        for key in values:
            if key not in names:
                text = f"unknown setting {shown(key)}{near_misses(key, names)}"
                raise UserError(text, key if isinstance(key, str) else None)
        return Config(**values)


INPUTS = (
    "eps",
    "eps_low",
    "eps_high",
    "eps_end",
    "target_kl",
    "actor_lr",
    "critic_lr",
    "anneal_lr",
    "ent_coef",
    "ent_coef_end",
    "gamma",
    "gae_lambda",
)
"""Settings that are inputs of the compiled program: runs can differ in these and share one."""

OUTSIDE = ("seeds", "devices", "log_interval", "keep_checkpoints")
"""Settings that no number of a seed depends on: two runs that differ in nothing else are alike."""

SHARED = ("all", "groups", "none")
"""Who can share parameters; True is all, and False none."""

LATER = {"kernel_init": "normal", "agent_ids": True}
"""Settings that came when there were published results already, with the value that those had: it
changes no hash, and is that of a configuration that was recorded without the setting."""

MAX_SEEDS = 10_000
"""Of a configuration."""

_FLOATS = (float, float | None)
_WHOLE = (int, int | None)
_INT32 = 2**31 - 1
_LONGEST_PATH = 4096
_MAX_FLOAT = 1e9  # far from what overflows in float32, also squared
_MOST = {
    "total_steps": 10**13,
    "num_envs": 2**20,
    "rollout_length": 10**6,
    "chunk_length": 10**6,
    "reset_pool": 10**4,
    "width": 2**16,
    "depth": 100,
    "update_epochs": 10**4,
    "num_evaluations": 10**5,
    "eval_episodes": 10**5,
    "eval_seed": 2**32 - 1,
}
"""Whole numbers beyond which nothing could be trained; that of the others is 32 bits."""
_POSITIVE = (
    "total_steps",
    "num_envs",
    "rollout_length",
    "reset_pool",
    "reward_scale",
    "width",
    "depth",
    "update_epochs",
    "num_minibatches",
    "max_grad_norm",
    "actor_lr",
    "critic_lr",
    "num_evaluations",
    "eval_episodes",
    "eval_longest",
    "log_interval",
    "keep_checkpoints",
)
_POSITIVE_IF_ANY = ("chunk_length", "value_clip", "huber_delta", "kl_stop", "target_kl", "devices")
_NOT_NEGATIVE = ("ent_coef", "advantage_floor", "eval_seed")


_MAX_ENV_BLOCKS = 64  # more devices for one seed than anyone has; smaller blocks mix less well


def recorded(values: dict[str, Any], name: str) -> Any:
    """A setting of a configuration as results have it; None if they do not."""
    return values.get(name, LATER.get(name))


def plain(name: str, value: Any) -> Any:
    """What a configuration has for a setting that was given so: `"all"` is True, of 2.0 a 2."""
    return _plain(value, get_type_hints(Config)[name])


def _divisors(number: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def _plain(value: Any, hint: Any) -> Any:
    """A value as Python's own: of NumPy's kinds, of a list, and whole numbers such as 1e6."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if hint == Sharing and isinstance(value, str):
        return {"all": True, "none": False}.get(value, value)
    if get_origin(hint) is tuple and isinstance(value, list | tuple | range):
        return tuple(_plain(item, int) for item in value[: MAX_SEEDS + 1])
    if get_origin(hint) is dict and isinstance(value, dict):
        return {name: _plain(item, None) for name, item in value.items()}
    if hint in _WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _check_type(name: str, value: Any, hint: Any) -> None:
    try:
        if isinstance(value, bool) and hint not in (bool, Sharing):
            raise TypeCheckError("is a bool")
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        expected = str(hint) if get_origin(hint) else getattr(hint, "__name__", str(hint))
        choices = SHARED if hint == Sharing else get_args(hint)
        if hint == Sharing or get_origin(hint) is Literal:
            expected = f"one of {', '.join(choices)}{closest(value, choices)}"
        text = f"{name} = {shown(value)} has the wrong type, expected {expected}"
        raise UserError(text, name) from error


def _check_size(name: str, value: Any, hint: Any) -> None:
    """Bounds every number, so that nothing later overflows, or counts for ever."""
    if hint in _WHOLE and value is not None:
        most = _MOST.get(name, _INT32)
        _require(name, value, value <= most, f"at most {most:,}; nearest: {most}")
    if hint in _FLOATS and value is not None:
        finite = abs(value) <= _MAX_FLOAT  # False for NaN too
        _require(name, value, finite, f"finite and at most {_MAX_FLOAT:g}")


def _require(name: str, value: Any, ok: bool, expected: str, field: str | None = None) -> None:
    if not ok:
        raise UserError(f"{name} = {shown(value)} must be {expected}", field or name)


def _require_divides(name: str, part: int, whole_name: str, whole: int) -> None:
    if whole % part:
        nearest = min(_divisors(whole), key=lambda d: abs(d - part))
        raise UserError(
            f"{name} = {part} does not divide {whole_name} = {whole}; the nearest that does is "
            f"{nearest}",
            name,
        )
