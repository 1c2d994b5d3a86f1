"""The best of several configurations and its error, measured on seeds that did not choose it.

The readings of seeds left out are unbiased but lean on each other's choices: Student's interval of their mean covered
the truth in 60 to 80 % of simulations instead of 95. The interval is therefore that of the lowest true mean, from
comparisons with the best (`contrasts`).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.contrasts import cluster_means, gap_interval
from analysis.estimates import Estimate, mean_estimate

__all__ = ["Choice", "choose", "lowest_mean"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice made by the lowest mean error.

    Attributes:
        place: what all seeds together choose.
        error: mean error of such choices: each cluster of seeds is read at what the others choose, so that picking the
            best of many noisy means does not flatter it. With one cluster, the error of those that chose.
        own_seeds: whether `error` was read on the seeds that chose: then it is too low.
    """

    place: int
    error: Estimate
    own_seeds: bool


def choose(
    error: Floats, choosing: Floats, clusters: Ints, confidence: float, generator: np.random.Generator
) -> Choice:
    """Choose among configurations.

    Args:
        error: [U, K] errors.
        choosing: [U, K] errors by which is chosen.
        clusters: [U] cluster of each seed.
        confidence: nominal coverage of the interval.
        generator: for the bootstrap.

    Returns:
        The choice; its interval is NaN with fewer than two clusters.
    """
    place = lowest_mean(choosing)
    groups = np.unique(clusters[np.isfinite(choosing).any(axis=1)])
    read = np.full(len(error), np.nan)
    if len(groups) > 1:
        for group in groups:
            own = clusters == group
            read[own] = error[own, lowest_mean(choosing[~own])]
    own_seeds = not np.isfinite(read).any()
    mean = mean_estimate(error[:, place] if own_seeds else read, clusters, confidence)
    means = cluster_means(error[:, np.isfinite(error).any(axis=0)], clusters)
    high, low = gap_interval(np.zeros((len(means), 1)), means, confidence, generator)  # of 0 - the lowest mean
    # The two are different statistics; the interval is stretched where it misses the estimate.
    ends = (np.nan, np.nan) if np.isnan(low) else (float(np.fmin(-low, mean.value)), float(np.fmax(-high, mean.value)))
    return Choice(place=place, error=replace(mean, low=ends[0], high=ends[1]), own_seeds=own_seeds)


def lowest_mean(error: Floats) -> int:
    """Place of the lowest mean over the measured seeds, the first of equals.

    Args:
        error: [U, K]; NaN where not measured.

    Returns:
        The place.
    """
    known = np.isfinite(error)
    count = known.sum(axis=0)
    means = np.where(count > 0, np.where(known, error, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf)
    return int(means.argmin())
