"""One group or two? A two-group view of outcomes that may be bimodal."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Mixture", "two_groups"]

Floats = npt.NDArray[np.float64]

_STRONG = 6.0
"""Difference in BIC from which two groups are claimed ("strong evidence", Kass and Raftery, JASA 1995)."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two Gaussian groups of equal width against a single one.

    Attributes:
        bimodal: whether two groups are claimed.
        evidence: BIC of one group minus BIC of two; at least 6 where two are claimed.
        low: centre of the lower group (the centre of all where one group is enough).
        high: centre of the higher group.
        share_high: share of the higher group.
        width: the groups' common standard deviation.
        n: number of values.
    """

    bimodal: bool
    evidence: float
    low: float
    high: float
    share_high: float
    width: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """The mixture as JSON holds it."""
        return {
            name: getattr(self, name) for name in ("bimodal", "evidence", "low", "high", "share_high", "width", "n")
        }


def two_groups(values: Floats, *, noise: float = 0.0, iterations: int = 200) -> Mixture | None:
    """Fit one and two Gaussian groups by maximum likelihood and compare them by BIC.

    EM starts from the best exact split of the sorted values, so the result depends on nothing but the values. A common
    width makes the likelihood bounded away from single-value groups; `noise` bounds it from below.

    Args:
        values: [n] outcomes; NaN is left out.
        noise: standard deviation that measurement alone gives (binomial, say): no group is narrower.
        iterations: of EM, at most.

    Returns:
        The mixture; None with fewer than 6 values, which cannot tell one group from two.
    """
    x = np.sort(values[np.isfinite(values)])
    n = len(x)
    if n < 6:
        return None
    floor = max(noise, 1e-6)
    one = max(float(x.std()), floor)
    low, high, share, width = _best_split(x, floor)
    for _ in range(iterations):
        a = np.log(1 - share) - 0.5 * ((x - low) / width) ** 2
        b = np.log(share) - 0.5 * ((x - high) / width) ** 2
        responsible = 1 / (1 + np.exp(np.clip(a - b, -500, 500)))
        total = responsible.sum()
        if not 0 < total < n:
            break
        moved = (float(((1 - responsible) * x).sum() / (n - total)), float((responsible * x).sum() / total))
        spread = ((1 - responsible) * (x - moved[0]) ** 2 + responsible * (x - moved[1]) ** 2).sum() / n
        shift = abs(moved[0] - low) + abs(moved[1] - high)
        low, high, width = *moved, max(float(np.sqrt(spread)), floor)
        share = float(np.clip(total / n, 1e-6, 1 - 1e-6))
        if shift < 1e-9:
            break
    single = -n * np.log(one) - 0.5 * float((((x - x.mean()) / one) ** 2).sum())
    parts = np.logaddexp(
        np.log(1 - share) - 0.5 * ((x - low) / width) ** 2, np.log(share) - 0.5 * ((x - high) / width) ** 2
    )
    double = float(parts.sum()) - n * np.log(width)
    evidence = 2 * (double - single) - 2 * float(np.log(n))  # two more parameters: a second centre and a share
    if evidence < _STRONG:
        return Mixture(False, float(evidence), float(x.mean()), float(x.mean()), 1.0, one, n)
    return Mixture(True, float(evidence), low, high, share, width, n)


def _best_split(x: Floats, floor: float) -> tuple[float, float, float, float]:
    """The cut of the sorted values that leaves the least scatter within both sides."""
    n = len(x)
    cuts = np.arange(1, n)
    total, squares = np.cumsum(x), np.cumsum(x**2)
    left = squares[:-1] - total[:-1] ** 2 / cuts
    right = (squares[-1] - squares[:-1]) - (total[-1] - total[:-1]) ** 2 / (n - cuts)
    best = int(np.argmin(left + right))
    cut = best + 1
    width = max(float(np.sqrt(max(left[best] + right[best], 0.0) / n)), floor)
    return float(x[:cut].mean()), float(x[cut:].mean()), 1 - cut / n, width
