"""Final quality by initial learning rate, one curve for each way to finish, with the band marked."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.estimates import median_estimate
from analysis.figures.style import BAND, LOOKS, Marks, legend, lr_axis, new_figure, shade
from analysis.findings import Findings

__all__ = ["draw_final_quality", "final_quality_table", "seeds_table"]

_SHOWN = 6
"""More curves than this cannot be told apart; the metric is always among those shown, the table holds all."""


_COLUMNS = (
    "quality",
    "lr",
    "error_mean",
    "error_low",
    "error_high",
    "error_median",
    "median_low",
    "median_high",
    "n",
)
_WHOLE = 101.0
"""Per cent, and room for a point."""
_DEPTH = 30.0
"""Points below the best at which the picture ends: what happens further down would flatten the band."""


def final_quality_table(found: Findings) -> pd.DataFrame:
    """One row for each final quality and learning rate.

    Args:
        found: an arm's findings.

    Returns:
        Columns `quality, lr, error_mean, error_low, error_high, error_median, median_low, median_high, n`.
    """
    generator = np.random.default_rng(17)
    rows = []
    for q, name in enumerate(found.qualities.names):
        for place, estimate in enumerate(found.curves[name]):
            if estimate.n == 0:
                continue
            values = found.qualities.error[:, place, q]
            median = median_estimate(values, found.arm.clusters, estimate.confidence, generator)
            rows.append(
                {
                    "quality": name,
                    "lr": float(found.arm.lrs[place]),
                    "error_mean": estimate.value,
                    "error_low": estimate.low,
                    "error_high": estimate.high,
                    "error_median": median.value,
                    "median_low": median.low,
                    "median_high": median.high,
                    "n": estimate.n,
                }
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def seeds_table(found: Findings) -> pd.DataFrame:
    """Every final error.

    Args:
        found: an arm's findings.

    Returns:
        Columns `quality, lr, data_seed, seed, error`.
    """
    units, rates, kinds = np.indices(found.qualities.error.shape)
    frame = pd.DataFrame(
        {
            "quality": np.array(found.qualities.names)[kinds.ravel()],
            "lr": found.arm.lrs[rates.ravel()],
            "data_seed": found.arm.data_seeds[units.ravel()],
            "seed": found.arm.seeds[units.ravel()],
            "error": found.qualities.error.ravel(),
        }
    )
    return frame.dropna(subset="error").reset_index(drop=True)


def draw_final_quality(table: pd.DataFrame, seeds: pd.DataFrame, marks: Marks, metric: str) -> Figure:
    """Draw the curves.

    Args:
        table: from `final_quality_table`.
        seeds: from `seeds_table`; the metric's seeds are drawn as points.
        marks: thresholds and band.
        metric: the quality to stress.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(4.4)
    names = list(dict.fromkeys(table["quality"]))
    shown = names if len(names) <= _SHOWN else _thinned(names, metric)
    own = seeds[seeds["quality"] == metric]
    axes.plot(own["lr"], 100 - 100 * own["error"], ".", ms=4, color="#999999", zorder=2, label=f"{metric}: seeds")
    for number, name in enumerate(shown):
        rows = table[table["quality"] == name]
        look = LOOKS[number % len(LOOKS)]
        mean = 100 - 100 * rows["error_mean"]
        stressed = name == metric
        axes.plot(
            rows["lr"],
            mean,
            **look,
            ms=6 if stressed else 4.5,
            linewidth=2.2 if stressed else 1.2,
            zorder=4 if stressed else 3,
            label=f"{name}{' (the metric)' if stressed else ''}",
            mfc="white",
            mew=1.2,
        )
        if rows["error_low"].notna().any():
            axes.vlines(
                rows["lr"],
                100 - 100 * rows["error_high"],
                100 - 100 * rows["error_low"],
                color=look["color"],
                linewidth=1.8 if stressed else 0.9,
                zorder=4 if stressed else 3,
            )
    lr_axis(axes, marks.lrs)
    axes.set_ylabel("final test accuracy, %")
    best = 100 - 100 * float(table["error_mean"].min())
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, best - _DEPTH), min(top, _WHOLE))  # the interval of two seeds may reach far beyond
    shade(axes, marks, names=True, band=True)
    if marks.band:
        axes.plot([], [], color=BAND, linewidth=5, label="band (of the metric)")
    legend(axes, columns=2)
    return figure


def _thinned(names: list[str], metric: str) -> list[str]:
    """Evenly spaced names, the first and last included, with the metric among them."""
    places = np.unique(np.linspace(0, len(names) - 1, _SHOWN).round().astype(int))
    return [name for number, name in enumerate(names) if number in places or name == metric]
