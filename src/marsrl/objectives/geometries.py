"""The surrogates: functions of `(log_ratio, advantage, region)`, elementwise.

Every geometry is continued along its tangent beyond `|u| = U_MAX`, where `exp` would soon overflow:
`J(u_c) + J'(u_c) (u - u_c)` with `u_c = clip(u, -U_MAX, U_MAX)`. The gradient there is large and
finite; clamping `u` instead would remove it, exactly where a sample most needs to be pulled back.

Each depends on the region by its two edges alone, of which a region wide enough lacks the lower one
(`lower <= 0`): what then becomes of a bad action's probability is said with each. The edges may be
numbers, or arrays () that a compiled program computes.

MARS is named, but not printed, in the abstract of "Rethinking Ratio-Based Trust Regions for Policy
Optimization in Multi-Agent Reinforcement Learning" (2026-05-09). `symmetric` is derived from the
published abstract: from the properties it states, not from an equation of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from array_api_compat import array_namespace, is_array_api_obj

from marsrl.objectives.arrays import Array, constant
from marsrl.objectives.trust_region import TrustRegion

U_MAX = 20.0
"""Largest `|u|` (nats) at which a geometry is evaluated; its tangent continues it beyond.

`exp(2 U_MAX) = 2.4e17` fits in float32 and bfloat16; float16 overflows and is not supported."""

ROLLBACK = 0.3
"""`alpha` of `rolled_back`: PPO-RB's on all tasks but Humanoid (0.02)."""

CAP = 2.0
"""`kappa` of `capped`: about what `quadratic` comes to on `r < 1`, 1.8 at `eps = 0.2`."""

ANO_PUSH, ANO_PULL = 10.0, -1.5
"""`kappa_plus` and `kappa_minus` of `redescending`: the paper's."""

SAPO_TAU_GOOD, SAPO_TAU_BAD = 1.0, 1.05
"""`tau` of `gated` in a region of width 1: the paper's."""

DPO_ALPHA, DPO_BETA = 2.0, 0.6
"""`a` and `b` of `discovered` in a region of width 1: the paper's."""

Geometry: TypeAlias = Callable[[Array, Array, TrustRegion], Array]
"""`(log_ratio, advantage, region) -> surrogate`, elementwise."""


def clipped(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The clipped surrogate: no gradient for a sample that has left the region as `A` wished.

    `J = min(r A, clip(r, lower, upper) A)`; `dJ/du = 0` if `A > 0, r > upper` or
    `A < 0, r < lower`, else `r A`. Without a lower edge nothing stops a bad action: the gradient
    `r A` pushes its probability down all the way. Source: PPO (Schulman et al., 2017); with a joint
    advantage MAPPO (Yu et al., 2022).

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
    stopped = xp.clip(r, region.lower, region.upper) * advantage
    left = stopped < unclipped  # not the lesser of the two: libraries differ on its slope in a tie
    slope = xp.where(left, 0.0, unclipped)
    return xp.where(left, stopped, unclipped) + slope * beyond


def rolled_back(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The clip with a slope back: corrective gradients outside, without any barrier.

    `J = r A`, but `((1 + alpha) upper - alpha r) A` if `A > 0, r > upper`, and
    `((1 + alpha) lower - alpha r) A` if `A < 0, r < lower`, where `dJ/du = -alpha r A` turns round:
    it vanishes like `r` as `r -> 0`. `alpha = ROLLBACK`. Without a lower edge nothing stops a bad
    action. Source: PPO-RB (Truly PPO, Wang et al., 2019, arXiv 1903.07940).

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    edge = _side(advantage, region.upper, region.lower)
    left = xp.where(advantage >= 0, r > edge, r < edge)
    inside = r * advantage
    value = xp.where(left, ((1 + ROLLBACK) * edge - ROLLBACK * r) * advantage, inside)
    slope = xp.where(left, -ROLLBACK * inside, inside)
    return value + slope * beyond


def quadratic(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """The soft quadratic penalty: optimal at the region's edge, with a bounded cost as `r -> 0`.

    `J = r A - |A| c (r - 1)^2`, `c = 1/(2 (upper - 1))` if `A >= 0` else `1/(2 (1 - lower))`;
    `dJ/du = r (A - 2 |A| c (r - 1))`, which vanishes like `r` as `r -> 0`. Without a lower edge
    (`lower <= 0`) the optimum of a bad action is out of reach, and its slope, negative for every
    `r > 0`, pushes the probability down all the way: the collapse. Source: SPO (Xie et al.,
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
    as a bad one at `1/r`. As `lower -> 0` a bad action's `lam` goes to 0: without a lower edge it
    has no barrier, and `J = r A`. Derived from the published abstract, see the module's docstring;
    it is not an equation of the paper.

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    weight = _weight(advantage, *_barrier(region))
    # r + 1/r - 2 = 4 sinh(u/2)^2, without the cancellation near r = 1.
    value = r * advantage - weight * 4 * xp.sinh(u / 2) ** 2
    slope = r * advantage - weight * 2 * xp.sinh(u)
    return value + slope * beyond


def capped(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """`symmetric` with a bounded slope: the symmetry and the pull without the unbounded cost.

    `J` of `symmetric` where its `|dJ/du| <= kappa |A|`, and along its tangent from there on:
    `dJ/du = clip(|A| (lam/r + (sign(A) - lam) r), -kappa |A|, kappa |A|)`, `kappa = CAP`. The slope
    falls from `kappa |A|` to `-kappa |A|`, through 0 at the region's edge and through `A` at
    `r = 1`. As for `symmetric`, a bad action without a lower edge has no barrier. An ablation of
    this project.

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    good, bad = _barrier(region)
    good_fall, bad_fall = 1 / (region.upper**2 - 1), 1 + bad  # lam - sign(A)

    def ratio(at_low: bool) -> Array:
        """Where the slope is `kappa` (at the lower ratio) or `-kappa` times `|A|`."""

        def solved(lam: Any, fall: Any) -> Any:
            # The positive root of fall r^2 +- kappa r - lam = 0, without cancellation.
            root = CAP + (CAP**2 + 4 * lam * fall) ** 0.5
            return 2 * lam / root if at_low else root / (2 * fall)

        return _side(advantage, solved(good, good_fall), solved(bad, bad_fall))

    def limit(r: Array) -> Array:
        return xp.log(xp.clip(r, math.exp(-U_MAX), math.exp(U_MAX)))

    u, beyond = _split(log_ratio, limit(ratio(True)), limit(ratio(False)))
    weight = _weight(advantage, good, bad)
    r = xp.exp(u)
    value = r * advantage - weight * 4 * xp.sinh(u / 2) ** 2
    slope = r * advantage - weight * 2 * xp.sinh(u)
    return value + slope * beyond


def logarithmic(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """A quadratic penalty in log space: the symmetry of `symmetric` without its wall at `r = 0`.

    `J = A (1 + u) - |A| u^2 / (2 h)`, `h = log(upper)` if `A >= 0` else `-log(lower)`;
    `dJ/du = A - |A| u / h`, zero at the region's edge. The constant `A` has no gradient: it gives
    `J = A` at `r = 1`, as everywhere in this package. As `lower -> 0` a bad action's `1/h` goes to
    0: without a lower edge `dJ/du = A` everywhere, and nothing stops it. An ablation of this
    project, which asks whether the symmetry or the wall helps.

    Args and result as for `clipped`.
    """
    u, beyond = _split(log_ratio)
    weight = _weight(advantage, _inverse_log(region.upper), -_inverse_log(region.lower))
    value = advantage * (1 + u) - weight * u**2 / 2
    slope = advantage - weight * u
    return value + slope * beyond


def _gain_shape(push: float, pull: float) -> tuple[float, float]:
    """`nu` and `k` of `redescending`, in closed form from `kappa_plus` and `kappa_minus`."""
    depth = -pull / push
    s = (2 * depth + math.sqrt(2 * (depth + 1))) / (1 - depth)
    nu = (s**2 - 2) / 2  # the least gain is `pull`
    b, c = nu * (push + 1) + 1, nu * (push - 1)
    return nu, -math.log(2 * c / (b + math.sqrt(b**2 + 4 * c)))  # the gain at r = 1 is 1


_ANO_NU, _ANO_K = _gain_shape(ANO_PUSH, ANO_PULL)


def redescending(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """ANO: a gain that is bounded everywhere, and falls back to 0 for outliers.

    With the distance `d = sign(A) (r - 1)` in the direction that `A` wishes and the region's width
    `w` there (`upper - 1` or `1 - lower`): `dJ/du = A r G'(d)`,
    `G'(d) = kappa_plus nu (1 - E) / ((1 + E) (E + nu))`, `E = exp(k (d/w - 1))`; so
    `J = A + |A| w (kappa_plus/k) (phi(E) - phi(E at r = 1))`,
    `phi = log(E/(1 + E)) + (nu + 1)/(nu - 1) log((E + nu)/(E + 1))`. The difference is taken term
    by term, from how far `log E` is from where it starts: a wide region multiplies what it would
    lose if both were computed. `nu` and `k` follow from `G'(0) = 1` and from the least `G'`,
    `kappa_minus`; `kappa_plus` is the largest, and `G'(w) = 0` at the edge.
    `kappa_plus, kappa_minus = ANO_PUSH, ANO_PULL`. As `r -> 0` the slope vanishes like `r`; without
    a lower edge nothing stops a bad action. Source: ANO (Zhang et al., 2026, arXiv 2605.02320) and
    the authors' code, `min(g(r) A, G(r) A)` with `g(r) = 2 - G(2 - r)`.

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    distance = xp.where(advantage >= 0, r - 1, 1 - r)
    high, low = region.upper - 1, 1 - region.lower
    way = _ANO_K * distance / _side(advantage, high, low)  # log E less what it is at r = 1
    z, zero = way - _ANO_K, xp.zeros_like(way)
    rest = xp.exp(-xp.logaddexp(zero, z))  # 1/(1 + E), also where E overflows
    other = xp.exp(-xp.logaddexp(zero, -z))  # E/(1 + E)
    start = 1 / (1 + math.exp(-_ANO_K))  # `rest` at r = 1
    ahead = way >= 0
    shrunk = _expm1(xp.where(ahead, -way, way))  # from 0 to -1, on both sides
    lost = xp.where(ahead, start * other, (start - 1) * rest) * shrunk  # rest - start
    first = xp.where(ahead, zero, way) - xp.log1p(
        xp.where(ahead, start * shrunk, (1 - start) * shrunk)
    )
    second = xp.log1p((_ANO_NU - 1) / (1 + (_ANO_NU - 1) * start) * lost)
    skew, scale = (_ANO_NU + 1) / (_ANO_NU - 1), ANO_PUSH / _ANO_K
    weight = _weight(advantage, scale * high, scale * low)
    value = advantage + weight * (first + skew * second)
    gain = ANO_PUSH * _ANO_NU * (2 * rest - 1) * rest / (1 + (_ANO_NU - 1) * rest)
    return value + r * advantage * gain * beyond


def gated(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """SAPO: a gate that closes with the distance from `r = 1`, on both sides and for either sign.

    `J = A (4/tau) sigmoid(tau (r - 1)) + A (1 - 2/tau)`; `dJ/du = r A sech(tau (r - 1)/2)^2`. The
    constant has no gradient: it gives `J = A` at `r = 1`. Nothing that has moved as `A` wished is
    ever pulled back, and a sample far above `r = 1` loses its gradient even where `A < 0` would
    bring it down; at `r -> 0` the slope is a share of `r A`.

    The formula has no region. Its width is a scale here: `tau = SAPO_TAU_GOOD/(upper - 1)` if
    `A >= 0` else `SAPO_TAU_BAD/(1 - lower)`, which is the paper's at `eps = 1`. Source: SAPO (Gao
    et al., 2025, arXiv 2511.20347).

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    high, low = region.upper - 1, 1 - region.lower
    width = _side(advantage, 2 / SAPO_TAU_GOOD * high, 2 / SAPO_TAU_BAD * low)  # 2/tau
    gate = xp.tanh((r - 1) / width)
    value = advantage * (1 + width * gate)  # 2 sigmoid(x) = 1 + tanh(x/2)
    slope = r * advantage * (1 - gate**2)
    return value + slope * beyond


def discovered(log_ratio: Array, advantage: Array, region: TrustRegion) -> Array:
    """DPO: `r A` less a drift that was found by search: a fading gain up, a bounded pull down.

    `J = r A - max(0, x - a tanh(x/a))`, `x = (r - 1) A`, `a = DPO_ALPHA (upper - 1)` if `A >= 0`
    else `x = u A`, `a = DPO_BETA (1 - lower)`. `dJ/du = r A sech(x/a)^2` for a good action above
    `r = 1`; `A (r - tanh(x/a)^2)`, which goes to `-A` as `r -> 0`, for a bad one below; `r A` on
    the other sides. It is not proportional to `A`: a large advantage leaves the region sooner.

    The formula has no region. Its width is a scale here: `eps = 1` gives the paper's `a` and `b`.
    Source: Discovered Policy Optimisation (Lu et al., NeurIPS 2022, arXiv 2210.05639).

    Args and result as for `clipped`.
    """
    xp = array_namespace(log_ratio, advantage)
    u, beyond = _split(log_ratio)
    r = xp.exp(u)
    good = advantage >= 0
    high, low = region.upper - 1, 1 - region.lower
    a = _side(advantage, DPO_ALPHA * high, DPO_BETA * low)
    x = xp.where(good, r - 1, u) * advantage
    squashed = xp.tanh(x / a)
    outright = r * advantage
    # r A - x is A for a good action: spelled out, since the difference cancels for a large r.
    left = xp.where(good, advantage, outright - u * advantage) + a * squashed
    leaving = xp.where(good, outright * (1 - squashed**2), outright - advantage * squashed**2)
    value = xp.where(x > 0, left, outright)
    slope = xp.where(x > 0, leaving, outright)
    return value + slope * beyond


def _split(log_ratio: Array, low: Any = -U_MAX, high: Any = U_MAX) -> tuple[Array, Array]:
    """Splits `u` into where a geometry is evaluated and the rest, which is 0 within the limits."""
    inner = array_namespace(log_ratio).clip(log_ratio, low, high)
    return inner, log_ratio - inner


def _expm1(x: Array) -> Array:
    """`exp(x) - 1`, right near 0 too, with the derivative of `exp`: that of `expm1` cancels."""
    xp = array_namespace(x)
    rough = xp.exp(x) - 1
    return rough + constant(xp.expm1(x) - rough)


def _weight(advantage: Array, rising: Any, falling: Any) -> Array:
    """Returns `|A| rising` where `A >= 0` and `|A| falling` elsewhere."""
    # Both branches are arrays, because `where` over two numbers would choose its own dtype.
    xp = array_namespace(advantage)
    return xp.where(advantage >= 0, rising * advantage, -falling * advantage)


def _side(advantage: Array, good: Any, bad: Any) -> Array:
    """Returns `good` where `A >= 0` and `bad` elsewhere."""
    xp = array_namespace(advantage)
    zero = xp.zeros_like(advantage)  # as in `_weight`
    return xp.where(advantage >= 0, zero + good, zero + bad)


def _barrier(region: TrustRegion) -> tuple[Any, Any]:
    """`lam` of `symmetric` for good and for bad actions; 0 for bad ones without a lower edge."""
    lower: Any = region.lower
    if is_array_api_obj(lower):
        lower = array_namespace(lower).clip(lower, 0.0, None)
    else:
        lower = max(lower, 0.0)
    return 1 / (1 - region.upper**-2), lower**2 / (1 - lower**2)


def _inverse_log(edge: Any) -> Any:
    """Returns `1/log(edge)`, and its limit 0 if there is no edge."""
    there = edge > 0
    if not is_array_api_obj(edge):
        return 1 / math.log(edge) if there else 0.0
    xp = array_namespace(edge)
    return xp.where(there, 1 / xp.log(xp.where(there, edge, 0.5)), 0.0)
