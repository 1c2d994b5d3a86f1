"""The design of the runs: which belong to one level and cell, and whether the seeds are crossed with the ratios."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Design", "arranged", "design_of", "matched", "seeds_per_cell"]

Floats = npt.NDArray[np.float64]

_SAME = 1e-6  # levels are products of floats: equal to six digits is equal


class Design(StrEnum):
    """How the seeds lie over the cells of a level."""

    CROSSED = "crossed"
    """The cells share their seeds: runs of one seed start alike and see the same batches, so they are paired."""
    INDEPENDENT = "independent"
    """Every run has a seed of its own."""


def matched(values: npt.ArrayLike) -> Floats:
    """Values that agree to six digits made equal, so that they can be grouped.

    Neighbours in order are chained, which unlike rounding never splits two numbers that differ in their last bit.

    Args:
        values: [n] positive numbers.

    Returns:
        [n] each value replaced by the smallest of its group.
    """
    x = np.asarray(values, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    new = np.ones(len(x), dtype=bool)
    new[1:] = ordered[1:] > ordered[:-1] * (1 + _SAME)
    found = np.empty_like(x)
    found[order] = ordered[new][np.cumsum(new) - 1]
    return found


def arranged(runs: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The runs with their levels and ratios matched, repeats of one run averaged.

    Args:
        runs: one row per run; columns `intrinsic_lr`, `ratio`, `seed` and the metrics.
        metrics: columns to keep.

    Returns:
        One row per (intrinsic_lr, ratio, seed), in that order.

    Raises:
        ValueError: a column is missing, or a level or ratio is not a positive number.
    """
    keys = ["intrinsic_lr", "ratio", "seed"]
    absent = [name for name in (*keys, *metrics) if name not in runs]
    if absent:
        raise ValueError(f"the runs have no columns {absent}")
    kept = runs[[*keys, *metrics]].copy()
    for name in keys[:2]:
        values = kept[name].to_numpy(dtype=np.float64)
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} must be positive in every run; the lowest is {values.min()}")
        kept[name] = matched(values)
    return kept.groupby(keys, as_index=False).mean()


def design_of(runs: pd.DataFrame) -> Design:
    """Whether seeds are shared between the ratios of a level.

    Args:
        runs: as `arranged` gives them.

    Returns:
        CROSSED where at least half of the runs share their seed with a run of another ratio at their level (runs that
        were lost leave gaps, which the tests can bear), else INDEPENDENT.
    """
    shared = runs.groupby(["intrinsic_lr", "seed"])["ratio"].transform("nunique") > 1
    return Design.CROSSED if len(runs) and shared.mean() >= 0.5 else Design.INDEPENDENT


def seeds_per_cell(runs: pd.DataFrame, metric: str | None = None) -> int:
    """Seeds in the cell that has fewest.

    Args:
        runs: as `arranged` gives them.
        metric: count only the runs in which this one was measured.

    Returns:
        The number; 0 where some cell has none.
    """
    known: Any = np.isfinite(runs[metric]) if metric else np.ones(len(runs), dtype=bool)
    counts = pd.Series(known, index=runs.index).groupby([runs["intrinsic_lr"], runs["ratio"]]).sum()
    return int(counts.min()) if len(counts) else 0
