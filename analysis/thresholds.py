"""Where one regime gives way to the next: a learning rate with an interval, from a bracket per seed.

On a grid a seed's threshold is only known to lie between two rates. The estimate is the median over seeds of the
brackets' geometric means; its interval joins the lower end of the bootstrap of the brackets' lower rates with the
upper end of that of their upper rates, so that it is never narrower than what the grid can tell, even where all seeds
agree.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.estimates import bootstrap_weights, mean_estimate, percentiles, weighted_median

__all__ = ["Threshold", "brackets", "threshold"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DRAWS = 4000
_FEW = 5
"""With so few clusters the interval is Student's for the mean log rate: resampling so few gives one too narrow."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A learning rate that parts two regimes.

    Attributes:
        value: the median over seeds; 0 below the grid, infinite above it, NaN where nothing is known.
        low: lower end of the interval.
        high: upper end.
        n: seeds behind it.
        lower: [n] highest rate on the lower side, by seed (0: none).
        upper: [n] lowest rate on the upper side, by seed (infinite: none).
    """

    value: float
    low: float
    high: float
    n: int
    lower: Floats
    upper: Floats

    @property
    def inside(self) -> bool:
        """True where the threshold lies within the grid."""
        return bool(np.isfinite(self.value) and self.value > 0)

    @property
    def ci(self) -> list[float | None]:
        """The interval for JSON: null where it is open."""
        return [_rate(self.low), _rate(self.high)]

    @property
    def json_value(self) -> float | None:
        """The value for JSON: null where the threshold lies outside the grid or is not known."""
        return _rate(self.value)

    def as_json(self) -> dict[str, Any]:
        """The threshold with its interval."""
        return {"value": self.json_value, "ci": self.ci, "n": self.n}


def brackets(lower: npt.NDArray[np.bool_], upper: npt.NDArray[np.bool_], lrs: Floats) -> tuple[Floats, Floats]:
    """The two rates between which each seed changes sides.

    The change is put where the fewest rates stand on the wrong side; where several places are equally good (a seed that
    changes back and forth, or rates not measured yet) the bracket spans all of them.

    Args:
        lower: [U, L] known to be on the lower side.
        upper: [U, L] known to be on the upper side; neither where not known.
        lrs: [L] ascending.

    Returns:
        [U] lower and [U] upper rates; 0 and infinity beyond the grid. Seeds of which nothing is known get (0,
        infinity).
    """
    zeros = np.zeros((len(lower), 1), dtype=np.int64)
    misplaced_below = np.hstack([zeros, np.cumsum(upper, axis=1)])
    misplaced_above = np.hstack([np.cumsum(lower[:, ::-1], axis=1)[:, ::-1], zeros])
    cost = misplaced_below + misplaced_above  # [U, L + 1]: cost of changing sides before rate k
    best = cost == cost.min(axis=1, keepdims=True)
    first = best.argmax(axis=1)
    last = cost.shape[1] - 1 - best[:, ::-1].argmax(axis=1)
    return np.append(0.0, lrs)[first], np.append(lrs, np.inf)[last]


def threshold(
    lower: npt.NDArray[np.bool_],
    upper: npt.NDArray[np.bool_],
    lrs: Floats,
    clusters: Ints,
    confidence: float,
    generator: np.random.Generator,
) -> Threshold:
    """Estimate a threshold from all seeds.

    Args:
        lower: [U, L] known to be on the lower side.
        upper: [U, L] known to be on the upper side.
        lrs: [L] ascending.
        clusters: [U] cluster of each seed; whole clusters are resampled.
        confidence: nominal coverage.
        generator: for the bootstrap.

    Returns:
        The threshold.
    """
    known = (lower | upper).any(axis=1)
    low, high = brackets(lower[known], upper[known], lrs)
    if not len(low):
        return Threshold(value=np.nan, low=np.nan, high=np.nan, n=0, lower=low, upper=high)
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.where((low == 0) & np.isinf(high), np.sqrt(lrs[0] * lrs[-1]), np.sqrt(low) * np.sqrt(high))
    middle = np.where(low == 0, 0.0, middle)
    _, codes = np.unique(clusters[known], return_inverse=True)
    count = int(codes.max()) + 1
    ends = (np.nan, np.nan)
    if count > 1:
        ends = _student_ends(low, high, codes, confidence)
        if count > _FEW or not np.isfinite(ends).all():
            weights = bootstrap_weights(count, _DRAWS, generator)[:, codes]
            ends = (
                percentiles(weighted_median(low, weights, upper=False), count, confidence)[0],
                percentiles(weighted_median(high, weights, upper=True), count, confidence)[1],
            )
    return Threshold(value=_median(middle), low=ends[0], high=ends[1], n=len(low), lower=low, upper=high)


def _student_ends(low: Floats, high: Floats, codes: Ints, confidence: float) -> tuple[float, float]:
    """Student's interval from below of the lower and from above of the upper rates; NaN with an open bracket."""
    if (low == 0).any() or np.isinf(high).any():
        return (np.nan, np.nan)
    below, above = (mean_estimate(np.log(rates), codes, confidence) for rates in (low, high))
    return (float(np.exp(below.low)), float(np.exp(above.high)))


def _median(rates: Floats) -> float:
    """The median in log rate, with 0 and infinity as ordinary values."""
    ordered = np.sort(rates)
    a, b = float(ordered[(len(ordered) - 1) // 2]), float(ordered[len(ordered) // 2])
    return a if a == b else float(np.sqrt(a) * np.sqrt(b)) if a > 0 else 0.0


def _rate(value: float) -> float | None:
    return float(value) if np.isfinite(value) and value > 0 else None
