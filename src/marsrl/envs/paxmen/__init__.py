"""PaxMen: dots in far-apart rooms, a test of how a team divides its work."""

from marsrl.envs.paxmen.env import PaxMen
from marsrl.envs.paxmen.rules import State

__all__ = ["PaxMen", "State"]
