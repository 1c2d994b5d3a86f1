"""Nested analysis of variance: does telling the cells of a level apart explain more than chance?

Two things differ from the textbook's pooled F test, because runs of a sweep are no field plots:

- Crossed seeds are blocks within each level. Runs of one seed start from the same weights and see the same batches, and
  how they are alike may differ from level to level; a block per seed and level leaves none of it in the error term.
- Some levels are noisier than others (fluctuation grows with the learning rate). With spreads 1 : 2 : 4 : 8 the pooled
  F test at 0.01 rejects in 5 % of the cases and overlooks effects at the quiet levels. So each level has an F test of
  its own, which is exact, and Fisher's method combines them, which is exact too. Where the levels are equally noisy
  this costs a few hundredths of power.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.invariance.design import Design

__all__ = ["Increment", "LevelTest", "increment", "quadratic_r2"]

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-13  # spread below this share of the values is rounding
_GRID = 400


@dataclass(frozen=True, slots=True)
class LevelTest:
    """One level's part: what the ratios explain beyond the blocks, and what is left.

    Attributes:
        between: sum of squares of the ratios.
        df_between: its degrees of freedom.
        within: residual sum of squares.
        df_within: its degrees of freedom.
    """

    between: float
    df_between: int
    within: float
    df_within: int

    @property
    def p(self) -> float:
        """P-value of the level's F test."""
        from scipy.special import fdtrc

        if self.within == 0:
            return 0.0
        f = self.between / self.df_between / (self.within / self.df_within)
        return float(fdtrc(self.df_between, self.df_within, f))


@dataclass(frozen=True, kw_only=True, slots=True)
class Increment:
    """Variance explained by the level alone, and what the cells add.

    Attributes:
        r2_level: share of the variance explained by the level means; NaN where the values are constant.
        gain: share that the cell means explain beyond that (dR2).
        f: pooled F statistic of the gain, for the table; NaN where the design or the values allow none.
        df: its degrees of freedom, numerator and error.
        p: of the hypothesis that no level's cells differ: the levels' F tests, combined; exact far into the tail.
        levels: the F test of every level that allows one.
        total: sum of squares of the values about their mean.
        n: runs.
    """

    r2_level: float
    gain: float
    f: float
    df: tuple[int, int]
    p: float
    levels: tuple[LevelTest, ...]
    total: float
    n: int

    def power(self, gain: float, alpha: float) -> float:
        """Probability that the test at level alpha rejects when the true gain is as given, shared by the levels evenly.

        Each level's p-value then has the distribution of a noncentral F test; -2 log p is put on a grid and the levels
        are convolved.

        Args:
            gain: true dR2, of the total variance seen.
            alpha: level of the test.

        Returns:
            The power; NaN where there is no test.
        """
        from scipy.special import chdtri, fdtri
        from scipy.stats import ncf

        if not self.levels:
            return np.nan
        critical = float(chdtri(2 * len(self.levels), alpha))
        edges = np.linspace(0.0, critical, _GRID + 1)
        missed = np.ones(1)  # probabilities of -2 log p, summed over levels, in the cells of the grid
        for level in self.levels:
            a, d = level.df_between, level.df_within
            if level.within == 0:
                return 1.0
            shift = gain * self.total * a / self.df[0] / (level.within / d)
            below = np.append(0.0, ncf.cdf(fdtri(a, d, -np.expm1(-edges[1:] / 2)), a, d, shift))
            missed = np.convolve(missed, np.diff(below))[:_GRID]
        # A cell holds values spread over its width, so the sum of m of them lies (m - 1) / 2 cells higher on average.
        late = (len(self.levels) - 1) / 2
        reached = np.interp(_GRID - late, np.arange(_GRID + 1), np.append(0.0, np.cumsum(missed)))
        return float(1 - reached)


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
        return _split(np.nan, np.nan, [], total, n)
    cells = np.unique(np.stack([levels, ratios]), axis=1, return_inverse=True)[1].ravel()
    by_level, by_cell = _between(centred, np.unique(levels, return_inverse=True)[1]), _between(centred, cells)
    tests = []
    for level in np.unique(levels):
        here = levels == level
        test = _level(values[here], ratios[here], seeds[here], design, rounding)
        if test.df_between > 0 and test.df_within > 0:
            tests.append(test)
    return _split(by_level / total, max(by_cell - by_level, 0.0) / total, tests, total, n)


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


def _split(r2_level: float, gain: float, tests: list[LevelTest], total: float, n: int) -> Increment:
    """Pool the levels' tests for the table, and combine them for the p-value."""
    from scipy.special import chdtrc

    telling = [test for test in tests if test.within > 0 or test.between > 0]
    df = (sum(test.df_between for test in tests), sum(test.df_within for test in tests))
    f, p = float("nan"), float("nan")
    if telling:
        between, within = sum(test.between for test in tests), sum(test.within for test in tests)
        f = between / df[0] / (within / df[1]) if within > 0 else np.inf
        with np.errstate(divide="ignore"):
            logs = np.log([test.p for test in telling])
        p = float(chdtrc(2 * len(telling), -2 * logs.sum()))
    return Increment(r2_level=r2_level, gain=gain, f=f, df=df, p=p, levels=tuple(telling), total=total, n=n)


def _between(centred: Floats, groups: npt.NDArray[np.int64]) -> float:
    """Sum of squares of the group means about the grand mean."""
    sums, counts = np.bincount(groups, weights=centred), np.bincount(groups)
    return float((sums**2 / counts).sum())


def _level(values: Floats, ratios: Floats, seeds: npt.NDArray[np.int64], design: Design, rounding: float) -> LevelTest:
    cells = _indicators(ratios)
    blocks = _indicators(seeds) if design is Design.CROSSED else np.ones((len(values), 1))
    centred = values - values.mean()
    alone, rank_alone = _left(blocks, centred)
    both, rank_both = _left(np.hstack([blocks, cells]), centred)
    between, within = (part if part > rounding * len(values) else 0.0 for part in (alone - both, both))
    return LevelTest(between, rank_both - rank_alone, within, len(values) - rank_both)


def _indicators(groups: npt.NDArray[np.generic]) -> Floats:
    found: Floats = (groups[:, None] == np.unique(groups)).astype(np.float64)
    return found


def _left(basis: Floats, values: Floats) -> tuple[float, int]:
    """Residual sum of squares and rank of a least-squares fit."""
    fit, _, rank, _ = np.linalg.lstsq(basis, values)
    residual = values - basis @ fit
    return float(residual @ residual), int(rank)
