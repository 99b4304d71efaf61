"""Ratio-based surrogate objectives for policy optimisation: a geometry times a trust region.

Notation, used in every docstring of this module:

- `u = log pi_new(a|o) - log pi_old(a|o)`, the log-ratio of one agent's action (nats, summed over
  action dimensions), and `r = exp(u)`
- `A`, the advantage: one joint advantage for all agents when they share the reward
- `J(u, A)`, the surrogate of one sample, to be maximised: `J = A` and `dJ/du = A` at `r = 1`

Every geometry is continued along its tangent beyond `|u| = U_MAX`, where `exp` would soon overflow:
`J(u_c) + J'(u_c) (u - u_c)` with `u_c = clip(u, -U_MAX, U_MAX)`. The gradient there is large and
finite; clamping `u` instead would remove it, exactly where a sample most needs to be pulled back.

MARS is named, but not printed, in the abstract of "Rethinking Ratio-Based Trust Regions for Policy
Optimization in Multi-Agent Reinforcement Learning" (2026-05-09). `symmetric` is derived from the
published abstract: from the properties it states, not from an equation of the paper.

The same source serves JAX, PyTorch and NumPy arrays; importing it imports neither JAX nor PyTorch.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from array_api_compat import (
    array_namespace,
    is_array_api_obj,
    is_jax_array,
    is_torch_array,
)

from marsrl.errors import UserError, shown
from marsrl.loading import guarded, is_code, load

# No type is common to the arrays of JAX, PyTorch and NumPy, and naming one would import it.
Array: TypeAlias = Any

U_MAX = 20.0
"""Largest `|u|` (nats) at which a geometry is evaluated; its tangent continues it beyond.

`exp(2 U_MAX) = 2.4e17` fits in float32 and bfloat16; float16 overflows and is not supported."""


# --- Trust regions --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrustRegion:
    """Where a sample's ratio should stop: at `upper` when `A > 0`, at `lower` when `A < 0`.

    Attributes:
        lower: the lower edge, a ratio in (0, 1).
        upper: the upper edge, a ratio in (1, inf).
        kind: how it changes size: by the same step in the ratio both ways ("additive"), or in the
            log-ratio ("geometric").

    Raises:
        ValueError: if an edge lies outside its interval.
    """

    lower: float
    upper: float
    kind: Literal["additive", "geometric"] = field(default="additive", compare=False)

    def __post_init__(self) -> None:
        _check_between("lower", self.lower, 0, 1)
        _check_between("upper", self.upper, 1, math.inf)

    @classmethod
    def additive(cls, eps: float) -> TrustRegion:
        """Returns `[1 - eps, 1 + eps]`, `eps` in (0, 1): the same step in the ratio both ways."""
        _check_eps("eps of an additive region", eps, 1)
        return cls(1 - eps, 1 + eps)

    @classmethod
    def geometric(cls, eps: float) -> TrustRegion:
        """Returns `[1/(1 + eps), 1 + eps]`, `eps > 0`: the same step in log-ratio both ways."""
        _check_eps("eps of a geometric region", eps)
        return cls(1 / (1 + eps), 1 + eps, "geometric")

    @classmethod
    def flexible(cls, eps_low: float, eps_high: float) -> TrustRegion:
        """Returns `[1 - eps_low, 1 + eps_high]`, `eps_low` in (0, 1) and `eps_high > 0`."""
        _check_eps("eps_low", eps_low, 1)
        _check_eps("eps_high", eps_high)
        return cls(1 - eps_low, 1 + eps_high)

    @property
    def widths(self) -> tuple[float, float]:
        """`(low, high)` from which `of` makes this region."""
        high = self.upper - 1
        return (high if self.kind == "geometric" else 1 - self.lower), high

    @classmethod
    def of(cls, kind: Literal["additive", "geometric"], low: Any, high: Any) -> TrustRegion:
        """A region of a kind from widths that a compiled program computes: nothing is checked."""
        region = object.__new__(cls)  # the check would ask for the values of a trace
        lower = 1 / (1 + high) if kind == "geometric" else 1 - low
        for name, value in (("lower", lower), ("upper", 1 + high), ("kind", kind)):
            object.__setattr__(region, name, value)
        return region


MIN_EPS, MAX_EPS = 1e-6, 1e6
"""Narrowest and widest region: float32, in which training runs, tells its edges from 1 and 0."""


def _check_eps(name: str, eps: float, high: float = math.inf) -> None:
    _check_between(name, eps, 0, high)
    nearest = max(MIN_EPS, min(eps, MAX_EPS))
    if eps != nearest:
        raise ValueError(
            f"{name} must be from {MIN_EPS:g} to {min(high, MAX_EPS):g}, got {shown(eps)}; the "
            f"nearest valid choice is {nearest:g}"
        )


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} must be a number above {low}, got {shown(value)}")
    if not low < value < high:
        nearest = f"just below {high}" if value >= high else f"just above {low}"
        raise ValueError(
            f"{name} must lie strictly between {low} and {high}, got {shown(value)}; "
            f"the nearest valid choice is {nearest}"
        )


# --- Geometries -----------------------------------------------------------------------------------


def clipped(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The clipped surrogate: no gradient for a sample that has left the region as `A` wished.

    `J = min(r A, clip(r, lower, upper) A)`; `dJ/du = 0` if `A > 0, r > upper` or
    `A < 0, r < lower`, else `r A`. Source: PPO (Schulman et al., 2017); with a joint advantage
    MAPPO (Yu et al., 2022).

    Args:
        log_ratio: `u` (...).
        advantage: `A` (...).
        region: the trust region.

    Returns:
        The surrogate (...), of the dtype of its inputs.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    unclipped = r * advantage
    value = xp.minimum(unclipped, xp.clip(r, region.lower, region.upper) * advantage)
    slope = xp.where(value < unclipped, 0.0, unclipped)
    return value + slope * beyond


def quadratic(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The soft quadratic penalty: optimal at the region's edge, with a bounded cost as `r -> 0`.

    `J = r A - |A| c (r - 1)^2`, `c = 1/(2 (upper - 1))` if `A >= 0` else `1/(2 (1 - lower))`;
    `dJ/du = r (A - 2 |A| c (r - 1))`, which vanishes like `r` as `r -> 0`. Source: SPO (Xie et al.,
    ICML 2025), whose `r A - |A| (r - 1)^2 / (2 eps)` is the additive region's case.

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    excess = r - 1  # not expm1(u): its derivative in JAX and PyTorch cancels as r -> 0
    weight = _weight(advantage, 1 / (2 * (region.upper - 1)), 1 / (2 * (1 - region.lower)))
    value = r * advantage - weight * excess**2
    slope = r * (advantage - 2 * weight * excess)
    return value + slope * beyond


def symmetric(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The multiplicatively symmetric barrier (MARS): equal cost at `r` and `1/r`, infinite at 0.

    `J = r A - |A| lam (r + 1/r - 2)`, `lam = upper^2/(upper^2 - 1)` if `A >= 0` else
    `lower^2/(1 - lower^2)`, which puts the optimum over `r` at the region's edge;
    `dJ/du = |A| (lam/r + (sign(A) - lam) r)`, which grows like `1/r` as `r -> 0`. With a geometric
    region `J(u, A) - J(-u, -A) = 2 A` for every `u`: a good action at ratio `r` is treated exactly
    as a bad one at `1/r`. Derived from the published abstract, see the module's docstring; it is
    not an equation of the paper.

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    rising = 1 / (1 - region.upper**-2)
    falling = region.lower**2 / (1 - region.lower**2)
    weight = _weight(advantage, rising, falling)
    # r + 1/r - 2 = 4 sinh(u/2)^2, without the cancellation near r = 1.
    value = r * advantage - weight * 4 * xp.sinh(u / 2) ** 2
    slope = r * advantage - weight * 2 * xp.sinh(u)
    return value + slope * beyond


def logarithmic(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """A quadratic penalty in log space: the symmetry of `symmetric` without its wall at `r = 0`.

    `J = A (1 + u) - |A| u^2 / (2 h)`, `h = log(upper)` if `A >= 0` else `-log(lower)`;
    `dJ/du = A - |A| u / h`, zero at the region's edge. The constant `A` has no gradient: it gives
    `J = A` at `r = 1`, as everywhere in this module. An ablation of this project, which asks
    whether the symmetry or the wall helps.

    Args and result as for `clipped`.
    """
    u, beyond = _split(log_ratio)
    log: Any = array_namespace(log_ratio).log if is_array_api_obj(region.upper) else math.log
    weight = _weight(advantage, 1 / log(region.upper), -1 / log(region.lower))
    value = advantage * (1 + u) - weight * u**2 / 2
    slope = advantage - weight * u
    return value + slope * beyond


def _split(log_ratio: Array) -> tuple[Array, Array]:
    """Splits `u` into the part at which a geometry is evaluated and the rest, zero within U_MAX."""
    inner = array_namespace(log_ratio).clip(log_ratio, -U_MAX, U_MAX)
    return inner, log_ratio - inner


def _weight(advantage: Array, rising: float, falling: float) -> Array:
    """Returns `|A| rising` where `A >= 0` and `|A| falling` elsewhere."""
    # Both branches are arrays, because `where` over two numbers would choose its own dtype.
    xp = array_namespace(advantage)
    return xp.where(advantage >= 0, rising * advantage, -falling * advantage)


# --- Objectives -----------------------------------------------------------------------------------

Geometry: TypeAlias = Callable[[Array, Array, TrustRegion], Array]
"""`(log_ratio, advantage, region) -> surrogate`, elementwise."""


@dataclass(frozen=True)
class Objective:
    """A named surrogate to maximise: a geometry in a trust region.

    Attributes:
        name: what logs and results call it.
        geometry: one of this module's geometries, or your own.
        region: the trust region handed to the geometry.
    """

    name: str
    geometry: Geometry
    region: TrustRegion

    def __call__(self, log_ratio: Array, advantage: Array) -> Array:
        """Returns the surrogate of every sample, not reduced.

        The advantage is held constant: no gradient flows into it. The old log-probability inside
        `log_ratio` must be recorded data, so that none flows there either.

        Args:
            log_ratio: `u` (..., N).
            advantage: `A` (..., N), or with size 1 in place of an axis: (..., 1) is one joint
                advantage for all agents.

        Returns:
            `J(u, A)` (..., N).

        Raises:
            ValueError: if the advantage's shape does not fit.
        """
        advantage = _expanded("advantage", advantage, log_ratio)
        return self.geometry(log_ratio, _constant(advantage), self.region)

    def within(self, low: Any, high: Any) -> Objective:
        """The objective in a region of the same kind with other widths, see `TrustRegion.of`."""
        return replace(self, region=TrustRegion.of(self.region.kind, low, high))


RegionKind: TypeAlias = Literal["additive", "geometric", "flexible"]

OBJECTIVES: dict[str, tuple[Geometry, RegionKind]] = {
    "mappo": (clipped, "additive"),
    "maspo": (quadratic, "additive"),
    "mars": (symmetric, "geometric"),
    # The other cells of the factorial: is it the geometry or the boundary?
    "mappo-geometric": (clipped, "geometric"),
    "maspo-geometric": (quadratic, "geometric"),
    "mars-additive": (symmetric, "additive"),
    # Flexible boundaries alone.
    "mappo-flexible": (clipped, "flexible"),
    "maspo-flexible": (quadratic, "flexible"),
    "mars-flexible": (symmetric, "flexible"),
    # Symmetry without the wall at r = 0.
    "mars-log": (logarithmic, "geometric"),
}
"""Every named objective: its geometry and the kind of its trust region."""


def default_eps(name: str) -> float:
    """Provisional."""
    return 0.2


def make_objective(
    name: str, eps: float | None = None, eps_low: float | None = None, eps_high: float | None = None
) -> Objective:
    """Makes the objective that `OBJECTIVES` lists under `name`, or that a factory of yours makes.

    Args:
        name: a key of `OBJECTIVES`, or "module:factory" or "path/file.py:factory" of a function
            like `mars`: it takes `eps` and returns an `Objective`, which is tried on a few samples.
        eps: width of an additive (0 < eps < 1) or geometric (eps > 0) region; a flexible one
            does not use it.
        eps_low: a flexible region's `1 - lower`, in (0, 1).
        eps_high: a flexible region's `upper - 1`, above 0.

    Raises:
        ValueError: for an unknown name, a width out of range, `eps_low` or `eps_high` missing
            for a flexible objective, or either given to another; or a factory that cannot be
            imported, fails, or makes something else or what does not work.
    """
    check_objective(name, eps_low, eps_high)
    eps = default_eps(name) if eps is None else eps
    if name not in OBJECTIVES:
        return _own_objective(name, eps)
    geometry, kind = OBJECTIVES[name]
    if eps_low is not None and eps_high is not None:
        return Objective(name, geometry, TrustRegion.flexible(eps_low, eps_high))
    make_region = TrustRegion.additive if kind == "additive" else TrustRegion.geometric
    return Objective(name, geometry, make_region(eps))


def check_objective(name: str, eps_low: float | None = None, eps_high: float | None = None) -> None:
    """Checks a name and which widths it takes, as far as that needs no import.

    Raises:
        ValueError: for a name that is neither listed nor has the shape of a factory's, or widths
            that do not go with it.
    """
    if not isinstance(name, str):
        raise ValueError(f"objective is {shown(name)}, expected a name such as mars")
    given = f"got eps_low={shown(eps_low)} and eps_high={shown(eps_high)}"
    if name not in OBJECTIVES:
        if not is_code(name):
            near = difflib.get_close_matches(name, OBJECTIVES) or OBJECTIVES
            hint = "" if ":" not in name else "expected module:factory or path/file.py:factory; "
            raise ValueError(
                f"unknown objective {shown(name)}; {hint}the nearest are: {', '.join(near)}"
            )
        if eps_low is not None or eps_high is not None:
            raise ValueError(f"{name} takes eps alone, {given}")
    elif OBJECTIVES[name][1] == "flexible":
        if eps_low is None or eps_high is None:
            raise ValueError(f"{name} needs both widths, {given}")
    elif eps_low is not None or eps_high is not None:
        raise ValueError(
            f"{name} takes eps alone, {given}; "
            f"the nearest objective with two widths is {name.partition('-')[0]}-flexible"
        )


def _own_objective(path: str, eps: float) -> Objective:
    """Makes and tries an objective of a user's own; whatever fails is one line."""
    try:
        make = load(path)
        objective = guarded(f"{path}({eps})", make, eps)
        if not isinstance(objective, Objective):
            raise UserError(
                f"{path}({eps}) is {shown(objective)}, expected a marsrl.objectives.Objective"
            )
        log_ratio = np.linspace(-U_MAX, U_MAX, 12, dtype=np.float32).reshape(4, 3)
        advantage = np.array([[-2], [0], [1], [2]], np.float32)
        with np.errstate(all="ignore"):
            value = np.asarray(guarded(f"{path} on arrays", objective, log_ratio, advantage))
    except UserError as error:
        raise ValueError(str(error)) from error
    if value.shape != log_ratio.shape:
        raise ValueError(f"{path} makes shape {value.shape} of shape {log_ratio.shape}")
    if value.dtype.kind != "f":
        raise ValueError(f"{path} makes an array of {value.dtype}, expected floats")
    if not np.isfinite(value).all():
        where = tuple(np.argwhere(~np.isfinite(value))[0])
        raise ValueError(
            f"{path} is {value[where]} at log-ratio {log_ratio[where]:.3g}, "
            f"advantage {advantage[where[0], 0]:.3g}; expected a finite number"
        )
    return objective


def mappo(eps: float = 0.2) -> Objective:
    """Returns `clipped` in an additive region, 0 < eps < 1 (Yu et al., 2022)."""
    return make_objective("mappo", eps)


def maspo(eps: float = 0.2) -> Objective:
    """Returns `quadratic` in an additive region, 0 < eps < 1 (SPO: Xie et al., ICML 2025)."""
    return make_objective("maspo", eps)


def mars(eps: float = 0.2) -> Objective:
    """Returns `symmetric` in a geometric region, eps > 0: derived from the published abstract."""
    return make_objective("mars", eps)


def mars_log(eps: float = 0.2) -> Objective:
    """Returns `logarithmic` in a geometric region, eps > 0: an ablation of `mars`."""
    return make_objective("mars-log", eps)


_TOO_SMALL = ("float16", "torch.float16")


def _expanded(name: str, x: Array, log_ratio: Array) -> Array:
    """Repeats the axes of size 1; a missing axis is an error, since NumPy's rule could misalign."""
    for what, array in (("log_ratio", log_ratio), (name, x)):
        if not hasattr(array, "shape"):
            raise ValueError(f"{what} is {shown(array)}, expected an array")
    if str(log_ratio.dtype) in _TOO_SMALL:
        raise ValueError("log_ratio is float16, in which exp overflows; expected float32")
    shape, target = tuple(x.shape), tuple(log_ratio.shape)
    if len(shape) != len(target) or any(
        n not in (1, m) for n, m in zip(shape, target, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {shape}; expected that of log_ratio, {target}, "
            "or 1 in place of some of its axes"
        )
    return array_namespace(x).broadcast_to(x, target)


def _constant(x: Array) -> Array:
    """Returns `x` cut out of the automatic differentiation of its framework."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        from jax.lax import stop_gradient  # here, so that only JAX users import JAX

        return stop_gradient(x)
    return x


# --- Diagnostics ----------------------------------------------------------------------------------


def diagnostics(
    log_ratio: Array,
    advantage: Array,
    slope: Array,
    agent_mask: Array,
    region: TrustRegion,
    collapsed_below: float = 0.1,
) -> dict[str, Array]:
    """Measures how far a minibatch has moved, and whether its gradients still pull it back.

    Every entry is a scalar over the live samples, without gradient; `r` is that of `u` clipped to
    `[-U_MAX, U_MAX]`. A mean over no sample is NaN, so that `nanmean` skips it: this is the rule
    for `gradient/corrective` and `gradient/restoring` while nothing is outside the region.

    - `ratio/min`, `ratio/max`, `ratio/std`: of `r`
    - `ratio/outside`: share with `r < lower` or `r > upper`
    - `ratio/collapsed`: share with `r < collapsed_below`
    - `ratio/teammates`: correlation between `|u|` of a sample and the mean `|u|` of its live
      teammates, over the samples that have any; 0 where undefined
    - `approx_kl`: mean of `r - 1 - u` (nats)
    - `gradient/dead`: share with `|dJ/du| <= 1e-8 |A|` (a sample with `A = 0` is one)
    - `gradient/corrective`: among samples outside, the share whose `dJ/du` moves `u` towards 0
    - `gradient/restoring`: among samples outside, the mean of `-sign(u) dJ/du / |A|` (0 if `A = 0`)

    Args:
        log_ratio: `u` (..., N), agents last.
        advantage: `A` (..., N), or with size 1 in place of an axis.
        slope: `dJ/du` of every sample (..., N), before any reduction.
        agent_mask: (..., N) bool; what the others hold where it is False does not matter.
        region: the trust region that defines "outside".
        collapsed_below: the ratio below which a probability counts as collapsed.

    Raises:
        ValueError: if a shape does not fit that of `log_ratio`.
    """
    xp = array_namespace(log_ratio, advantage, slope, agent_mask)
    live = _expanded("agent_mask", agent_mask, log_ratio)

    def cleaned(name: str, x: Array) -> Array:
        return xp.where(live, _constant(_expanded(name, x, log_ratio)), 0.0)

    u = cleaned("log_ratio", log_ratio)
    size = xp.abs(cleaned("advantage", advantage))
    slope = cleaned("slope", slope)
    inner, _ = _split(u)
    r = xp.exp(inner)
    restoring = -xp.sign(u) * slope
    outside = live & ((r < region.lower) | (r > region.upper))
    some = xp.any(live)

    def share(condition: Array, among: Array) -> Array:
        return _mean(xp.astype(condition, u.dtype), among)

    return {
        "ratio/min": xp.where(some, xp.min(xp.where(live, r, math.inf)), math.nan),
        "ratio/max": xp.where(some, xp.max(xp.where(live, r, -math.inf)), math.nan),
        "ratio/std": _mean((r - _mean(r, live)) ** 2, live) ** 0.5,
        "ratio/outside": share(outside, live),
        "ratio/collapsed": share(r < collapsed_below, live),
        "ratio/teammates": _teammate_correlation(xp.abs(u), live),
        "approx_kl": _mean(xp.expm1(inner) - u, live),
        "gradient/dead": share(xp.abs(slope) <= 1e-8 * size, live),
        "gradient/corrective": share(restoring > 0, outside),
        "gradient/restoring": _mean(restoring / xp.where(size > 0, size, 1.0), outside),
    }


def _mean(x: Array, among: Array) -> Array:
    """Returns the mean of `x` where `among` holds, NaN where it holds nowhere."""
    xp = array_namespace(x, among)
    count = xp.sum(xp.astype(among, x.dtype))
    total = xp.sum(xp.where(among, x, 0.0))
    return xp.where(count > 0, total / xp.clip(count, 1.0, None), math.nan)


def _teammate_correlation(movement: Array, live: Array) -> Array:
    """Returns the correlation of `movement` with its mean over live teammates, 0 where undefined.

    `movement` (..., N) is at least 0, and 0 where `live` is False.
    """
    xp = array_namespace(movement, live)
    alive = xp.astype(live, movement.dtype)
    mates = xp.sum(alive, axis=-1, keepdims=True) - alive
    total = xp.sum(movement, axis=-1, keepdims=True)
    theirs = (total - movement) / xp.clip(mates, 1.0, None)
    paired = live & (mates > 0)

    def centred(x: Array) -> Array:
        # Shifted by one of its own values first: a constant then has a variance of exactly 0,
        # where rounding in its mean would leave a little and so a spurious correlation.
        x = x - xp.max(xp.where(paired, x, 0.0))
        return x - _mean(x, paired)

    own, other = centred(movement), centred(theirs)
    scale = _mean(own**2, paired) ** 0.5 * _mean(other**2, paired) ** 0.5
    return xp.where(scale > 0, _mean(own * other, paired) / xp.where(scale > 0, scale, 1.0), 0.0)
