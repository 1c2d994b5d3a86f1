"""Intervals of figures that are no means: the jackknife over samples."""

import numpy as np
import numpy.typing as npt

from analysis.estimates import Estimate

__all__ = ["as_rows", "jackknife_error", "student", "without_bias"]

Floats = npt.NDArray[np.float64]


def jackknife_error(left_out: Floats) -> float:
    """Standard error from a figure computed once without each group of samples (Efron & Stein, 1981).

    Args:
        left_out: [groups] the figure without each; all groups of about the same size.

    Returns:
        The standard error of the figure on all samples.
    """
    groups = len(left_out)
    return float(np.sqrt((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum()))


def without_bias(value: float, left_out: Floats) -> float:
    """A figure with its bias of the order 1 / n taken off (Quenouille 1956).

    Args:
        value: the figure on all samples.
        left_out: [groups] the figure without each.

    Returns:
        The corrected figure.
    """
    groups = len(left_out)
    return groups * value - (groups - 1) * float(left_out.mean())


def student(
    value: float,
    error: float,
    groups: int,
    n: int,
    confidence: float,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> Estimate:
    """Student's interval around a figure with a standard error.

    Args:
        value: the figure.
        error: its standard error.
        groups: independent parts behind the error.
        n: samples behind the figure.
        confidence: nominal coverage.
        least: smallest value the figure can have.
        most: largest.

    Returns:
        The figure with an interval cut to the values it can have.
    """
    from scipy.special import stdtrit

    half = float(stdtrit(groups - 1, 0.5 + confidence / 2)) * error
    return Estimate(value, max(value - half, least), min(value + half, most), n, confidence)


def as_rows(estimates: dict[str, Estimate]) -> dict[str, float]:
    """Estimates as the table `probes` holds them: a number `k` with its `k_low` and `k_high`."""
    rows: dict[str, float] = {}
    for key, found in estimates.items():
        rows |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
    return rows
