"""How the norm of scale-invariant weights goes with the ratio of learning rate to weight decay.

At equilibrium ||w||^4 = eta E[G] / (2 lambda) (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916). On a line of equal
product E[G] is the same, so the log norm rises with the log ratio by 1/4: the one thing that does depend on the ratio.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.estimates import Estimate
from analysis.invariance.design import Design, arranged, design_of

__all__ = ["THEORY", "norm_slope"]

THEORY = 0.25
"""Slope of log norm on log ratio."""

Floats = npt.NDArray[np.float64]


def norm_slope(runs: pd.DataFrame, column: str, confidence: float = 0.95) -> Estimate:
    """Slope of the log norm on the log ratio within the levels of the intrinsic LR, by least squares.

    Every level has its own intercept. The standard error is the jackknife over independent units, seeds where they are
    crossed with the ratios and runs otherwise; where every seed has every cell, the interval is Student's over the
    seeds' own slopes.

    Args:
        runs: `intrinsic_lr`, `ratio`, `seed` and the column, one row per run.
        column: squared norms; rows without a positive number are left out.
        confidence: nominal coverage.

    Returns:
        The slope, `n` being the runs behind it; NaN where no level has two ratios, without an interval where units are
        too few.

    Raises:
        ValueError: a column is missing, or a level or ratio is not positive.
    """
    from scipy.special import stdtrit

    table = arranged(runs, [column])
    crossed = design_of(table) is Design.CROSSED
    table = table[np.isfinite(table[column]) & (table[column] > 0)]
    levels = np.unique(table["intrinsic_lr"].to_numpy(), return_inverse=True)[1]
    x = np.log(table["ratio"].to_numpy(dtype=np.float64))
    y = np.log(table[column].to_numpy(dtype=np.float64)) / 2
    n = len(table)
    units = np.unique(table["seed"].to_numpy(), return_inverse=True)[1] if crossed else np.arange(n)
    count = int(units.max()) + 1 if n else 0
    value = _slope(x, y, levels)
    df = count - 1 if crossed else n - 1 - len(np.unique(levels))
    left_out = np.array([_slope(x[units != unit], y[units != unit], levels[units != unit]) for unit in range(count)])
    if df < 1 or not np.isfinite(left_out).all():
        return Estimate(value, np.nan, np.nan, n, confidence)
    error = float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))
    half = float(stdtrit(df, 0.5 + confidence / 2)) * error
    return Estimate(value, value - half, value + half, n, confidence)


def _slope(x: Floats, y: Floats, levels: npt.NDArray[np.int64]) -> float:
    """Least squares with an intercept for each level; NaN where x does not vary within any."""
    if not len(x):
        return np.nan
    rows = np.maximum(np.bincount(levels), 1)
    dx = x - (np.bincount(levels, x) / rows)[levels]
    dy = y - (np.bincount(levels, y) / rows)[levels]
    spread = float(dx @ dx)
    return float(dx @ dy) / spread if spread > 1e-12 else np.nan
