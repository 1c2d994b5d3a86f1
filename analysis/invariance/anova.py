"""Nested analysis of variance: does telling the cells of a level apart explain more than chance?

The F statistic is the textbook's. Two things are done beside it, because runs of a sweep are no field plots:

- Crossed seeds are blocks within each level. Runs of one seed start from the same weights and see the same batches, and
  how they are alike may differ from level to level; a block per seed and level leaves none of it in the error term.
- Levels may be noisier than others (fluctuation grows with the learning rate). The pooled F would then reject too
  often. Each level keeps its own error and the degrees of freedom are Box's (Annals of Mathematical Statistics 1954),
  estimated without bias from the levels' errors; where the levels are equally noisy they are the textbook's.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.invariance.design import Design

__all__ = ["Increment", "increment", "quadratic_r2"]

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-13  # spread below this share of the values is rounding


@dataclass(frozen=True, kw_only=True, slots=True)
class Increment:
    """Variance explained by the level alone, and what the cells add.

    Attributes:
        r2_level: share of the variance explained by the level means; NaN where the values are constant.
        gain: share that the cell means explain beyond that (dR2).
        f: F statistic of the gain; NaN where the design or the values allow none.
        df: its degrees of freedom, numerator and error.
        df_design: those of the design, before the correction for unequal noise.
        p: P(F or more); exact far into the tail.
        error: mean square of the error term.
        total: sum of squares of the values about their mean.
        n: runs.
    """

    r2_level: float
    gain: float
    f: float
    df: tuple[float, float]
    df_design: tuple[int, int]
    p: float
    error: float
    total: float
    n: int

    def power(self, gain: float, alpha: float) -> float:
        """Probability that the F test at level alpha rejects when the true gain is as given.

        Args:
            gain: true dR2, of the total variance seen.
            alpha: level of the test.

        Returns:
            The noncentral F probability; NaN where there is no test.
        """
        from scipy.special import fdtri
        from scipy.stats import ncf

        if np.isnan(self.f):
            return np.nan
        if self.error == 0:
            return 1.0
        critical = float(fdtri(*self.df, 1 - alpha))
        shift = gain * self.total / self.error * self.df[0] / self.df_design[0]
        return float(ncf.sf(critical, *self.df, shift))


@dataclass(frozen=True, slots=True)
class _Level:
    """One level's part: what the ratios explain beyond the blocks, and what is left."""

    between: float
    df_between: int
    within: float
    df_within: int


def increment(
    values: Floats, levels: Floats, ratios: Floats, seeds: npt.NDArray[np.int64], design: Design
) -> Increment:
    """Split the variance of one metric.

    Args:
        values: [runs], finite.
        levels: [runs] intrinsic LR, matched.
        ratios: [runs] ratio, matched.
        seeds: [runs].
        design: CROSSED makes the seeds of each level blocks.

    Returns:
        The split. Gaps in the design are borne: the ratios are tested after the blocks, by least squares.
    """
    n = len(values)
    centred = values - values.mean() if n else values
    total = float(centred @ centred)
    rounding = (_ROUNDING * float(np.abs(values).max(initial=0.0))) ** 2
    if n == 0 or total <= rounding * n:
        return _without(np.nan, np.nan, total, n)
    cells = np.unique(np.stack([levels, ratios]), axis=1, return_inverse=True)[1].ravel()
    by_level, by_cell = _between(centred, np.unique(levels, return_inverse=True)[1]), _between(centred, cells)
    r2_level, gain = by_level / total, max(by_cell - by_level, 0.0) / total
    parts = []
    for level in np.unique(levels):
        here = levels == level
        parts.append(_level(values[here], ratios[here], seeds[here], design))
    parts = [part for part in parts if part.df_between > 0 and part.df_within > 0]
    if not parts:
        return _without(r2_level, gain, total, n)
    a = np.array([part.df_between for part in parts], dtype=np.float64)
    d = np.array([part.df_within for part in parts], dtype=np.float64)
    noise = np.array([part.within for part in parts]) / d
    between = sum(part.between for part in parts) / float(a.sum())
    error = float(a @ noise / a.sum())
    if error <= rounding:
        error = 0.0
        f, p = (np.nan, np.nan) if between <= rounding else (np.inf, 0.0)
        df = (float(a.sum()), float(d.sum()))
    else:
        f = between / error
        df = _box(a, d, noise)
        p = _f_tail(f, *df)
    return Increment(
        r2_level=r2_level,
        gain=gain,
        f=f,
        df=df,
        df_design=(int(a.sum()), int(d.sum())),
        p=p,
        error=error,
        total=total,
        n=n,
    )


def quadratic_r2(values: Floats, logs: Floats) -> float:
    """Share of the variance explained by a parabola in one variable.

    Args:
        values: [runs], finite.
        logs: [runs] the variable; with two distinct values a line is fitted, with one nothing.

    Returns:
        R2; NaN where the values are constant.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= (_ROUNDING * float(np.abs(values).max())) ** 2 * len(values):
        return np.nan
    x = (logs - logs.mean()) / (np.ptp(logs) or 1.0)
    degree = min(2, len(np.unique(np.round(x, 9))) - 1)
    basis = np.vander(x, degree + 1)
    left = centred - basis @ np.linalg.lstsq(basis, centred)[0]
    return 1 - float(left @ left) / total


def _without(r2_level: float, gain: float, total: float, n: int) -> Increment:
    nan = float("nan")
    return Increment(
        r2_level=r2_level, gain=gain, f=nan, df=(nan, nan), df_design=(0, 0), p=nan, error=nan, total=total, n=n
    )


def _between(centred: Floats, groups: npt.NDArray[np.int64]) -> float:
    """Sum of squares of the group means about the grand mean."""
    sums, counts = np.bincount(groups, weights=centred), np.bincount(groups)
    return float((sums**2 / counts).sum())


def _level(values: Floats, ratios: Floats, seeds: npt.NDArray[np.int64], design: Design) -> _Level:
    cells = _indicators(ratios)
    blocks = _indicators(seeds) if design is Design.CROSSED else np.ones((len(values), 1))
    centred = values - values.mean()
    alone, rank_alone = _left(blocks, centred)
    both, rank_both = _left(np.hstack([blocks, cells]), centred)
    return _Level(max(alone - both, 0.0), rank_both - rank_alone, both, len(values) - rank_both)


def _indicators(groups: npt.NDArray[np.generic]) -> Floats:
    found: Floats = (groups[:, None] == np.unique(groups)).astype(np.float64)
    return found


def _left(basis: Floats, values: Floats) -> tuple[float, int]:
    """Residual sum of squares and rank of a least-squares fit."""
    fit, _, rank, _ = np.linalg.lstsq(basis, values)
    residual = values - basis @ fit
    return float(residual @ residual), int(rank)


def _box(a: Floats, d: Floats, noise: Floats) -> tuple[float, float]:
    """Degrees of freedom that give the weighted sums of chi-squares their variance.

    The variances of the levels enter squared; the estimates are unbiased for normal values, since
    E[s^4] = sigma^4 (1 + 2 / d).
    """
    fourth = noise**2 * d / (d + 2)
    square = float((a @ noise) ** 2 - (a**2 * noise**2 * 2 / (d + 2)).sum())
    numerator = square / float(a @ fourth)
    denominator = square / float((a**2 / d) @ fourth)
    return (
        float(np.clip(numerator, a.min(), a.sum())),
        float(np.clip(denominator, d.min(), d.sum())),
    )


def _f_tail(f: float, df: float, df_error: float) -> float:
    from scipy.special import fdtrc

    return float(fdtrc(df, df_error, f))
