"""The factorial ablation, geometries by boundaries: which of the two a score depends on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from marsrl.report.bootstrap import Estimate, bootstrap, percentiles, widened
from marsrl.report.stats import Floats, full_grid, iqm


class FactorialEffects(NamedTuple):
    """What geometry and boundary do to `cell[g, b]`, the IQM of geometry g with boundary b.

    Every effect is a difference of IQMs, in normalised score; it changes sign with the order of
    the pair and is 0 between a thing and itself.

    Attributes:
        cells: (G, B) `cell[g, b]` itself.
        geometry: (G, G) `[g, h]` is the mean over b of `cell[g, b] - cell[h, b]`.
        boundary: (B, B) `[b, c]` is the mean over g of `cell[g, b] - cell[g, c]`.
        interaction: (G, G, B, B) `[g, h, b, c]` is how the effect of boundary b against c differs
            between geometries g and h,
            `(cell[g, b] - cell[g, c]) - (cell[h, b] - cell[h, c])`.
    """

    cells: Estimate
    geometry: Estimate
    boundary: Estimate
    interaction: Estimate


def factorial_effects(
    x: ArrayLike,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 10_000,
    widen: bool = False,
) -> FactorialEffects:
    """Main effects of geometry and boundary and their interaction, with bootstrap intervals.

    Args:
        x: (G, B, T, S) normalised scores. Each cell's seeds are resampled on their own, within
            each task; all effects are taken on the same resamples.
        seed: of the resampling.
        confidence: nominal coverage.
        resamples: how many.
        widen: make up for few seeds, see `bootstrap.widened`.

    Raises:
        ValueError: a setting is out of range, or the grid is not full (see `full_grid`).
    """
    x = full_grid("x", x, axes=4)
    geometries, boundaries = x.shape[:2]
    cells = [x[g, b] for g in range(geometries) for b in range(boundaries)]

    def table(*cells: Floats) -> Floats:
        values = np.stack([iqm(cell) for cell in cells], axis=-1)
        return values.reshape(*values.shape[:-1], geometries, boundaries)

    samples = bootstrap(table, *cells, seed=seed, resamples=resamples)
    if widen:
        samples = widened(samples, table(*cells), *(cell.shape[:2] for cell in cells))
    samples = _effects(samples)
    return FactorialEffects(
        *(
            Estimate(value, *percentiles(sample, confidence))
            for value, sample in zip(_effects(table(*cells)), samples, strict=True)
        )
    )


def _effects(cell: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The values of `FactorialEffects` in its order, from (..., G, B)."""
    geometry = cell[..., :, None, :] - cell[..., None, :, :]  # (..., G, G, B)
    return cell, geometry.mean(axis=-1), _pairs(cell.mean(axis=-2)), _pairs(geometry)


def _pairs(x: Floats) -> Floats:
    """(..., N) -> (..., N, N), each entry minus each other."""
    return x[..., :, None] - x[..., None, :]
