"""RWARE, Level-Based Foraging and Connector, the games of jumanji, behind our interface.

The rules are jumanji's. Three things are ours: nothing resets itself, an episode that the clock cut
off is told from one that came to its end, and the state holds no random key.
"""

from marsrl.envs.adapters.jumanji.base import JumanjiEnv, TeamReward
from marsrl.envs.adapters.jumanji.connector import Connector, connector
from marsrl.envs.adapters.jumanji.lbf import Lbf, lbf
from marsrl.envs.adapters.jumanji.rware import Rware, rware

__all__ = ["Connector", "JumanjiEnv", "Lbf", "Rware", "TeamReward", "connector", "lbf", "rware"]
