"""Cooperative multi-agent reinforcement learning with ratio-based trust regions.

The names below load what they need on first use: importing marsrl starts no device, and
`marsrl.objectives` can be used without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marsrl.config import Config
    from marsrl.devices.startup import configure_jax
    from marsrl.envs.check import check_env
    from marsrl.envs.registry import make
    from marsrl.presets import preset
    from marsrl.runs.policy import Policy, load_policy
    from marsrl.runs.runner import Result, resume, train
    from marsrl.types import Box, Discrete, EnvSpec, MultiDiscrete, Observation, TimeStep

__all__ = [
    "Box",
    "Config",
    "Discrete",
    "EnvSpec",
    "MultiDiscrete",
    "Observation",
    "Policy",
    "Result",
    "TimeStep",
    "check_env",
    "configure_jax",
    "load_policy",
    "make",
    "preset",
    "resume",
    "train",
]

_HOMES = {
    "marsrl.config": ("Config",),
    "marsrl.devices.startup": ("configure_jax",),
    "marsrl.envs.check": ("check_env",),
    "marsrl.envs.registry": ("make",),
    "marsrl.runs.policy": ("Policy", "load_policy"),
    "marsrl.presets": ("preset",),
    "marsrl.runs.runner": ("Result", "resume", "train"),
    "marsrl.types": ("Box", "Discrete", "EnvSpec", "MultiDiscrete", "Observation", "TimeStep"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'marsrl' has no attribute {name!r}")
