"""Collapse plot: a metric against the learning rate, the weight decay and their product.

Where only the product matters (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916), the curves of all ratios lie apart in
the first two panels and on each other in the third.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.estimates import mean_estimate
from analysis.figures.series import draw_means, level_axis, looks_of, plain_log, seeds_text, side_legend
from analysis.figures.style import new_figure
from analysis.invariance.design import matched

__all__ = ["collapse_table", "draw_collapse"]

_AXES = {
    "lr": "learning rate η",
    "weight_decay": "weight decay λ",
    "intrinsic_lr": "intrinsic learning rate",
}
_WIDE = 10.0
"""A metric that varies by more than this factor is drawn on a log axis."""


def collapse_table(networks: Mapping[str, pd.DataFrame], metric: str, confidence: float) -> pd.DataFrame:
    """Means over seeds in each cell of learning rate and weight decay.

    Args:
        networks: runs by network's name, one row per run: `intrinsic_lr, lr, weight_decay, ratio, seed` and the metric.
        metric: column; runs in which it is not finite are left out.
        confidence: nominal coverage of Student's intervals; seeds are the units.

    Returns:
        Columns `network, ratio, intrinsic_lr, lr, weight_decay, metric_mean, metric_low, metric_high, n`.
    """
    rows = []
    for network, runs in networks.items():
        known = runs[np.isfinite(runs[metric].to_numpy(dtype=np.float64))]
        cells = known.assign(**{name: matched(known[name]) for name in ("ratio", *_AXES)})
        for (ratio, level), cell in cells.groupby(["ratio", "intrinsic_lr"]):
            seeds = cell["seed"].to_numpy(dtype=np.int64)
            mean = mean_estimate(cell[metric].to_numpy(dtype=np.float64), seeds, confidence)
            rows.append(
                {
                    "network": network,
                    "ratio": ratio,
                    "intrinsic_lr": level,
                    "lr": cell["lr"].iloc[0],
                    "weight_decay": cell["weight_decay"].iloc[0],
                    "metric_mean": mean.value,
                    "metric_low": mean.low,
                    "metric_high": mean.high,
                    "n": mean.n,
                }
            )
    columns = ["network", "ratio", *_AXES, "metric_mean", "metric_low", "metric_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def draw_collapse(table: pd.DataFrame, label: str, product: str = "η λ") -> Figure:
    """Draw a row of three panels for each network.

    Args:
        table: from `collapse_table`; the networks in their order: the network, then its control.
        label: what the metric is.
        product: how the intrinsic learning rate is made: with momentum `η λ / (1 - β)`.

    Returns:
        The figure.
    """
    networks = list(dict.fromkeys(table["network"]))
    rows = max(len(networks), 1)
    figure, panels = new_figure(1.0 + 2.5 * rows, rows=rows, columns=3)
    figure.subplots_adjust(right=0.87, wspace=0.18, hspace=0.42)
    looks = looks_of(table["ratio"])
    for row, network in enumerate(networks):
        own = table[table["network"] == network]
        beside = panels[3 * row : 3 * row + 3]
        for panel, name in zip(beside, _AXES, strict=True):
            for level, look in looks.items():
                cells = own[own["ratio"] == level].sort_values(name)
                draw_means(panel, cells[name], cells, "metric", look)
            words = f"{_AXES[name]}{f' {product}' if name == 'intrinsic_lr' else ''}"
            level_axis(panel, own[name], words if row == rows - 1 else "", panels=3)
            if panel is not beside[0]:
                panel.sharey(beside[0])
                panel.tick_params(labelleft=False, which="both")
        if (own["metric_mean"] > 0).all() and own["metric_mean"].max() > _WIDE * own["metric_mean"].min():
            plain_log(beside[0])
        beside[0].set_ylabel(label)
        beside[0].set_title(f"{network}: {seeds_text(own['n'])}", loc="left", fontsize=9.5)
    side_legend(figure, looks, "ratio η / λ")
    return figure
