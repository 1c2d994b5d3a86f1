"""A mean difference with its standard error: Student's tests of being within a margin, and of being beyond it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "holm", "one_sample", "paired", "welch"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """An estimated difference.

    Attributes:
        value: the estimate.
        error: its standard error; NaN where it cannot be known.
        df: degrees of freedom of the standard error.
        n: runs (or pairs of runs) behind it: of the two samples the smaller.
        sd: spread behind the error: of the differences where paired, else pooled within the samples.
    """

    value: float
    error: float
    df: float
    n: int
    sd: float

    def p_within(self, margin: float) -> float:
        """P-value of the two one-sided tests (TOST) for |true difference| < margin.

        Args:
            margin: positive.

        Returns:
            Small where the difference is shown to lie within the margin; NaN where the error is not known.
        """
        return self._tail(margin - abs(self.value))

    def p_beyond(self, margin: float) -> float:
        """P-value of the hypothesis |true difference| <= margin.

        The statistic is the size of the estimate, so both tails count: at margin 0 this is the two-sided t test.

        Args:
            margin: not negative.

        Returns:
            Small where the difference is shown to exceed the margin; NaN where the error is not known.
        """
        size = abs(self.value)
        return min(self._tail(size - margin) + (self._tail(size + margin) if self.error else 0.0), 1.0)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Student's interval; with confidence 0.9 it lies within the margin exactly where TOST at 0.05 passes."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, 0.5 + confidence / 2)) * self.error if self.error else self.error
        return self.value - half, self.value + half

    def _tail(self, distance: float) -> float:
        """P(T > distance / error)."""
        from scipy.special import stdtr

        if np.isnan(self.error):
            return np.nan
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(stdtr(self.df, -distance / self.error))


def one_sample(values: Floats) -> Difference:
    """The mean of a sample, as a difference from zero.

    Args:
        values: [n]; NaN where not measured.

    Returns:
        The difference; its error is NaN with fewer than two values.
    """
    x = values[np.isfinite(values)]
    n = len(x)
    sd = float(x.std(ddof=1)) if n > 1 else np.nan
    return Difference(
        value=float(x.mean()) if n else np.nan, error=sd / np.sqrt(max(n, 1)), df=max(n - 1, 1), n=n, sd=sd
    )


def paired(first: Floats, second: Floats) -> Difference:
    """Mean of first minus second, run by run.

    Args:
        first: [n].
        second: [n] of the same seeds in the same order.

    Returns:
        The difference over the pairs in which both were measured.
    """
    return one_sample(first - second)


def welch(first: Floats, second: Floats) -> Difference:
    """Mean of first minus mean of second, independent samples whose spreads may differ (Welch-Satterthwaite).

    Args:
        first: [n]; NaN where not measured.
        second: [m].

    Returns:
        The difference; its error is NaN where a sample has fewer than two values.
    """
    a, b = one_sample(first), one_sample(second)
    parts = np.array([a.error**2, b.error**2])
    total = float(parts.sum())
    weights = float((parts**2 / [a.df, b.df]).sum())
    df = total**2 / weights if weights > 0 else a.df + b.df
    pooled = np.sqrt((a.df * a.sd**2 + b.df * b.sd**2) / (a.df + b.df))
    return Difference(value=a.value - b.value, error=float(np.sqrt(total)), df=df, n=min(a.n, b.n), sd=float(pooled))


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's step-down adjustment: rejecting what is below alpha keeps the chance of any false rejection below alpha.

    Args:
        p_values: [tests]; NaN marks a test that could not be made and is not counted.

    Returns:
        [tests] adjusted p-values, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    places = np.flatnonzero(~np.isnan(p))
    order = places[np.argsort(p[places], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
