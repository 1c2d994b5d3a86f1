"""Angles and barriers between the solutions of one pre-training, by learning rate."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.arms import Arm
from analysis.estimates import median_estimate
from analysis.figures.style import LOOKS, Marks, legend, lr_axis, new_figure, shade

__all__ = ["basin_geometry_table", "draw_basin_geometry"]

_MEASURES = ("angle", "train_error", "test_error", "train_loss", "test_loss")


def basin_geometry_table(measured: pd.DataFrame, arm: Arm, confidence: float) -> pd.DataFrame:
    """Medians over seeds, by learning rate and pair.

    Args:
        measured: `analysis.basin.Basin.pairs`.
        arm: its arm.
        confidence: nominal coverage.

    Returns:
        Columns `pair, lr, n`, and value, low and high of `angle, train_error, test_error, train_loss, test_loss`.
    """
    generator = np.random.default_rng(23)
    rows = []
    for (pair, lr), part in measured.groupby(["pair", "lr"], sort=True):
        row: dict[str, object] = {"pair": pair, "lr": lr, "n": len(part)}
        clusters = arm.clusters[part["unit"].to_numpy()]
        for name in _MEASURES:
            estimate = median_estimate(part[name].to_numpy(), clusters, confidence, generator)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows)


def draw_basin_geometry(table: pd.DataFrame, measured: pd.DataFrame, marks: Marks) -> Figure:
    """Draw angle, train and test error barrier over the learning rate.

    Args:
        table: from `basin_geometry_table`.
        measured: seeds, drawn as points.
        marks: thresholds and band.

    Returns:
        The figure.
    """
    figure, panels = new_figure(7.0, rows=3)
    labels = ("angle, radians", "train error barrier, points", "test error barrier, points")
    pairs = [pair for pair in dict.fromkeys(measured["pair"]) if pair in set(table["pair"])]
    for panel, name, label in zip(panels, _MEASURES, labels, strict=False):
        scale = 1.0 if name == "angle" else 100.0
        for number, pair in enumerate(pairs):
            look, rows, own = LOOKS[number], table[table["pair"] == pair], measured[measured["pair"] == pair]
            panel.plot(
                own["lr"], scale * own[name], look["marker"], ms=3, mfc="none", mec=look["color"], mew=0.5, alpha=0.4
            )
            panel.plot(
                rows["lr"],
                scale * rows[name],
                **look,
                mfc="white",
                linewidth=1.6,
                label=f"{pair}: median, interval, seeds",
            )
            panel.vlines(
                rows["lr"],
                scale * rows[f"{name}_low"],
                scale * rows[f"{name}_high"],
                color=look["color"],
                linewidth=1.4,
            )
        panel.set_ylabel(label)
        if name != "angle":
            panel.set_yscale("symlog", linthresh=1, linscale=0.6)
            panel.set_ylim(-0.15, 120)
            panel.set_yticks([0, 1, 3, 10, 30, 100], ["0", "1", "3", "10", "30", "100"])
        lr_axis(panel, marks.lrs, label=panel is panels[-1])
        shade(panel, marks, names=panel is panels[0], band=True)
    panels[0].axhline(np.pi / 2, color="#999999", linestyle=":", linewidth=1)
    legend(panels[0])
    return figure
