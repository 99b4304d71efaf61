"""The configuration of a run: one frozen, validated dataclass."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from marsrl.errors import UserError, near_misses
from marsrl.objectives import Objective, make_objective


@dataclass(frozen=True)
class Config:
    """Everything that determines a run; the same config gives the same numbers on one machine."""

    task: str = "paxmen/4ag"
    """Environment: a name that `marsrl envs` lists, jaxmarl:NAME, or your own module:factory."""
    task_settings: dict[str, bool | int | float | str] = field(default_factory=dict, hash=False)
    """Settings of the environment in place of the task's, as NAME VALUE pairs."""
    objective: str = "mars"
    """Per-sample surrogate: mars, maspo, mappo, a variant (see docs/objectives.md), or your own
    module:factory."""
    eps: float = 0.2
    """Size of the trust region."""
    eps_low: float | None = None
    """Lower size, for the -flexible objectives only."""
    eps_high: float | None = None
    """Upper size, for the -flexible objectives only."""
    seeds: tuple[int, ...] = (0, 1)
    """One independent training per seed, all in one program."""
    total_steps: int = 2_500_000
    """Environment steps per seed (not times agents), rounded up to whole updates."""

    num_envs: int = 128
    """Environments per seed."""
    rollout_length: int = 50
    """Steps per environment and update."""
    chunk_length: int | None = None
    """Steps of back-propagation through time; default: the whole rollout, or 1 if feed-forward."""
    reset_pool: int | None = None
    """Fresh starts per environment and rollout; default: twice what the clock ends, rounded up."""
    stagger: bool = True
    """Start environments at random points of their first episode, so that phases mix."""

    core: Literal["gru", "ff"] = "gru"
    """Recurrent or feed-forward networks."""
    width: int = 64
    """Units of every hidden layer and of the GRU."""
    critic: Literal["state", "obs", "both"] = "state"
    """What the critic sees: the global state, each agent's observation (IPPO), or both."""
    share_parameters: bool = True
    """One actor for all agents, told apart by an id, or one actor for each."""

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
    normalize_advantage: bool = True
    """Per minibatch, over live agents."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    value_clip: float | None = None
    """Largest value change that the value loss rewards; default: no clipping."""
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
    """Seed of the evaluation episodes, the same ones each time."""
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
        """Refuses values that no run could use."""
        for name, hint in get_type_hints(Config).items():
            _check_type(name, getattr(self, name), hint)
        for name in _POSITIVE:
            value = getattr(self, name)
            _require(name, value, 0 < value < math.inf, "finite and greater than 0")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            _require(name, value, 0 <= value < math.inf, "finite and 0 or greater")
        for name in ("gamma", "gae_lambda"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("chunk_length", "reset_pool", "value_clip", "devices"):
            value = getattr(self, name)
            _require(name, value, value is None or value > 0, "greater than 0")
        _require("seeds", self.seeds, len(self.seeds) > 0, "at least one seed")
        _require("seeds", self.seeds, bool not in map(type, self.seeds), "whole numbers")
        _require("seeds", self.seeds, len(set(self.seeds)) == len(self.seeds), "distinct")
        _require(
            "seeds", self.seeds, all(0 <= s < 2**32 for s in self.seeds), "from 0 to 2**32 - 1"
        )
        _require_divides(
            "chunk_length", self.sequence_length, "rollout_length", self.rollout_length
        )
        _require_divides(
            "num_minibatches", self.num_minibatches, "num_envs x chunks", self.num_sequences
        )
        if self.devices and self.devices not in self.mesh_shapes:
            devices = self.devices
            nearest = min(self.mesh_shapes, key=lambda size: abs(size - devices))
            raise UserError(
                f"devices = {devices} cannot share {len(self.seeds)} seeds and {self.env_blocks} "
                f"blocks of environments evenly; the nearest that can is {nearest}"
            )
        if ":" not in self.objective:  # reading a configuration runs nobody's code
            self.make_objective()

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

    def pool_size(self, max_steps: int) -> int:
        """Fresh starts per environment and rollout, for episodes of at most `max_steps`."""
        return self.reset_pool or -(-2 * self.rollout_length // max_steps)

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
    def mesh_shapes(self) -> dict[int, tuple[int, int]]:
        """How each usable number of devices is laid out: over seeds, over environments of each."""
        shapes = [
            (seeds, envs)
            for seeds in _divisors(len(self.seeds))
            for envs in _divisors(self.env_blocks)
        ]
        return {seeds * envs: (seeds, envs) for seeds, envs in shapes}  # the most seeds come last

    @property
    def hash(self) -> str:
        """Twelve hex digits that name the settings that numbers depend on, without the seeds."""
        hints = get_type_hints(Config)
        content = {
            # 1 and 1.0 are the same setting
            name: float(value) if isinstance(value, int) and hints[name] in _FLOATS else value
            for name, value in self.to_dict().items()
            if name not in ("seeds", "devices", "log_interval", "keep_checkpoints")
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def make_objective(self) -> Objective:
        """The named objective with this trust region."""
        try:
            return make_objective(self.objective, self.eps, self.eps_low, self.eps_high)
        except ValueError as error:
            raise UserError(str(error)) from error

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
            raise UserError(f"a configuration must be a table of settings, not {values!r}")
        names = [f.name for f in fields(Config)]
        for key in values:
            if key not in names:
                raise UserError(f"unknown setting {key!r}{near_misses(key, names)}")
        if isinstance(values.get("seeds"), list):
            values = values | {"seeds": tuple(values["seeds"])}
        return Config(**values)


_FLOATS = (float, float | None)
_POSITIVE = (
    "total_steps",
    "num_envs",
    "rollout_length",
    "width",
    "update_epochs",
    "num_minibatches",
    "max_grad_norm",
    "actor_lr",
    "critic_lr",
    "num_evaluations",
    "eval_episodes",
    "log_interval",
    "keep_checkpoints",
)
_NOT_NEGATIVE = ("ent_coef", "vf_coef", "eval_seed")


_MAX_ENV_BLOCKS = 64  # more devices for one seed than anyone has; smaller blocks mix less well


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _check_type(name: str, value: Any, hint: Any) -> None:
    try:
        if isinstance(value, bool) and hint is not bool:
            raise TypeCheckError("is a bool")
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        expected = getattr(hint, "__name__", str(hint))
        raise UserError(f"{name} = {value!r} has the wrong type, expected {expected}") from error


def _require(name: str, value: Any, ok: bool, expected: str) -> None:
    if not ok:
        raise UserError(f"{name} = {value!r} must be {expected}")


def _require_divides(name: str, part: int, whole_name: str, whole: int) -> None:
    if whole % part:
        nearest = min(_divisors(whole), key=lambda d: abs(d - part))
        raise UserError(
            f"{name} = {part} does not divide {whole_name} = {whole}; the nearest that does is "
            f"{nearest}"
        )
