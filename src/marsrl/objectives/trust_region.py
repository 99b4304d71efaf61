"""Where a sample's ratio should stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj

from marsrl.errors import shown

RegionKind: TypeAlias = Literal["additive", "geometric", "flexible"]

MIN_EPS, MAX_EPS = 1e-6, 1e6
"""Narrowest and widest region: float32, in which training runs, tells its edges from 1 and 0."""


@dataclass(frozen=True)
class TrustRegion:
    """Where a sample's ratio should stop: at `upper` when `A > 0`, at `lower` when `A < 0`.

    No ratio is as low as a `lower` of 0 or less: such a region has no lower edge, and an objective
    whose penalty belongs to the edge does not stop a bad action's probability from falling to 0.

    Attributes:
        lower: the lower edge, a ratio below 1.
        upper: the upper edge, a ratio in (1, inf).
        kind: how it follows from its widths: by steps in the ratio, the same both ways
            ("additive") or not ("flexible"), or by the same step in the log-ratio ("geometric").

    Raises:
        ValueError: if an edge lies outside its interval.
    """

    lower: float
    upper: float
    kind: RegionKind = field(default="additive", compare=False)

    def __post_init__(self) -> None:
        _check_between("lower", self.lower, -math.inf, 1)
        _check_between("upper", self.upper, 1, math.inf)

    @classmethod
    def additive(cls, eps: float) -> TrustRegion:
        """Returns `[1 - eps, 1 + eps]`, `eps > 0`: the same step in the ratio both ways."""
        return cls.of("additive", eps, eps)

    @classmethod
    def geometric(cls, eps: float) -> TrustRegion:
        """Returns `[1/(1 + eps), 1 + eps]`, `eps > 0`: the same step in log-ratio both ways."""
        return cls.of("geometric", eps, eps)

    @classmethod
    def flexible(cls, eps_low: float, eps_high: float) -> TrustRegion:
        """Returns `[1 - eps_low, 1 + eps_high]`, both widths above 0."""
        return cls.of("flexible", eps_low, eps_high)

    @classmethod
    def of(cls, kind: RegionKind, low: Any, high: Any) -> TrustRegion:
        """The region of a kind with these widths: the inverse of `widths`.

        Args:
            kind: of the region.
            low: `1 - lower`; a geometric region has one width, `high`.
            high: `upper - 1`. Numbers from `MIN_EPS` to `MAX_EPS`, or arrays () that a compiled
                program computes, which cannot be checked.

        Raises:
            ValueError: if a width is a number out of range.
        """
        if not (_is_array(low) or _is_array(high)):
            for name, eps in zip(_WIDTHS[kind], (low, high), strict=True):
                _check_eps(name, eps)
        upper = 1 + high
        region = object.__new__(cls)  # a check of the edges would ask for the values of a trace
        edges = {"lower": 1 / upper if kind == "geometric" else 1 - low, "upper": upper}
        for name, value in {**edges, "kind": kind}.items():
            object.__setattr__(region, name, value)
        return region

    @property
    def widths(self) -> tuple[float, float]:
        """`(1 - lower, upper - 1)`; both are `upper - 1` if the region is geometric."""
        high = self.upper - 1
        return high if self.kind == "geometric" else 1 - self.lower, high


_WIDTHS: dict[RegionKind, tuple[str, str]] = {
    "additive": ("eps of an additive region", "eps of an additive region"),
    "geometric": ("eps of a geometric region", "eps of a geometric region"),
    "flexible": ("eps_low", "eps_high"),
}


def _is_array(width: Any) -> bool:
    return not isinstance(width, int | float | np.number) and is_array_api_obj(width)


def _check_eps(name: str, eps: float) -> None:
    _check_between(name, eps, 0, math.inf)
    slack = 1 + 1e-9  # the widths of a region are rounded
    if not MIN_EPS / slack <= eps <= MAX_EPS * slack:
        nearest = max(MIN_EPS, min(eps, MAX_EPS))
        raise ValueError(
            f"{name} must be from {MIN_EPS:g} to {MAX_EPS:g}, got {shown(eps)}; the "
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
