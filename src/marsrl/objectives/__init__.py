"""Ratio-based surrogate objectives for policy optimisation: a geometry times a trust region.

Notation, used in every docstring of this package:

- `u = log pi_new(a|o) - log pi_old(a|o)`, the log-ratio of one agent's action (nats, summed over
  action dimensions), and `r = exp(u)`
- `A`, the advantage: one joint advantage for all agents when they share the reward
- `J(u, A)`, the surrogate of one sample, to be maximised: `J = A` and `dJ/du = A` at `r = 1`

- `trust_region`: where a sample's ratio should stop
- `geometries`: how it is made to stop there
- `named`: a geometry in a region under a name, and yours
- `diagnosis`: what a minibatch's ratios and gradients tell
- `arrays`: of JAX, PyTorch and NumPy: the same source serves all; importing it imports neither JAX
  nor PyTorch
"""

from array_api_compat import array_namespace

from marsrl.objectives.diagnosis import diagnostics
from marsrl.objectives.geometries import (
    U_MAX,
    Geometry,
    capped,
    clipped,
    discovered,
    gated,
    logarithmic,
    quadratic,
    redescending,
    rolled_back,
    symmetric,
)
from marsrl.objectives.named import (
    OBJECTIVES,
    Named,
    Objective,
    check_objective,
    default_eps,
    make_objective,
    mappo,
    mars,
    mars_log,
    maspo,
)
from marsrl.objectives.trust_region import MAX_EPS, MIN_EPS, RegionKind, TrustRegion

__all__ = [
    "MAX_EPS",
    "MIN_EPS",
    "OBJECTIVES",
    "U_MAX",
    "Geometry",
    "Named",
    "Objective",
    "RegionKind",
    "TrustRegion",
    "array_namespace",
    "capped",
    "check_objective",
    "clipped",
    "default_eps",
    "diagnostics",
    "discovered",
    "gated",
    "logarithmic",
    "make_objective",
    "mappo",
    "mars",
    "mars_log",
    "maspo",
    "quadratic",
    "redescending",
    "rolled_back",
    "symmetric",
]
