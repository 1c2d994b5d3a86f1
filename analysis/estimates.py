"""Numbers with intervals: means (Student), shares (Wilson), anything else (bootstrap over whole seeds).

Several training seeds that share one draw of the data are not independent: everywhere here a *cluster* is the unit that
is resampled or counted, and a seed is a cluster of its own where no data draw is shared.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Estimate",
    "bootstrap_weights",
    "finite_or_none",
    "mean_estimate",
    "median_estimate",
    "percentiles",
    "share_estimate",
    "weighted_median",
    "wilson",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: the estimate; NaN where nothing was measured.
        low: lower end of its interval; NaN where one cluster leaves no room for an interval.
        high: upper end.
        n: measured seeds behind it.
        confidence: the interval's nominal coverage.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends."""
        return (self.low, self.high)

    def as_json(self) -> dict[str, Any]:
        """The estimate as JSON holds it: not-a-number becomes null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: finite_or_none(number) for name, number in numbers.items()}, "n": self.n}


def finite_or_none(number: float) -> float | None:
    """A float for JSON: None where it is not a finite number."""
    return float(number) if np.isfinite(number) else None


def mean_estimate(values: Floats, clusters: Ints, confidence: float) -> Estimate:
    """The mean over seeds with Student's interval, clusters being the independent units.

    The standard error is that of a ratio of cluster sums (cluster-robust, small-sample corrected); with one seed per
    cluster it is the textbook one. Student's interval keeps its coverage down to two clusters, where a bootstrap is
    far too narrow.

    Args:
        values: [seeds]; NaN where not measured.
        clusters: [seeds] cluster number of each.
        confidence: nominal coverage, such as 0.95.

    Returns:
        The estimate; its interval is NaN with fewer than two clusters.
    """
    from scipy.special import stdtrit

    kept = np.isfinite(values)
    x, groups = values[kept], clusters[kept]
    if not len(x):
        return Estimate(np.nan, np.nan, np.nan, 0, confidence)
    mean = float(x.mean())
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max()) + 1
    if count < 2:
        return Estimate(mean, np.nan, np.nan, len(x), confidence)
    residuals = np.bincount(codes, weights=x - mean)
    error = float(np.sqrt(count / (count - 1) * (residuals**2).sum())) / len(x)
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * error
    return Estimate(mean, mean - half, mean + half, len(x), confidence)


def share_estimate(successes: int, n: int, confidence: float) -> Estimate:
    """A share with Wilson's interval, which stays inside [0, 1] and is not empty at 0 or n.

    Args:
        successes: how many of them.
        n: out of how many; 0 gives NaN.
        confidence: nominal coverage.

    Returns:
        The share.
    """
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0, confidence)
    low, high = wilson(np.array([successes / n]), np.array([n]), confidence)
    return Estimate(successes / n, float(low[0]), float(high[0]), n, confidence)


def wilson(shares: Floats, n: npt.NDArray[Any], confidence: float) -> tuple[Floats, Floats]:
    """Wilson's interval for many shares at once.

    Args:
        shares: observed shares.
        n: sample sizes, same shape.
        confidence: nominal coverage.

    Returns:
        Lower and upper ends.
    """
    from scipy.special import ndtri

    z = float(ndtri(0.5 + confidence / 2))
    scale = 1 / (1 + z**2 / n)
    centre = (shares + z**2 / (2 * n)) * scale
    half = z * scale * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def bootstrap_weights(clusters: int, draws: int, generator: np.random.Generator) -> Floats:
    """How often each cluster occurs in each resample.

    Args:
        clusters: number of clusters.
        draws: number of resamples.
        generator: the only source of randomness.

    Returns:
        [draws, clusters] counts; each row sums to `clusters`.
    """
    return generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws).astype(np.float64)


def percentiles(samples: Floats, clusters: int, confidence: float) -> tuple[float, float]:
    """The expanded percentile interval of bootstrap samples.

    The plain percentile interval of n clusters is too narrow by sqrt((n-1)/n) and by normal instead of Student
    quantiles; both are put right by reading the percentiles further out (Hesterberg, The American Statistician 2015).
    With 5 clusters the 95 % interval lies close to the whole range of the resamples.

    Args:
        samples: [draws]; NaN draws are left out.
        clusters: how many clusters were resampled.
        confidence: nominal coverage.

    Returns:
        Both ends; NaN with fewer than two clusters.
    """
    from scipy.special import ndtr, stdtrit

    kept = samples[~np.isnan(samples)]
    if clusters < 2 or not len(kept):
        return (np.nan, np.nan)
    tail = float(ndtr(-np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, 0.5 + confidence / 2)))
    low, high = np.quantile(kept, [tail, 1 - tail], method="nearest")  # samples may hold infinities: no interpolation
    return (float(low), float(high))


def weighted_median(values: Floats, weights: Floats, *, upper: bool) -> Floats:
    """The median of `values` for each row of `weights`; infinite values are values like others.

    Args:
        values: [n].
        weights: [draws, n] counts.
        upper: with an even number of values, take the upper of the middle two instead of the lower.

    Returns:
        [draws] medians.
    """
    order = np.argsort(values)
    total = np.cumsum(weights[:, order], axis=1)
    half = total[:, -1:] / 2
    reached = total > half if upper else total >= half
    medians: Floats = values[order][reached.argmax(axis=1)]
    return medians


def median_estimate(values: Floats, clusters: Ints, confidence: float, generator: np.random.Generator) -> Estimate:
    """The median over seeds with an expanded bootstrap interval.

    Args:
        values: [seeds]; NaN where not measured.
        clusters: [seeds] cluster of each; whole clusters are resampled.
        confidence: nominal coverage.
        generator: for the bootstrap.

    Returns:
        The estimate; its interval is NaN with fewer than two clusters.
    """
    kept = np.isfinite(values)
    x = values[kept]
    if not len(x):
        return Estimate(np.nan, np.nan, np.nan, 0, confidence)
    _, codes = np.unique(clusters[kept], return_inverse=True)
    count = int(codes.max()) + 1
    if count < 2:
        return Estimate(float(np.median(x)), np.nan, np.nan, len(x), confidence)
    weights = bootstrap_weights(count, 2000, generator)[:, codes]
    low, _ = percentiles(weighted_median(x, weights, upper=False), count, confidence)
    _, high = percentiles(weighted_median(x, weights, upper=True), count, confidence)
    return Estimate(float(np.median(x)), low, high, len(x), confidence)
