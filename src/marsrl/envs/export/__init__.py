"""Our environments behind the interfaces of other libraries; each is imported on use only."""

from marsrl.envs.export.jaxmarl import to_jaxmarl
from marsrl.envs.export.pettingzoo import to_pettingzoo

__all__ = ["to_jaxmarl", "to_pettingzoo"]
