"""T3: is the time to equilibrium proportional to 1 / (learning rate times weight decay), whatever their ratio?

The scale-invariant weights of a network at equilibrium are multiplied by a factor, which leaves its function as it was,
and the time is taken until ||w||^4 is back. Theory: log time is linear in log lambda_e with slope -1. From a start that
is not the same distance away everywhere, `log_distance` of the start ratio belongs into the regression.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.anova import increment
from analysis.invariance.design import Design, arranged, design_of, seeds_per_cell
from analysis.invariance.relaxation import first_crossing, relaxation_rate
from analysis.invariance.student import Difference, holm
from analysis.invariance.verdict import FEWEST_SEEDS, LEAST_SEEDS, TestResult, Verdict, missing, p_text

__all__ = ["TimeLaw", "equilibrium_time_test", "first_crossing", "log_distance", "relaxation_rate", "time_law"]

TITLE = "Is the time to equilibrium inversely proportional to the product of learning rate and weight decay?"
SLOPE = -1.0
WIDEST = 0.2
FAR = 0.15
CONFIDENCE = 0.95
RATIO_ALPHA = 0.01
MOST_LOST = 0.05
LEAST_LEVELS = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TimeLaw:
    """Regression of a log time or rate on log lambda_e.

    Attributes:
        slope: least-squares slope on log lambda_e.
        error: its jackknife standard error over the independent units.
        df: degrees of freedom of Student's interval.
        intercept: at log lambda_e = 0.
        further: coefficients of the further regressors.
        r2: share of the variance explained.
        runs: rows used.
        units: independent units: seeds where they are crossed with the ratios, else runs.
        lost: rows without a positive number.
    """

    slope: float
    error: float
    df: float
    intercept: float
    further: tuple[float, ...]
    r2: float
    runs: int
    units: int
    lost: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the slope."""
        return self.against(0.0).interval(CONFIDENCE)

    def against(self, slope: float) -> Difference:
        """The slope's difference from a given one."""
        sd = self.error * float(np.sqrt(self.units))
        return Difference(value=self.slope - slope, error=self.error, df=self.df, n=self.units, sd=sd)


def log_distance(start_ratio: npt.ArrayLike, tolerance: float = 0.1) -> Floats:
    """Regressor for unequal starts: log of ln(|start ratio - 1| / tolerance), to which the time is proportional.

    Args:
        start_ratio: ||w||^4 at the start over that at equilibrium.
        tolerance: relative distance that counts as equilibrium.

    Returns:
        The regressor; NaN where the start is at equilibrium already.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.log(np.abs(np.asarray(start_ratio, dtype=np.float64) - 1) / tolerance))
    return np.where(np.isfinite(found), found, np.nan)


def time_law(frame: pd.DataFrame, regressors: Sequence[str] = (), response: str = "steps") -> TimeLaw:
    """Least squares of the log response on log lambda_e and further regressors, over runs of one layer.

    The slope's standard error is the jackknife over independent units: leaving out one run after the other where every
    run has its own seed, one seed after the other where seeds are crossed with ratios. It bears unequal spread between
    levels and any likeness between runs of a seed; where every seed has every cell it is Student's over the seeds' own
    slopes.

    Args:
        frame: `intrinsic_lr`, `ratio`, `seed`, the response and the regressors.
        regressors: further columns, entered as they are (logs by the caller).
        response: column; rows where it is no positive number are left out.

    Returns:
        The law; slope or error NaN where levels or units are too few.
    """
    table = arranged(frame, [response, *regressors])
    y = table[response].to_numpy(dtype=np.float64)
    extra = table[list(regressors)].to_numpy(dtype=np.float64)
    known = np.isfinite(y) & (y > 0) & np.isfinite(extra).all(axis=1)
    kept, lost = table[known], int((~known).sum())
    units = np.arange(len(kept))
    if crossed := design_of(table) is Design.CROSSED:
        units = np.unique(kept["seed"].to_numpy(), return_inverse=True)[1]
    count = len(np.unique(units))
    log_lr = np.log(kept["intrinsic_lr"].to_numpy(dtype=np.float64))
    basis = np.column_stack([np.ones(len(kept)), log_lr, extra[known]])
    nan = float("nan")
    if len(kept) == 0 or np.linalg.matrix_rank(basis) < basis.shape[1]:
        return TimeLaw(
            slope=nan, error=nan, df=1, intercept=nan, further=(), r2=nan, runs=len(kept), units=count, lost=lost
        )
    centre = basis[:, 1:].mean(axis=0)
    basis[:, 1:] -= centre  # well-conditioned; slopes stay what they are
    logs = np.log(y[known])
    fit = np.linalg.lstsq(basis, logs)[0]
    residual = logs - basis @ fit
    spread = float(((logs - logs.mean()) ** 2).sum())
    df = count - 1 if crossed else len(kept) - basis.shape[1]
    return TimeLaw(
        slope=float(fit[1]),
        error=_jackknife(basis, logs, units, count) if df > 0 else nan,
        df=max(df, 1),
        intercept=float(fit[0] - fit[1:] @ centre),
        further=tuple(float(each) for each in fit[2:]),
        r2=1 - float(residual @ residual) / spread if spread > 0 else nan,
        runs=len(kept),
        units=count,
        lost=lost,
    )


def equilibrium_time_test(frame: pd.DataFrame, regressors: Sequence[str] = ()) -> TestResult:
    """T3 with its verdict.

    A layer is EQUIVALENT where -1 lies in the slope's 95 % interval, the interval is narrower than 0.2, and the ratio
    has no significant effect on the time within levels (p >= 0.01); five seeds in every cell, three levels and at most
    5 % of runs that never arrived are needed. It is DIFFERENT where the slope lies significantly more than 0.15 away
    from -1 (Holm over layers). The test is EQUIVALENT where one layer is and none is DIFFERENT.

    Args:
        frame: one row per run and layer: `layer`, `intrinsic_lr`, `ratio`, `seed`, `steps` to equilibrium (NaN where it
            was not reached) and the fitted `rate`.
        regressors: further columns for the regression, such as `log_distance` of the start.

    Returns:
        The result; `numbers["layers"]` holds each layer's law.

    Raises:
        ValueError: a column is missing.
    """
    reached = frame[np.isfinite(frame["steps"].to_numpy(dtype=np.float64))]
    if reached.empty or np.ptp(np.log(reached["intrinsic_lr"])) < 1e-6:
        return missing(
            "T3",
            TITLE,
            "Fewer than two intrinsic learning rates came back to equilibrium.",
            "a kick at equilibrium at 3 or more intrinsic learning rates, and 2 / (learning rate x weight decay) steps "
            "after it",
        )
    layers = [_Layer.of(str(name), group, regressors) for name, group in frame.groupby("layer", sort=False)]
    against = [layer.law.against(SLOPE) for layer in layers]
    beyond = holm([each.p_beyond(FAR) if each.n >= FEWEST_SEEDS else np.nan for each in against])
    far = {layer.name: float(p) for layer, p in zip(layers, beyond, strict=True) if p < (1 - CONFIDENCE) / 2}
    verdicts = {layer.name: layer.verdict(layer.name in far) for layer in layers}
    by_name = {layer.name: layer for layer in layers}
    equal = [name for name, (verdict, _) in verdicts.items() if verdict is Verdict.EQUIVALENT]
    different = [name for name, (verdict, _) in verdicts.items() if verdict is Verdict.DIFFERENT]
    decisive = (different or equal or list(verdicts))[0]
    verdict, why = verdicts[decisive]
    return TestResult(
        key="T3",
        title=TITLE,
        verdict=verdict,
        reason=f"Log time against log product in {decisive}: {by_name[decisive].words()}; {why}.",
        to_run="more seeds, or intrinsic learning rates further apart" if verdict is Verdict.INCONCLUSIVE else "",
        numbers={
            "layers": {
                layer.name: layer.as_json() | {"verdict": verdicts[layer.name][0], "reason": verdicts[layer.name][1]}
                for layer in layers
            },
            "equivalent": equal,
            "different": different,
            "rule": {"slope": SLOPE, "widest": WIDEST, "far": FAR, "ratio_alpha": RATIO_ALPHA},
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One layer's law and what qualifies it."""

    name: str
    law: TimeLaw
    rate_law: TimeLaw
    rate_over_theory: float
    ratio_p: float
    seeds: int
    levels: int

    @classmethod
    def of(cls, name: str, group: pd.DataFrame, regressors: Sequence[str]) -> "_Layer":
        table = arranged(group, ["steps", "rate", *regressors])
        law = time_law(group, regressors)
        steps = table["steps"].to_numpy(dtype=np.float64)
        extra = table[list(regressors)].to_numpy(dtype=np.float64)
        known = np.isfinite(steps) & (steps > 0) & np.isfinite(extra).all(axis=1)
        levels = table["intrinsic_lr"].to_numpy(dtype=np.float64)
        ratios, seeds = table["ratio"].to_numpy(dtype=np.float64)[known], table["seed"].to_numpy()[known]
        logs = np.log(steps[known]) - (extra[known] @ np.array(law.further) if law.further else 0.0)
        split = increment(logs, levels[known], ratios, seeds, design_of(table))
        rates = table["rate"].to_numpy(dtype=np.float64) / (4 * levels)
        return cls(
            name=name,
            law=law,
            rate_law=time_law(group, response="rate"),
            rate_over_theory=float(np.median(rates[np.isfinite(rates)])) if np.isfinite(rates).any() else np.nan,
            ratio_p=split.p,
            seeds=seeds_per_cell(table, "steps"),
            levels=len(np.unique(levels[known])),
        )

    def verdict(self, far: bool) -> tuple[Verdict, str]:
        """Verdict and why."""
        low, high = self.law.interval
        runs = self.law.runs + self.law.lost
        if self.seeds < FEWEST_SEEDS:
            return (
                Verdict.INCONCLUSIVE,
                f"some cell has {self.seeds} of the {FEWEST_SEEDS} seeds needed to say anything",
            )
        if far:
            return Verdict.DIFFERENT, f"that is more than {FAR:g} away from {SLOPE:g}"
        if self.law.lost > MOST_LOST * runs:
            return Verdict.INCONCLUSIVE, f"{self.law.lost} of {runs} runs never arrived, which bends the slope"
        if self.seeds < LEAST_SEEDS or self.levels < LEAST_LEVELS:
            few = f"{self.seeds} seeds in the smallest cell and {self.levels} levels"
            return Verdict.INCONCLUSIVE, f"{few} are fewer than the {LEAST_SEEDS} and {LEAST_LEVELS} needed"
        if self.ratio_p < RATIO_ALPHA:
            return Verdict.INCONCLUSIVE, f"but the time depends on the ratio as well ({p_text(self.ratio_p)})"
        if not low <= SLOPE <= high:
            return Verdict.INCONCLUSIVE, f"{SLOPE:g} is outside, though not shown to be {FAR:g} away"
        if high - low >= WIDEST:
            return Verdict.INCONCLUSIVE, f"the interval is wider than {WIDEST:g}"
        alike = f"has no effect ({p_text(self.ratio_p)})" if np.isfinite(self.ratio_p) else "was not varied"
        return Verdict.EQUIVALENT, f"{SLOPE:g} is inside, and the ratio {alike}"

    def words(self) -> str:
        low, high = self.law.interval
        return f"slope {self.law.slope:.3f} [{low:.3f}, {high:.3f}]"

    def as_json(self) -> dict[str, object]:
        return {
            "slope": self.law.slope,
            "interval": list(self.law.interval),
            "intercept": self.law.intercept,
            "r2": self.law.r2,
            "rate_slope": self.rate_law.slope,
            "rate_interval": list(self.rate_law.interval),
            "rate_over_theory": self.rate_over_theory,
            "ratio_p": self.ratio_p,
            "runs": self.law.runs,
            "lost": self.law.lost,
            "units": self.law.units,
            "seeds": self.seeds,
            "levels": self.levels,
        }


def _jackknife(basis: Floats, logs: Floats, units: npt.NDArray[np.int64], count: int) -> float:
    """Standard error of the second coefficient, leaving out one unit at a time; NaN where that leaves too little."""
    squares = np.zeros((count, basis.shape[1], basis.shape[1]))
    products = np.zeros((count, basis.shape[1]))
    np.add.at(squares, units, basis[:, :, None] * basis[:, None, :])
    np.add.at(products, units, basis * logs[:, None])
    left = squares.sum(axis=0) - squares
    if count < 2 or (np.linalg.matrix_rank(left, hermitian=True) < basis.shape[1]).any():
        return np.nan
    slopes = np.linalg.solve(left, (products.sum(axis=0) - products)[:, :, None])[:, 1, 0]
    return float(np.sqrt((count - 1) / count * ((slopes - slopes.mean()) ** 2).sum()))
