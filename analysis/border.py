"""Where sub-regime 2A ends and 2B begins, by a stated rule with an interval, and how it moves with the rule's margins.

In 2A, just above the convergence threshold, every later rate leads to equally good solutions that are linearly
connected; in 2B they differ and barriers appear (Sadrtdinov et al., NeurIPS 2024, arXiv 2410.22113; the paper draws the
line by hand). The rule here: going up from the lowest initial rate of regime 2, a rate belongs to 2A as long as

- the mean test errors after the later rates spread over at most `spread`, and
- the median train error barrier between the lowest and the highest later rate's solutions is below `barrier`.

The border is the geometric mean of the last rate that does and the first that does not. Seeds are resampled for its
interval, which is never narrower than that bracket.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.estimates import bootstrap_weights, finite_or_none, percentiles
from analysis.regimes import Regime

__all__ = ["BARRIER", "SPREAD", "Border", "Evidence", "border_of", "sensitivity"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPREAD = 0.005
"""Most that the mean errors of different later rates may differ by in 2A: half a point."""
BARRIER = 0.01
"""Train error barrier from which on a rate is no longer 2A: one point."""
SPREADS = (0.0025, 0.005, 0.01, 0.02)
BARRIERS = (0.001, 0.005, 0.01, 0.02)

_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Border:
    """The border between 2A and 2B.

    Attributes:
        value: an initial learning rate; 0 where no rate of regime 2 is 2A, infinite where all are, NaN where not known.
        low: lower end of its interval, like `value`.
        high: upper end.
        lower: highest rate of 2A (0: none; NaN: not known).
        upper: lowest rate of regime 2 that is not 2A (infinite: none; NaN: not known).
        spread: the margin on errors, a fraction.
        barrier: the margin on barriers, a fraction.
        seeds: seeds behind it whose barrier was measured.
        rates: [R] the rates of regime 2.
        spreads: [R] spread of mean test errors over the later rates.
        barriers: [R] median barriers; NaN where not measured.
    """

    value: float
    low: float
    high: float
    lower: float
    upper: float
    spread: float
    barrier: float
    seeds: int
    rates: Floats
    spreads: Floats
    barriers: Floats

    def as_json(self) -> dict[str, Any]:
        """The border for `answer.json`; null where it lies outside the rates of regime 2 or is not known."""
        return {
            "value": _rate(self.value),
            "ci": [_rate(self.low), _rate(self.high)],
            "bracket": [_rate(self.lower), _rate(self.upper)],
            "margins": {"spread": self.spread, "barrier": self.barrier},
            "n_seeds": self.seeds,
        }


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rule looks at.

    Attributes:
        errors: [U, L, F] test errors after F later rates; NaN where not measured.
        barriers: [U, L] train error barriers between the lowest and highest later rate's solutions.
        regime: [L] the regime of each initial rate.
        lrs: [L] ascending.
        clusters: [U] cluster of each seed; whole clusters are resampled.
    """

    errors: Floats
    barriers: Floats
    regime: npt.NDArray[np.int8]
    lrs: Floats
    clusters: Ints


def border_of(
    evidence: Evidence,
    *,
    confidence: float,
    generator: np.random.Generator,
    spread: float = SPREAD,
    barrier: float = BARRIER,
) -> Border | None:
    """Find the border.

    Args:
        evidence: of one arm.
        confidence: nominal coverage.
        generator: for the bootstrap.
        spread: margin on errors.
        barrier: margin on barriers.

    Returns:
        The border; None without rates of regime 2, without two later rates, or where no barrier was measured.
    """
    inside = evidence.regime == Regime.CHAOTIC_EQUILIBRIUM
    errors, barriers, rates = evidence.errors[:, inside], evidence.barriers[:, inside], evidence.lrs[inside]
    if not inside.any() or errors.shape[-1] < 2 or not np.isfinite(barriers).any():
        return None
    _, codes = np.unique(evidence.clusters, return_inverse=True)
    count = int(codes.max()) + 1
    ones = np.ones((1, len(errors)))
    spreads, medians = _spreads(errors, ones)[0], _medians(barriers, ones)[0]
    lower, upper = _brackets(_fails(spreads[None], medians[None], spread, barrier), rates)
    low = high = np.nan
    if count > 1:
        weights = bootstrap_weights(count, _DRAWS, generator)[:, codes]
        failing = _fails(_spreads(errors, weights), _medians(barriers, weights), spread, barrier)
        lowers, uppers = _brackets(failing, rates)
        low = np.fmin(percentiles(lowers, count, confidence)[0], lower[0])
        high = np.fmax(percentiles(uppers, count, confidence)[1], upper[0])
    value = 0.0 if lower[0] == 0 else float(np.sqrt(lower[0]) * np.sqrt(upper[0]))
    return Border(
        value=value,
        low=float(low),
        high=float(high),
        lower=float(lower[0]),
        upper=float(upper[0]),
        spread=spread,
        barrier=barrier,
        seeds=int(np.isfinite(barriers).any(axis=1).sum()),
        rates=rates,
        spreads=spreads,
        barriers=medians,
    )


def sensitivity(
    evidence: Evidence,
    *,
    confidence: float,
    generator: np.random.Generator,
    spreads: Sequence[float] = SPREADS,
    heights: Sequence[float] = BARRIERS,
) -> pd.DataFrame:
    """The border under other margins: what it owes to their choice.

    Args:
        evidence: of one arm.
        confidence: nominal coverage.
        generator: for the bootstrap.
        spreads: margins on errors to try.
        heights: margins on barriers to try.

    Returns:
        One row for each pair of margins: `spread, barrier, border, low, high` (rates; 0 and infinity as in `Border`).
        Empty where there is no border.
    """
    rows = []
    for spread, height in itertools.product(spreads, heights):
        found = border_of(evidence, confidence=confidence, generator=generator, spread=spread, barrier=height)
        if found is not None:
            margins = {"spread": spread, "barrier": height}
            rows.append({**margins, "border": found.value, "low": found.low, "high": found.high})
    return pd.DataFrame(rows, columns=["spread", "barrier", "border", "low", "high"])


def _spreads(errors: Floats, weights: Floats) -> Floats:
    """Largest minus smallest of the later rates' mean errors, [draws, R]; NaN where one is not measured."""
    known = np.isfinite(errors)
    total = np.einsum("du,urf->drf", weights, np.where(known, errors, 0.0))
    count = np.einsum("du,urf->drf", weights, known.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        means = total / count
    spread: Floats = means.max(axis=2) - means.min(axis=2)
    return spread


def _medians(values: Floats, weights: Floats) -> Floats:
    """Weighted medians by rate, [draws, R], the middle of the two halves; NaN where nothing was measured."""
    order = np.argsort(values, axis=0)  # NaN last
    ordered = np.take_along_axis(values, order, axis=0)
    known = np.isfinite(ordered)
    own = np.where(known[None], weights[:, order], 0.0)  # [draws, U, R]
    total = np.cumsum(own, axis=1)
    half = total[:, -1:, :] / 2
    found = np.where(half[:, 0] > 0, 0.0, np.nan)
    for reached in (total >= half, total > half):
        place = reached.argmax(axis=1)
        found = found + 0.5 * np.take_along_axis(ordered[None], place[:, None, :], axis=1)[:, 0]
    return found


def _fails(spreads: Floats, barriers: Floats, spread: float, barrier: float) -> Floats:
    """1 where a rate breaks the rule, 0 where it keeps it, NaN where neither is known, [draws, R]."""
    broken = (spreads > spread) | (barriers >= barrier)
    unknown = np.isnan(spreads) | np.isnan(barriers)
    return np.where(broken, 1.0, np.where(unknown, np.nan, 0.0))


def _brackets(fails: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Highest rate before the first failure that keeps the rule, and the first that breaks it, by draw, [draws] each.

    0 and infinite where there is none; NaN where there may be one, among the rates of which neither is known.
    """
    count = len(rates)
    broken = fails == 1
    first = np.where(broken.any(axis=1), broken.argmax(axis=1), count)
    kept = (fails == 0) & (np.arange(count) < first[:, None])
    last = np.where(kept.any(axis=1), count - 1 - kept[:, ::-1].argmax(axis=1), -1)
    lower, upper = np.append(rates, 0.0)[last], np.append(rates, np.inf)[first]
    between = first - last > 1  # rates of which neither is known
    return np.where(between & (last < 0), np.nan, lower), np.where(between & (first == count), np.nan, upper)


def _rate(value: float) -> float | None:
    return finite_or_none(value) if value > 0 else None
