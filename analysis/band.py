"""The band: the initial learning rates whose final solution is within a margin of the best.

The curve is the mean error over seeds by learning rate, joined by straight lines in log learning rate. The band is the
stretch around the optimum on which that curve stays within the margin; its edges are where the curve leaves it, between
two grid points, or the grid's end where it never does. The level of "the best" is measured on seeds that did not choose
it: the lowest of many noisy means is too low, and would make the band too narrow.

Intervals of the edges come from bootstrapped comparisons of every rate with every other (`contrasts`): the outer end of
an edge's interval is where a rate is surely outside the band, the inner end where it is surely inside.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.contrasts import cluster_means, excess_bounds
from analysis.estimates import Estimate, mean_estimate

__all__ = ["Band", "curve", "find_band", "stretch"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Band:
    """The best initial learning rates for one final quality.

    Attributes:
        optimum_lr: the rate with the lowest mean error.
        optimum_ci: from the lowest to the highest rate that may be the best.
        best_error: mean error at the optimum, measured on seeds that did not choose it.
        low: lower edge.
        high: upper edge.
        low_ci: interval of the lower edge; NaN with a single cluster of seeds.
        high_ci: interval of the upper edge.
        open_low: the curve does not leave the band above the grid's lower end.
        open_high: nor below its upper end.
        margin: width of the band in error.
    """

    optimum_lr: float
    optimum_ci: tuple[float, float]
    best_error: float
    low: float
    high: float
    low_ci: tuple[float, float]
    high_ci: tuple[float, float]
    open_low: bool
    open_high: bool
    margin: float


def curve(error: Floats, clusters: Ints, confidence: float) -> list[Estimate]:
    """Mean error over seeds with its interval, by learning rate.

    Args:
        error: [U, L].
        clusters: [U].
        confidence: nominal coverage.

    Returns:
        [L] estimates.
    """
    return [mean_estimate(error[:, place], clusters, confidence) for place in range(error.shape[1])]


def stretch(values: Floats, level: float, lrs: Floats, start: int) -> tuple[float, float]:
    """The stretch around a grid point on which a curve does not exceed a level.

    Args:
        values: [L] the curve.
        level: its highest allowed value.
        lrs: [L] ascending.
        start: a grid point whose value is allowed.

    Returns:
        Both ends: crossings by linear interpolation in log rate, or ends of the grid.
    """
    ends = []
    for step, stop in ((-1, -1), (1, len(lrs))):
        inside = start
        while inside + step != stop and values[inside + step] <= level:
            inside += step
        outside = inside + step
        if outside == stop:
            ends.append(float(lrs[inside]))
            continue
        part = (level - values[inside]) / (values[outside] - values[inside])
        ends.append(float(np.exp((1 - part) * np.log(lrs[inside]) + part * np.log(lrs[outside]))))
    return ends[0], ends[1]


def find_band(
    error: Floats,
    choosing: Floats,
    lrs: Floats,
    clusters: Ints,
    *,
    margin: float,
    confidence: float,
    generator: np.random.Generator,
) -> Band | None:
    """The band of one final quality.

    Args:
        error: [U, L] errors.
        choosing: [U, L] errors by which the optimum is chosen; `error` itself without a validation split.
        lrs: [L] ascending.
        clusters: [U] cluster of each seed.
        margin: width of the band in error.
        confidence: nominal coverage of the intervals.
        generator: for the bootstrap.

    Returns:
        The band; None where nothing has been measured.
    """
    measured = np.isfinite(error).any(axis=0) & np.isfinite(choosing).any(axis=0)
    if not measured.any():
        return None
    error, choosing, lrs = error[:, measured], choosing[:, measured], lrs[measured]
    means = _means(error)
    best = int(_means(choosing).argmin())
    level = max(_unpicked_best(error, choosing, clusters), float(means[best]))
    low, high = stretch(means, level + margin, lrs, best)
    lower, upper = excess_bounds(cluster_means(error, clusters), confidence, generator)
    optimum_ci, low_ci, high_ci = _intervals(lower, upper, margin, lrs, best)
    return Band(
        optimum_lr=float(lrs[best]),
        optimum_ci=optimum_ci,
        best_error=level,
        low=low,
        high=high,
        low_ci=low_ci,
        high_ci=high_ci,
        open_low=bool(low <= lrs[0]),
        open_high=bool(high >= lrs[-1]),
        margin=margin,
    )


def _intervals(
    lower: Floats, upper: Floats, margin: float, lrs: Floats, best: int
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """Intervals of the optimum and of both edges."""
    if np.isnan(lower).any():
        unknown = (np.nan, np.nan)
        return unknown, unknown, unknown
    may_be_best = lrs[(lower <= 0) | (np.arange(len(lrs)) == best)]
    optimum = (float(may_be_best[0]), float(may_be_best[-1]))
    outer = stretch(lower, margin, lrs, best)
    if upper[best] > margin:  # not even the optimum is surely inside: either edge may lie anywhere in the outer stretch
        return optimum, outer, outer
    inner = stretch(upper, margin, lrs, best)
    return optimum, (outer[0], inner[0]), (inner[1], outer[1])


def _unpicked_best(error: Floats, choosing: Floats, clusters: Ints) -> float:
    """Mean error of the best rate, each cluster's measured at the rate that the other clusters choose."""
    groups = np.unique(clusters[np.isfinite(choosing).any(axis=1)])
    if len(groups) < 2:
        return -np.inf
    values = [error[clusters == group, int(_means(choosing[clusters != group]).argmin())] for group in groups]
    flat = np.concatenate(values)
    flat = flat[np.isfinite(flat)]
    return float(flat.mean()) if len(flat) else -np.inf


def _means(error: Floats) -> Floats:
    """[L] means over the measured seeds; infinite where there are none."""
    known = np.isfinite(error)
    count = known.sum(axis=0)
    means: Floats = np.where(count > 0, np.where(known, error, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf)
    return means
