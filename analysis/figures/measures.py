"""Any numbers of single solutions, or of pairs of them, over the initial learning rate: medians, intervals, seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.arms import Arm
from analysis.estimates import median_estimate
from analysis.figures.style import LOOKS, Marks, legend, lr_axis, new_figure, shade

__all__ = ["Panel", "draw_measures", "measures_table"]

Floats = npt.NDArray[np.float64]

_PANEL_INCHES = 2.35
_DECADES = 1.2
"""Positive values that span more than this are drawn on a logarithmic axis."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        key: which number.
        label: its name and unit.
        line: a value to mark with a dotted line; None for none.
        line_words: what it stands for.
        factor: what values are multiplied by: 100 makes points of fractions.
    """

    key: str
    label: str
    line: float | None = None
    line_words: str = ""
    factor: float = 1.0


def measures_table(frame: pd.DataFrame, arm: Arm, confidence: float, series: str) -> pd.DataFrame:
    """Medians over seeds.

    Args:
        frame: from `analysis.probing.frames`, of one split.
        arm: its arm.
        confidence: nominal coverage.
        series: the column that tells curves apart, `solution` or `pair`.

    Returns:
        Columns `SERIES, lr, key, n, median, low, high`; n counts the seeds with a finite value.
    """
    generator = np.random.default_rng(31)
    rows = []
    for (name, lr, key), part in frame.groupby([series, "lr", "key"], sort=True):
        values = part["value"].to_numpy(dtype=np.float64)
        estimate = median_estimate(values, arm.clusters[part["unit"].to_numpy()], confidence, generator)
        rows.append(
            {
                series: name,
                "lr": lr,
                "key": key,
                "n": estimate.n,
                "median": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
            }
        )
    return pd.DataFrame(rows, columns=[series, "lr", "key", "n", "median", "low", "high"])


def draw_measures(
    table: pd.DataFrame, frame: pd.DataFrame, panels: Sequence[Panel], marks: Marks, series: str
) -> Figure:
    """Draw one panel for each number.

    Args:
        table: from `measures_table`.
        frame: what it was made of; the seeds are drawn as points.
        panels: from top to bottom.
        marks: thresholds and band.
        series: as in `measures_table`.

    Returns:
        The figure.
    """
    figure, axes = new_figure(_PANEL_INCHES * len(panels) + 0.6, rows=len(panels))
    names = list(dict.fromkeys(frame[series]))
    for number, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
        rows, points = table[table["key"] == panel.key], frame[frame["key"] == panel.key]
        for place, name in enumerate(names):
            _curve(
                axis, rows[rows[series] == name], points[points[series] == name], panel, LOOKS[place % len(LOOKS)], name
            )
        if panel.line is not None:
            axis.axhline(panel.line, color="#666666", linestyle=":", linewidth=1.2, label=panel.line_words or None)
        _scale(axis, panel.factor * points["value"].to_numpy(dtype=np.float64))
        axis.set_ylabel(panel.label)
        lr_axis(axis, marks.lrs, label=axis is axes[-1])
        shade(axis, marks, names=number == 0, band=True)
        if number == 0 or panel.line_words:
            legend(axis, columns=2 if len(names) > 3 else 1)
    return figure


def _curve(axis: Axes, rows: pd.DataFrame, points: pd.DataFrame, panel: Panel, look: dict[str, Any], name: str) -> None:
    """One series: its seeds, medians and intervals."""
    colour = look["color"]
    axis.plot(
        points["lr"],
        panel.factor * points["value"],
        linestyle="",
        marker=look["marker"],
        ms=3,
        mfc="none",
        mec=colour,
        mew=0.5,
        alpha=0.4,
    )
    axis.plot(
        rows["lr"],
        panel.factor * rows["median"],
        **look,
        mfc="white",
        linewidth=1.6,
        label=f"{name}: median, interval, seeds",
    )
    axis.vlines(rows["lr"], panel.factor * rows["low"], panel.factor * rows["high"], color=colour, linewidth=1.4)


def _scale(axis: Axes, values: Floats) -> None:
    """A logarithmic axis where values span decades."""
    known = values[np.isfinite(values)]
    if not len(known):
        return
    if known.min() > 0 and np.log10(known.max() / known.min()) > _DECADES:
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(NullFormatter())
    elif known.min() >= 0:
        axis.set_ylim(bottom=0)
