"""Norm of the weights against the ratio of learning rate to weight decay: the one thing that does depend on it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimates import Estimate, mean_estimate
from analysis.figures.series import (
    corner_legend,
    draw_means,
    layer_panels,
    level_axis,
    looks_of,
    plain_log,
    seeds_text,
    shown_layers,
    side_legend,
)
from analysis.figures.style import INK, PALE
from analysis.invariance.design import matched
from analysis.invariance.norm_slope import THEORY, norm_slope

__all__ = ["draw_norm_ratio", "norm_ratio_table", "norm_slopes"]


def norm_ratio_table(runs: pd.DataFrame, layers: Sequence[str], confidence: float) -> pd.DataFrame:
    """Geometric means of the norm over seeds, by layer and cell.

    Args:
        runs: one row per run: `intrinsic_lr, ratio, seed` and `norm_sq:<layer>`, squared norms.
        layers: names.
        confidence: nominal coverage of Student's intervals of the mean log norm; seeds are the units.

    Returns:
        Columns `layer, intrinsic_lr, ratio, norm_mean, norm_low, norm_high, n`: norms, not squared.
    """
    cells = runs.assign(intrinsic_lr=matched(runs["intrinsic_lr"]), ratio=matched(runs["ratio"]))
    rows = []
    for layer in layers:
        for (level, ratio), cell in cells.groupby(["intrinsic_lr", "ratio"]):
            squared = cell[f"norm_sq:{layer}"].to_numpy(dtype=np.float64)
            logs = np.log(squared, out=np.full(len(squared), np.nan), where=squared > 0) / 2
            mean = mean_estimate(logs, cell["seed"].to_numpy(dtype=np.int64), confidence)
            row = {"layer": layer, "intrinsic_lr": level, "ratio": ratio, "n": mean.n}
            norms = np.exp([mean.value, mean.low, mean.high])
            rows.append(row | dict(zip(("norm_mean", "norm_low", "norm_high"), map(float, norms), strict=True)))
    columns = ["layer", "intrinsic_lr", "ratio", "norm_mean", "norm_low", "norm_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def norm_slopes(runs: pd.DataFrame, layers: Sequence[str], confidence: float) -> dict[str, Estimate]:
    """Slope of log norm on log ratio by layer, as `norm_slope` fits it."""
    return {layer: norm_slope(runs, f"norm_sq:{layer}", confidence) for layer in layers}


def draw_norm_ratio(table: pd.DataFrame, slopes: dict[str, Estimate]) -> Figure:
    """Draw a panel for each layer, with the theory's slope of 1/4 and the fitted one.

    Args:
        table: from `norm_ratio_table`.
        slopes: from `norm_slopes`.

    Returns:
        The figure.
    """
    layers = shown_layers(table["layer"])
    figure, (panels,) = layer_panels(layers, 3.7)
    looks = {level: {**look, "linestyle": "none"} for level, look in looks_of(table["intrinsic_lr"]).items()}
    for panel, layer in zip(panels, layers, strict=True):
        own = table[table["layer"] == layer].dropna(subset="norm_mean")
        for level, look in looks.items():
            cells = own[own["intrinsic_lr"] == level]
            draw_means(panel, cells["ratio"], cells, "norm", look)
        if np.isfinite(slopes[layer].value):
            _draw_slopes(panel, own, slopes[layer], " " if len(layers) < 3 else "\n")
        level_axis(panel, table["ratio"], "ratio η / λ", panels=len(layers))
    plain_log(panels[0])
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(top=high * (high / low) ** 0.4)  # room for the legends
    panels[0].set_ylabel("norm of the weights")
    side_legend(figure, looks, "intrinsic LR", seeds_text(table["n"]))
    return figure


def _draw_slopes(panel: Axes, own: pd.DataFrame, slope: Estimate, gap: str) -> None:
    """The theory's line, wide and pale, and the fitted one on it, both through the mean of all points."""
    ratios = np.unique(own["ratio"])
    centre = np.exp(np.log(own[["ratio", "norm_mean"]]).mean())
    interval = f"{gap}[{slope.low:.3f}, {slope.high:.3f}]" if np.isfinite(slope.low) else ""
    lines = ((THEORY, f"theory: {THEORY:g}", PALE, 4.0), (slope.value, f"fit: {slope.value:.3f}{interval}", INK, 1.1))
    for value, label, colour, width in lines:
        norms = centre["norm_mean"] * (ratios / centre["ratio"]) ** value
        panel.plot(ratios, norms, color=colour, linewidth=width, zorder=1, label=label)
    corner_legend(panel, "upper left", f"slope ({slope.n} runs)")
