"""Runs of one cell (intrinsic learning rate, ratio, scale of the start) together: their number and means over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.estimates import Estimate, mean_estimate

__all__ = ["Cell", "cells_of", "seeds_by_cell", "seeds_words"]

_KEYS = ["intrinsic_lr", "ratio", "start_scale"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Runs that differ in nothing but their seed.

    Attributes:
        intrinsic_lr: lambda_e.
        ratio: learning rate over weight decay.
        start_scale: factor on the initial weights.
        lr: learning rate.
        weight_decay: weight decay.
        seeds: how many.
        means: of each metric, with its interval over seeds.
    """

    intrinsic_lr: float
    ratio: float
    start_scale: float
    lr: float
    weight_decay: float
    seeds: int
    means: Mapping[str, Estimate]


def cells_of(table: pd.DataFrame, metrics: Sequence[str], confidence: float) -> list[Cell]:
    """Average every cell.

    Args:
        table: runs, as `runs.Runs` holds them.
        metrics: columns to average.
        confidence: of the intervals.

    Returns:
        By ascending intrinsic learning rate, ratio and scale; none where there is no run.
    """
    return [
        Cell(
            **{name: float(group[name].iloc[0]) for name in (*_KEYS, "lr", "weight_decay")},
            seeds=int(group["seed"].nunique()),
            means={
                name: mean_estimate(group[name].to_numpy(dtype=float), group["seed"].to_numpy(), confidence)
                for name in metrics
            },
        )
        for _, group in table.groupby(_KEYS, sort=True)
    ]


def seeds_by_cell(table: pd.DataFrame) -> list[int]:
    """Seeds in each cell.

    Args:
        table: runs, as `runs.Runs` holds them.

    Returns:
        In the order of `cells_of`; empty where there is no run.
    """
    return [int(count) for count in table.groupby(_KEYS, sort=True)["seed"].nunique()]


def seeds_words(table: pd.DataFrame) -> str:
    """How many seeds the cells have: `5 seeds`, `3 to 5 seeds`, `no seeds`.

    Args:
        table: runs, as `runs.Runs` holds them.

    Returns:
        The words.
    """
    counts = seeds_by_cell(table)
    if not counts:
        return "no seeds"
    low, high = min(counts), max(counts)
    return f"{low} seed{'' if low == high == 1 else 's'}" if low == high else f"{low} to {high} seeds"
