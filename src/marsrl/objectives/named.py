"""Objectives: a geometry in a trust region, under a name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from marsrl.errors import UserError, shown
from marsrl.loading import guarded, is_code, load
from marsrl.objectives import geometries
from marsrl.objectives.arrays import Array, constant, expanded
from marsrl.objectives.geometries import U_MAX, Geometry
from marsrl.objectives.trust_region import RegionKind, TrustRegion


@dataclass(frozen=True)
class Objective:
    """A named surrogate to maximise: a geometry in a trust region.

    Attributes:
        name: what logs and results call it.
        geometry: one of `geometries`, or your own.
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
        advantage = expanded("advantage", advantage, log_ratio)
        return self.geometry(log_ratio, constant(advantage), self.region)

    def within(self, low: Any, high: Any) -> Objective:
        """The objective in a region of its own kind with these widths, see `TrustRegion.of`."""
        return replace(self, region=TrustRegion.of(self.region.kind, low, high))


class Named(NamedTuple):
    """What a name stands for.

    Attributes:
        geometry: the surrogate.
        kind: of the trust region.
        default_eps: its width where none is given; not for a flexible one, whose two must be.
    """

    geometry: Geometry
    kind: RegionKind
    default_eps: float = 0.2


OBJECTIVES: dict[str, Named] = {
    "mappo": Named(geometries.clipped, "additive"),
    "maspo": Named(geometries.quadratic, "additive", 0.9),
    "mars": Named(geometries.symmetric, "geometric", 1.0),
    # The other cells of the factorial: is it the geometry or the boundary?
    "mappo-geometric": Named(geometries.clipped, "geometric"),
    "maspo-geometric": Named(geometries.quadratic, "geometric", 0.9),
    "mars-additive": Named(geometries.symmetric, "additive", 0.9),
    # Flexible boundaries alone.
    "mappo-flexible": Named(geometries.clipped, "flexible"),
    "maspo-flexible": Named(geometries.quadratic, "flexible"),
    "mars-flexible": Named(geometries.symmetric, "flexible"),
    # Symmetry without the wall at r = 0; the barrier without its unbounded cost.
    "mars-log": Named(geometries.logarithmic, "geometric", 1.0),
    "mars-capped": Named(geometries.capped, "geometric", 1.0),
    # Corrective gradients without a barrier; gains that fall back to 0.
    "rollback": Named(geometries.rolled_back, "additive"),
    "ano": Named(geometries.redescending, "additive"),
    # Without a region: eps scales what they have in its place, and 1 is their papers' setting.
    "sapo": Named(geometries.gated, "additive", 1.0),
    "dpo": Named(geometries.discovered, "additive", 1.0),
}
"""Every named objective."""

OWN_EPS = 0.2
"""What a factory of a user's own is called with where no `eps` is given."""


def default_eps(name: str) -> float:
    """The width of an objective's region where none is given, by a name that exists."""
    return OBJECTIVES[name].default_eps if name in OBJECTIVES else OWN_EPS


def make_objective(
    name: str,
    eps: float | None = None,
    eps_low: float | None = None,
    eps_high: float | None = None,
) -> Objective:
    """Makes the objective that `OBJECTIVES` lists under `name`, or that a factory of yours makes.

    Args:
        name: a key of `OBJECTIVES`, or "module:factory" or "path/file.py:factory" of a function
            like `mars`: it takes `eps` and returns an `Objective`, which is tried on a few samples.
        eps: width of an additive or geometric region, above 0; a flexible one does not use it.
            Default: `default_eps`.
        eps_low: a flexible region's `1 - lower`, above 0.
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
    geometry, kind, _ = OBJECTIVES[name]
    if eps_low is not None and eps_high is not None:
        return Objective(name, geometry, TrustRegion.flexible(eps_low, eps_high))
    return Objective(name, geometry, TrustRegion.of(kind, eps, eps))


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
    elif OBJECTIVES[name].kind == "flexible":
        if eps_low is None or eps_high is None:
            raise ValueError(f"{name} needs both widths, {given}")
    elif eps_low is not None or eps_high is not None:
        geometry = OBJECTIVES[name].geometry
        flexible = [x for x in OBJECTIVES if OBJECTIVES[x].kind == "flexible"]
        near = [x for x in flexible if OBJECTIVES[x].geometry is geometry] or flexible
        raise ValueError(
            f"{name} takes eps alone, {given}; with two widths the nearest are: {', '.join(near)}"
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


def mappo(eps: float | None = None) -> Objective:
    """Returns `clipped` in an additive region (Yu et al., 2022)."""
    return make_objective("mappo", eps)


def maspo(eps: float | None = None) -> Objective:
    """Returns `quadratic` in an additive region (SPO: Xie et al., ICML 2025)."""
    return make_objective("maspo", eps)


def mars(eps: float | None = None) -> Objective:
    """Returns `symmetric` in a geometric region: derived from the published abstract."""
    return make_objective("mars", eps)


def mars_log(eps: float | None = None) -> Objective:
    """Returns `logarithmic` in a geometric region: an ablation of `mars`."""
    return make_objective("mars-log", eps)
