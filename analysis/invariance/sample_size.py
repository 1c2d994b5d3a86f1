"""How many seeds two one-sided tests need: exact power under a true difference of zero."""

import numpy as np

from analysis.invariance.design import Design

__all__ = ["seeds_needed", "tost_power"]

_MOST = 1_000_000
_GRID = 300


def tost_power(seeds: int, sd: float, margin: float, design: Design, alpha: float = 0.05) -> float:
    """Probability that TOST shows two equal cells to be within the margin.

    Given the estimated spread s, the estimate must fall within margin - t s of zero; this normal probability is
    averaged over the chi distribution of s. Welch's test is taken at equal spreads, where its degrees of freedom are
    those of the pooled one.

    Args:
        seeds: per cell, at least 2.
        sd: CROSSED: standard deviation of the paired differences; INDEPENDENT: of the runs within a cell.
        margin: half width of the region of equivalence, positive.
        design: CROSSED for paired seeds, INDEPENDENT for two samples.
        alpha: level of each one-sided test.

    Returns:
        The power.
    """
    from scipy.special import chdtri, ndtr, stdtrit

    if design is Design.CROSSED:
        df, error = seeds - 1, sd / np.sqrt(seeds)
    else:
        df, error = 2 * (seeds - 1), sd * np.sqrt(2 / seeds)
    if error == 0:
        return 1.0
    shares = (np.arange(_GRID) + 0.5) / _GRID
    spread = np.sqrt(chdtri(df, shares) / df)
    room = margin / error - float(stdtrit(df, 1 - alpha)) * spread
    return float(np.where(room > 0, 2 * ndtr(room) - 1, 0.0).mean())


def seeds_needed(
    sd: float, margin: float, power: float = 0.9, alpha: float = 0.05, design: Design = Design.INDEPENDENT
) -> int:
    """Fewest seeds per cell with which TOST shows two equal cells equivalent with the wanted probability.

    About 21.6 (sd / margin)^2 for independent runs at power 0.9 and alpha 0.05, and half of it in paired differences;
    the exact number is a little higher because the spread is estimated.

    Args:
        sd: as in `tost_power`.
        margin: positive.
        power: wanted.
        alpha: level of each one-sided test.
        design: CROSSED for paired seeds, INDEPENDENT for two samples.

    Returns:
        Seeds per cell, at least 2.

    Raises:
        ValueError: the margin or spread is no positive number, or more than a million seeds would be needed.
    """
    if not (margin > 0 and sd >= 0 and 0 < power < 1):
        raise ValueError(f"need margin > 0, sd >= 0 and power in (0, 1); got {margin}, {sd}, {power}")
    high = 2
    while tost_power(high, sd, margin, design, alpha) < power:
        high *= 2
        if high > _MOST:
            raise ValueError(f"a margin of {margin:g} needs more than {_MOST} seeds at a spread of {sd:g}")
    low = max(high // 2, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tost_power(middle, sd, margin, design, alpha) >= power else (middle, high)
    return high
