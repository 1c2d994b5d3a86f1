"""T2: are runs of equal intrinsic learning rate equal within stated margins, whatever their ratio?

Two one-sided tests (TOST) of every pair of ratios within every level, paired where the seeds are crossed, else Welch's.
All pairs must pass: an intersection-union test, which needs no correction. A pair is called different only where it
lies significantly *beyond* its margin, corrected over all pairs and metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.design import Design, arranged, design_of
from analysis.invariance.margins import Margin, Margins, margin_of
from analysis.invariance.sample_size import seeds_needed, tost_power
from analysis.invariance.student import Difference, holm, paired, welch
from analysis.invariance.variance_split import metrics_of
from analysis.invariance.verdict import FEWEST_SEEDS, LEAST_SEEDS, TestResult, Verdict, missing, p_text

__all__ = [
    "Pair",
    "equivalence_test",
    "margin_of",
    "pairs_of",
    "pilot",
    "seeds_needed",
    "tost_power",
]

TITLE = "Are runs of equal product equal within the margins, whatever the ratio?"
ALPHA = 0.05
POWER = 0.9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two cells of one level, compared in one metric.

    Attributes:
        metric: its column.
        intrinsic_lr: the level.
        ratios: of the two cells.
        difference: first minus second, on the margin's scale.
        margin: that applies.
    """

    metric: str
    intrinsic_lr: float
    ratios: tuple[float, float]
    difference: Difference
    margin: Margin

    def as_json(self) -> dict[str, object]:
        """The numbers of the report."""
        return {
            "metric": self.metric,
            "intrinsic_lr": self.intrinsic_lr,
            "ratios": list(self.ratios),
            "difference": self.difference.value,
            "interval": list(self.difference.interval(1 - 2 * ALPHA)),
            "margin": self.margin.width,
            "p_within": self.difference.p_within(self.margin.width),
            "p_beyond": self.difference.p_beyond(self.margin.width),
            "seeds": self.difference.n,
        }


def pairs_of(runs: pd.DataFrame, metric: str, margin: Margin, design: Design) -> list[Pair]:
    """Compare every two ratios of every level.

    Args:
        runs: as `design.arranged` gives them.
        metric: column.
        margin: of the metric.
        design: CROSSED compares the seeds that both cells have, seed by seed.

    Returns:
        One entry for every two cells of one level.
    """
    pairs = []
    for level in runs["intrinsic_lr"].unique():
        group = runs[runs["intrinsic_lr"] == level]
        wide = group.pivot(index="seed", columns="ratio", values=metric)
        columns = {float(ratio): margin.scaled(wide[ratio].to_numpy(dtype=np.float64)) for ratio in wide}
        for first, second in combinations(columns, 2):
            compare = paired if design is Design.CROSSED else welch
            difference = compare(columns[first], columns[second])
            ratios = (first, second)
            pairs.append(
                Pair(metric=metric, intrinsic_lr=float(level), ratios=ratios, difference=difference, margin=margin)
            )
    return pairs


def pilot(pairs: Sequence[Pair], design: Design) -> dict[str, dict[str, object]]:
    """How many seeds each metric's margin needs, from the spread seen so far.

    The spread is that of the noisiest level, pooled over its pairs. One pair passes with power 0.9 from `seeds` on; all
    pairs of the metric pass together with at least that probability from `seeds_all` on, their chances of failing being
    added up.

    Args:
        pairs: of one or several metrics; those of which the spread is not known are left out.
        design: of the runs.

    Returns:
        For each metric `sd`, `margin`, `seeds` and `seeds_all`: at least five, None where a million would not do.
    """
    found: dict[str, dict[str, object]] = {}
    for metric in dict.fromkeys(pair.metric for pair in pairs):
        known = [pair for pair in pairs if pair.metric == metric and np.isfinite(pair.difference.sd)]
        if not known:
            continue
        levels: dict[float, list[float]] = {}
        for pair in known:
            levels.setdefault(pair.intrinsic_lr, []).append(pair.difference.sd)
        sd = max(float(np.sqrt(np.mean(np.square(spreads)))) for spreads in levels.values())
        margin = known[0].margin.width
        together = 1 - (1 - POWER) / len(known)
        seeds = {"seeds": _seeds(sd, margin, POWER, design), "seeds_all": _seeds(sd, margin, together, design)}
        found[metric] = {"sd": sd, "margin": margin, "margin_words": known[0].margin.words, **seeds}
    return found


def equivalence_test(
    runs: pd.DataFrame, metrics: Sequence[str] | None = None, margins: Margins | None = None
) -> TestResult:
    """T2 with its verdict.

    Args:
        runs: one row per run: `intrinsic_lr`, `ratio`, `seed` and metric columns; NaN where not measured.
        metrics: the columns to test; by default every column that has a margin and was measured in some run.
        margins: what counts as none; by default 5 % in loss, 1 point in error, 0.05 in the log effective LR, 3 % in
            angle.

    Returns:
        The result; `numbers` holds every pair, the worst of them and the seeds each margin needs.

    Raises:
        ValueError: a column is missing, a level is not positive, or a metric named here has no margin.
    """
    names = list(metrics) if metrics is not None else _measured(runs)
    known = {name: margin for name in names if (margin := margin_of(name, margins))}
    if len(known) < len(names):
        raise ValueError(f"no margin is known for {sorted(set(names) - set(known))}")
    table = arranged(runs, names)
    design = design_of(table)
    pairs = [pair for name, margin in known.items() for pair in pairs_of(table, name, margin, design)]
    if not pairs:
        what = "No metric with a margin was measured." if not names else "No intrinsic LR was run at two ratios."
        return missing("T2", TITLE, what, "at least 2 ratios at every intrinsic learning rate, the loss measured")
    measured = [pair for pair in pairs if pair.difference.n >= 2]
    beyond = holm([pair.difference.p_beyond(pair.margin.width) for pair in measured])
    verdict, reason, worst = _verdict(pairs, measured, beyond)
    needed = pilot(measured, design)
    return TestResult(
        key="T2",
        title=TITLE,
        verdict=verdict,
        reason=reason,
        to_run=_to_run(needed) if verdict is Verdict.INCONCLUSIVE else "",
        numbers={
            "pairs": [pair.as_json() for pair in pairs],
            "passed": {name: _passed([pair for pair in pairs if pair.metric == name]) for name in names},
            "worst": worst.as_json() if worst else None,
            "design": design,
            "seeds": min(pair.difference.n for pair in pairs),
            "seeds_needed": needed,
            "alpha": ALPHA,
        },
    )


def _verdict(pairs: Sequence[Pair], measured: Sequence[Pair], beyond: Floats) -> tuple[Verdict, str, Pair | None]:
    """Verdict, reason and the pair that decides."""
    fewest = min(pairs, key=lambda pair: pair.difference.n)
    seeds = fewest.difference.n
    if not measured or seeds < FEWEST_SEEDS:
        place = f"{_named(fewest)} rests on {seeds} seed{'' if seeds == 1 else 's'}"
        return Verdict.INCONCLUSIVE, f"{place}; below {FEWEST_SEEDS} nothing can be said.", fewest
    if beyond.min() < ALPHA:
        worst = measured[int(beyond.argmin())]
        reason = (
            f"{_named(worst)} differs by {worst.difference.value:+.3g}, beyond its margin of {worst.margin.words} "
            f"({p_text(float(beyond.min()))} over {len(measured)} pairs)."
        )
        return Verdict.DIFFERENT, reason, worst
    within = [pair.difference.p_within(pair.margin.width) for pair in pairs]
    worst = pairs[int(np.argmax(within))]
    passed = sum(p < ALPHA for p in within)
    low, high = worst.difference.interval(1 - 2 * ALPHA)
    bounds = f"90 % interval [{low:+.3g}, {high:+.3g}], margin {worst.margin.width:.3g}"
    if passed < len(pairs):
        reason = (
            f"{passed} of {len(pairs)} pairs lie within their margins; the worst, {_named(worst)}, does not: {bounds}."
        )
        return Verdict.INCONCLUSIVE, reason, worst
    if seeds < LEAST_SEEDS:
        reason = f"All pairs lie within their margins, but {_named(fewest)} rests on {seeds} of {LEAST_SEEDS} seeds."
        return Verdict.INCONCLUSIVE, reason, fewest
    reason = f"All {len(pairs)} pairs lie within their margins; the worst is {_named(worst)}: {bounds}."
    return Verdict.EQUIVALENT, reason, worst


def _measured(runs: pd.DataFrame) -> list[str]:
    return [name for name in metrics_of(runs) if margin_of(name) and np.isfinite(runs[name]).any()]


def _named(pair: Pair) -> str:
    first, second = pair.ratios
    return f"{pair.metric} at intrinsic LR {pair.intrinsic_lr:.4g} between ratios {first:.4g} and {second:.4g}"


def _passed(pairs: Sequence[Pair]) -> list[int]:
    """How many pairs lie within the margin, and how many there are."""
    return [sum(pair.difference.p_within(pair.margin.width) < ALPHA for pair in pairs), len(pairs)]


def _seeds(sd: float, margin: float, power: float, design: Design) -> int | None:
    try:
        return max(seeds_needed(sd, margin, power, ALPHA, design), LEAST_SEEDS)
    except ValueError:
        return None


def _to_run(needed: dict[str, dict[str, object]]) -> str:
    counts = [each["seeds_all"] for each in needed.values()]
    known = [count for count in counts if isinstance(count, int)]
    if not known or len(known) < len(counts):
        return f"more seeds: at least {LEAST_SEEDS}"
    return f"{max(known)} seeds, which by the spread seen let every margin pass if the truth is equality"
