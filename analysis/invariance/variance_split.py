"""T1: does the ratio explain anything once the intrinsic learning rate is known?

For each metric the variance over all runs is split into what the level of the intrinsic LR explains (R2), what the
cells (level and ratio) explain beyond that (dR2) and the rest; the p-value is that of `anova.increment`'s F tests.
A metric passes with R2 >= 0.9, dR2 <= 0.01 and p > 0.01 after Holm's correction over metrics (else a deep network, with
two metrics per layer, would hardly ever pass), provided that a true dR2 of 0.05 would have been seen with probability
0.9: five times what is let pass, and far below what breaking the invariance does (0.1 to 0.8 when the last layer is
trained or the normalisation taken away). Accuracy is reported and not judged: where it is flat in the learning
rate its R2 is low under perfect invariance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.anova import Increment, increment, quadratic_r2
from analysis.invariance.design import Design, arranged, design_of, seeds_per_cell
from analysis.invariance.student import holm
from analysis.invariance.verdict import FEWEST_SEEDS, LEAST_SEEDS, TestResult, Verdict, missing, p_text

__all__ = ["Split", "metrics_of", "rejection_p", "split_of", "variance_split_test"]

TITLE = "Does the ratio of learning rate to weight decay explain anything beyond their product?"
LEVEL_R2 = 0.9
MOST_GAIN = 0.01
ALPHA = 0.01
SEEN_GAIN = 0.05
POWER = 0.9

_KEYS = ("intrinsic_lr", "ratio", "seed")
_REPORTED_ONLY = "error"


@dataclass(frozen=True, kw_only=True)
class Split:
    """One metric's part.

    Attributes:
        metric: its column.
        judged: whether the verdict rests on it.
        part: the analysis of variance.
        r2_log_lr: R2 of a parabola in the log learning rate.
        r2_log_weight_decay: R2 of a parabola in the log weight decay.
        lost: runs in which the metric was not finite.
        note: why there is no test, where there is none.
        p_holm: p-value adjusted for the number of judged metrics.
    """

    metric: str
    judged: bool
    part: Increment
    r2_log_lr: float
    r2_log_weight_decay: float
    lost: int
    note: str = ""
    p_holm: float = np.nan

    def power(self, judged: int) -> float:
        """Power to see a gain of 0.05, at the level that Holm's correction leaves a metric in the worst case."""
        return self.part.power(SEEN_GAIN, ALPHA / max(judged, 1))

    def as_json(self, judged: int) -> dict[str, object]:
        """The numbers of the report; `judged` is how many metrics share the level."""
        part = self.part
        return {
            "judged": self.judged,
            "r2_intrinsic_lr": part.r2_level,
            "gain": part.gain,
            "f": part.f,
            "df": list(part.df),
            "p": part.p,
            "p_holm": self.p_holm,
            "power": self.power(judged),
            "r2_log_lr": self.r2_log_lr,
            "r2_log_weight_decay": self.r2_log_weight_decay,
            "runs": part.n,
            "lost": self.lost,
            "note": self.note,
        }


def metrics_of(runs: pd.DataFrame) -> list[str]:
    """The columns that are metrics: numbers that are no key of the design."""
    return [str(name) for name in runs.select_dtypes("number").columns if name not in _KEYS]


def split_of(runs: pd.DataFrame, metric: str, design: Design) -> Split:
    """Split one metric's variance.

    Args:
        runs: as `design.arranged` gives them.
        metric: column.
        design: of the runs.

    Returns:
        The split, not yet adjusted for the number of metrics.
    """
    values = runs[metric].to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    levels, ratios = (runs[name].to_numpy(dtype=np.float64)[known] for name in _KEYS[:2])
    part = increment(values[known], levels, ratios, runs["seed"].to_numpy()[known], design)
    note = ""
    if not known.any():
        note = "not measured in any run"
    elif np.isnan(part.r2_level):
        note = "the same number in every run"
    elif min(part.df) <= 0:
        note = "no level has two ratios with runs enough to know the spread between seeds"
    elif np.isnan(part.f):
        note = "the same number for every seed"
    lr, decay = _parabolas(values[known], levels, ratios)
    return Split(
        metric=metric,
        judged=not metric.endswith(_REPORTED_ONLY) and not note,
        part=part,
        r2_log_lr=lr,
        r2_log_weight_decay=decay,
        lost=int((~known).sum()),
        note=note,
    )


def rejection_p(runs: pd.DataFrame, metric: str) -> float:
    """P-value of the F test that cells of one level differ: what the negative control is judged by.

    Args:
        runs: one row per run, with `intrinsic_lr`, `ratio`, `seed` and the metric.
        metric: column.

    Returns:
        The p-value, right far below 1e-60; NaN where the test cannot be made.
    """
    table = arranged(runs, [metric])
    return split_of(table, metric, design_of(table)).part.p


def variance_split_test(runs: pd.DataFrame, metrics: Sequence[str] | None = None) -> TestResult:
    """T1 with its verdict.

    DIFFERENT where some judged metric has dR2 > 0.01 with p < 0.01 after Holm's correction over metrics. EQUIVALENT
    where every judged metric passes (see the module), with at least five seeds in every cell, two levels, two ratios.

    Args:
        runs: one row per run: `intrinsic_lr`, `ratio`, `seed` and metric columns; NaN where not measured.
        metrics: the columns to test; every other number by default. Names that end in `error` are reported only.

    Returns:
        The result; `numbers["metrics"]` holds each metric's split.

    Raises:
        ValueError: a column is missing, or a level is not positive.
    """
    names = list(metrics) if metrics is not None else metrics_of(runs)
    table = arranged(runs, names)
    if not (table.groupby("intrinsic_lr")["ratio"].nunique() > 1).any():
        return missing(
            "T1",
            TITLE,
            "No intrinsic learning rate was run at two ratios of learning rate to weight decay.",
            "at least 2 ratios, better 1, 10 and 100 times the first, at every intrinsic learning rate",
        )
    design = design_of(table)
    splits = [split_of(table, name, design) for name in names]
    adjusted = holm([split.part.p if split.judged else np.nan for split in splits])
    splits = [replace(split, p_holm=float(p)) for split, p in zip(splits, adjusted, strict=True)]
    judged = [split for split in splits if split.judged]
    seeds = min((seeds_per_cell(table, split.metric) for split in judged), default=0)
    verdict, reason, to_run = _verdict(judged, seeds, table["intrinsic_lr"].nunique())
    return TestResult(
        key="T1",
        title=TITLE,
        verdict=verdict,
        reason=reason,
        to_run=to_run,
        numbers={
            "metrics": {split.metric: split.as_json(len(judged)) for split in splits},
            "design": design,
            "levels": sorted(table["intrinsic_lr"].unique()),
            "ratios": sorted(table["ratio"].unique()),
            "seeds": seeds,
            "rule": {"r2": LEVEL_R2, "gain": MOST_GAIN, "alpha": ALPHA, "seen_gain": SEEN_GAIN, "power": POWER},
        },
    )


def _verdict(judged: Sequence[Split], seeds: int, levels: int) -> tuple[Verdict, str, str]:
    """Verdict, reason, and what to run where it is open."""
    if not judged:
        return Verdict.INCONCLUSIVE, "No judged metric varies between runs and seeds, so there is nothing to split.", ""
    if seeds < FEWEST_SEEDS:
        few = f"Some cell has {seeds} of the {FEWEST_SEEDS} seeds without which nothing can be said."
        return Verdict.INCONCLUSIVE, few, f"{LEAST_SEEDS} seeds or more"
    differing = [split for split in judged if split.p_holm < ALPHA and split.part.gain > MOST_GAIN]
    if differing:
        worst = min(differing, key=lambda split: (split.part.p, -split.part.gain))
        reason = (
            f"The ratio explains {worst.part.gain:.1%} of the variance of {worst.metric} beyond the intrinsic learning "
            f"rate ({p_text(worst.part.p)}, {len(differing)} of {len(judged)} metrics differ)."
        )
        return Verdict.DIFFERENT, reason, ""
    if seeds < LEAST_SEEDS:
        few = f"No difference was found, but some cell has {seeds} of the {LEAST_SEEDS} seeds needed to call it none."
        return Verdict.INCONCLUSIVE, few, f"{LEAST_SEEDS} seeds or more"
    if levels < 2:
        return (
            Verdict.INCONCLUSIVE,
            "There is one intrinsic learning rate, so how much it explains is not known.",
            "at least 2 intrinsic learning rates, better 4, each twice the last",
        )
    blind = [(power, split) for split in judged if (power := split.power(len(judged))) < POWER]
    if blind:
        power, split = min(blind, key=lambda each: each[0])
        seen = f"would have been seen with probability {power:.2f} only"
        reason = f"A share of {SEEN_GAIN:.0%} of the variance of {split.metric}, explained by the ratio, {seen}."
        return Verdict.INCONCLUSIVE, reason, "more seeds"
    significant = min(judged, key=lambda split: split.part.p)
    widest = max(judged, key=lambda split: split.part.gain)
    loosest = min(judged, key=lambda split: split.part.r2_level)
    if significant.p_holm <= ALPHA or widest.part.gain > MOST_GAIN:
        odd = significant if significant.p_holm <= ALPHA else widest
        reason = (
            f"The ratio explains {odd.part.gain:.2%} of the variance of {odd.metric} ({p_text(odd.part.p)}): "
            "too much to let pass and too little to call a difference."
        )
        return Verdict.INCONCLUSIVE, reason, "more seeds"
    if loosest.part.r2_level < LEVEL_R2:
        reason = (
            f"The intrinsic learning rate explains {loosest.part.r2_level:.1%} of the variance of {loosest.metric}, "
            f"less than {LEVEL_R2:.0%}: the runs say little about it."
        )
        return Verdict.INCONCLUSIVE, reason, "intrinsic learning rates further apart, or longer runs"
    reason = (
        f"The intrinsic learning rate explains at least {loosest.part.r2_level:.1%} of the variance of every judged "
        f"metric; the ratio adds at most {widest.part.gain:.2%} (smallest {p_text(significant.part.p)})."
    )
    return Verdict.EQUIVALENT, reason, ""


def _parabolas(
    values: npt.NDArray[np.float64], levels: npt.NDArray[np.float64], ratios: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """R2 of parabolas in log learning rate and log weight decay (up to a constant where there is momentum)."""
    if not len(values):
        return np.nan, np.nan
    return quadratic_r2(values, np.log(levels * ratios) / 2), quadratic_r2(values, np.log(levels / ratios) / 2)
