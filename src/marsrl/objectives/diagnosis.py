"""What a minibatch's ratios and gradients tell of the failures that objectives differ in."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from marsrl.objectives.arrays import Array, constant, expanded
from marsrl.objectives.geometries import U_MAX
from marsrl.objectives.trust_region import TrustRegion


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
    for `gradient/corrective` and `gradient/restoring` while nothing is outside the region, and for
    `gradient/low` and `gradient/high` while no sample has a gradient.

    - `ratio/min`, `ratio/max`, `ratio/std`: of `r`
    - `ratio/outside`: share with `r < lower` or `r > upper`
    - `ratio/collapsed`: share with `r < collapsed_below`
    - `ratio/teammates`: correlation between `|u|` of a sample and the mean `|u|` of its live
      teammates, over the samples that have any; 0 where undefined
    - `approx_kl`: mean of `r - 1 - u` (nats)
    - `gradient/dead`: share with `|dJ/du| <= 1e-8 |A|` (a sample with `A = 0` is one)
    - `gradient/corrective`: among samples outside, the share whose `dJ/du` moves `u` towards 0
    - `gradient/restoring`: among samples outside, the mean of `-sign(u) dJ/du / |A|` (0 if `A = 0`)
    - `gradient/low`, `gradient/high`: the share of the sum of `(dJ/du)^2` that comes from samples
      with `r < 1/2`, and with `r > 2`

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
    live = expanded("agent_mask", agent_mask, log_ratio)

    def cleaned(name: str, x: Array) -> Array:
        return xp.where(live, constant(expanded(name, x, log_ratio)), 0.0)

    u = cleaned("log_ratio", log_ratio)
    size, slope = xp.abs(cleaned("advantage", advantage)), cleaned("slope", slope)
    inner = xp.clip(u, -U_MAX, U_MAX)
    r = xp.exp(inner)
    outside = live & ((r < region.lower) | (r > region.upper))
    some = xp.any(live)
    return {
        "ratio/min": xp.where(some, xp.min(xp.where(live, r, math.inf)), math.nan),
        "ratio/max": xp.where(some, xp.max(xp.where(live, r, -math.inf)), math.nan),
        "ratio/std": _mean((r - _mean(r, live)) ** 2, live) ** 0.5,
        "ratio/outside": _share(outside, live, u),
        "ratio/collapsed": _share(r < collapsed_below, live, u),
        "ratio/teammates": _teammate_correlation(xp.abs(u), live),
        "approx_kl": _mean(xp.expm1(inner) - u, live),
        **_of_gradients(u, size, slope, live, outside),
    }


def _of_gradients(
    u: Array, size: Array, slope: Array, live: Array, outside: Array
) -> dict[str, Array]:
    """Returns the entries `gradient/...` of `diagnostics`; `size` is `|A|`."""
    xp = array_namespace(u, size, slope, live)
    restoring = -xp.sign(u) * slope
    return {
        "gradient/dead": _share(xp.abs(slope) <= 1e-8 * size, live, u),
        "gradient/corrective": _share(restoring > 0, outside, u),
        "gradient/restoring": _mean(restoring / xp.where(size > 0, size, 1.0), outside),
        "gradient/low": _share_of_squares(slope, u < -math.log(2)),
        "gradient/high": _share_of_squares(slope, u > math.log(2)),
    }


def _share(condition: Array, among: Array, like: Array) -> Array:
    """Returns the share of `among` where a condition holds too, as a number like `like`."""
    xp = array_namespace(condition, among, like)
    return _mean(xp.astype(condition, like.dtype), among)


def _share_of_squares(x: Array, among: Array) -> Array:
    """Returns the share of the sum of `x^2` that comes from where `among` holds, NaN of nothing."""
    xp = array_namespace(x, among)
    largest = xp.max(xp.abs(x))
    there = largest > 0
    squares = (x / xp.where(there, largest, 1.0)) ** 2  # which then neither over- nor underflow
    share = xp.sum(xp.where(among, squares, 0.0)) / xp.where(there, xp.sum(squares), 1.0)
    return xp.where(there, share, math.nan)


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
