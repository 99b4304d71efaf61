"""JaxMARL's environments behind our interface: MPE, SMAX, MABrax, and every other it registers."""

from marsrl.envs.adapters.jaxmarl.factories import any_jaxmarl, mabrax, mpe_spread, smax

__all__ = ["any_jaxmarl", "mabrax", "mpe_spread", "smax"]
