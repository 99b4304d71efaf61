"""AeroJAX: fixed-wing aircraft that search for targets and lock on to them together."""

from marsrl.envs.aerojax.env import VERSION, AeroJAX, aerojax
from marsrl.envs.aerojax.rules import State
from marsrl.envs.aerojax.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "VERSION", "AeroJAX", "Scenario", "State", "aerojax"]
