"""Intervals for "best" and "better than the best of", which stay honest although the best is picked from the data.

These are multiple comparisons with the best (Hsu, Annals of Statistics 1984): every configuration is compared with
every other, paired by seed, and wherever a bound takes the most favourable of several comparisons, the bootstrap
distribution of their maximum sets how far it must stand off. An interval around the picked winner alone would be too
narrow: in simulations with equal configurations it covered the truth in 70 % of cases instead of 95 %.
"""

import numpy as np
import numpy.typing as npt

from analysis.estimates import bootstrap_weights

__all__ = ["cluster_means", "excess_bounds", "gap_interval"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DRAWS = 2000
_TINY = 1e-12


def cluster_means(values: Floats, clusters: Ints) -> Floats:
    """Average the seeds of each cluster, and keep the clusters in which every configuration was measured.

    Args:
        values: [U, K] one number for each seed and configuration.
        clusters: [U].

    Returns:
        [C, K]; C is 0 where no cluster is complete.
    """
    _, codes = np.unique(clusters, return_inverse=True)
    known = np.isfinite(values)
    sums, counts = (np.zeros((int(codes.max(initial=-1)) + 1, values.shape[1])) for _ in range(2))
    np.add.at(sums, codes, np.where(known, values, 0.0))
    np.add.at(counts, codes, known.astype(np.float64))
    complete = (counts > 0).all(axis=1)
    means: Floats = sums[complete] / counts[complete]
    return means


def gap_interval(
    base: Floats, rivals: Floats, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Interval of min over `base` minus min over `rivals` of the true means: how much lower the best rival is.

    Args:
        base: [C, A] errors of the configurations on one side, by cluster.
        rivals: [C, R] errors of those on the other side.
        confidence: nominal coverage.
        generator: for the bootstrap.

    Returns:
        Both ends; NaN with fewer than two clusters.
    """
    count = len(base)
    if count < 2:
        return (np.nan, np.nan)
    weights, tails = bootstrap_weights(count, _DRAWS, generator) / count, _student_tails(count, generator)
    base_mean, base_draws = base.mean(axis=0), weights @ base
    highest = np.full((_DRAWS, base.shape[1]), -np.inf)
    differences, errors, upper = [], [], []
    for rival in rivals.T:
        difference = base_mean - rival.mean()
        shift = base_draws - (weights @ rival)[:, None] - difference
        error = _error(shift, count)
        standardised = shift / error * tails
        highest = np.maximum(highest, standardised)
        critical = float(np.quantile((-standardised).max(axis=1), 0.5 + confidence / 2))
        upper.append(difference + critical * error)
        differences.append(difference)
        errors.append(error)
    critical_lower = np.quantile(highest, 0.5 + confidence / 2, axis=0)
    lower = np.array(differences) - critical_lower * np.array(errors)  # [R, A]
    return float(lower.min(axis=1).max()), float(np.array(upper).max(axis=0).min())


def excess_bounds(error: Floats, confidence: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Bounds of how much worse each configuration is than the best of all.

    Args:
        error: [C, K] errors by cluster.
        confidence: nominal coverage of each configuration's pair of bounds.
        generator: for the bootstrap.

    Returns:
        [K] lower and [K] upper bound of the true mean minus the lowest true mean; NaN with fewer than two clusters.
    """
    count, size = error.shape
    if count < 2:
        return np.full(size, np.nan), np.full(size, np.nan)
    weights, tails = bootstrap_weights(count, _DRAWS, generator) / count, _student_tails(count, generator)
    mean, draws = error.mean(axis=0), weights @ error
    lower, upper = np.zeros(size), np.zeros(size)
    for place in range(size):
        difference = mean[place] - mean
        shift = draws[:, [place]] - draws - difference
        spread = _error(shift, count)
        critical = float(np.quantile((shift / spread * tails).max(axis=1), 0.5 + confidence / 2))
        lower[place] = max((difference - critical * spread)[np.arange(size) != place].max(initial=0.0), 0.0)
        upper[place] = (difference + _student(count, confidence) * spread).max()
    return lower, np.maximum(upper, 0.0)


def _error(shift: Floats, count: int) -> Floats:
    """Standard error of each column of bootstrap shifts, corrected for the number of clusters."""
    error: Floats = np.sqrt(count / (count - 1)) * shift.std(axis=0) + _TINY
    return error


def _student_tails(count: int, generator: np.random.Generator) -> Floats:
    """[draws, 1] factors that turn normal maxima into Student's: the standard errors are estimates themselves."""
    degrees = count - 1
    factors: Floats = np.sqrt(degrees / generator.chisquare(degrees, size=(_DRAWS, 1)))
    return factors


def _student(count: int, confidence: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 0.5 + confidence / 2))
