"""The gain over regime 1 by way to finish, seed by seed."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.arms import lr_text
from analysis.figures.style import GREY, INK, new_figure
from analysis.findings import Findings

__all__ = ["draw_gains", "gains_table"]


def gains_table(found: Findings) -> pd.DataFrame:
    """One row for each final quality and seed.

    Args:
        found: an arm's findings.

    Returns:
        Columns `quality, rival_lr, base_lr, base_quality, gain_mean, gain_low, gain_high, naive, data_seed, seed,
        gain`, in fractions.
    """
    parts = []
    for name, gain in found.gains.items():
        part = pd.DataFrame({"data_seed": found.arm.data_seeds, "seed": found.arm.seeds, "gain": gain.by_seed})
        part = part.assign(
            quality=name,
            rival_lr=gain.rival_lr,
            base_lr=gain.base_lr,
            base_quality=found.qualities.names[gain.base_quality],
            gain_mean=gain.estimate.value,
            gain_low=gain.estimate.low,
            gain_high=gain.estimate.high,
            naive=gain.naive,
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def draw_gains(table: pd.DataFrame, metric: str) -> Figure:
    """Draw one line for each way to finish: interval, mean and seeds.

    Args:
        table: from `gains_table`.
        metric: the quality to stress.

    Returns:
        The figure.
    """
    names = list(dict.fromkeys(table["quality"]))
    figure, (axes,) = new_figure(1.3 + 0.42 * max(len(names), 1))
    figure.subplots_adjust(left=0.27)
    axes.axvline(0, color=GREY, linewidth=1)
    for number, name in enumerate(names):
        rows = table[table["quality"] == name]
        head = rows.iloc[0]
        weight = 2.6 if name == metric else 1.5
        offsets = np.linspace(-0.22, 0.22, len(rows)) if len(rows) > 1 else np.zeros(1)
        axes.plot(
            100 * rows["gain"], number + offsets, ".", ms=3.5, color="#999999", label="seeds" if not number else None
        )
        if np.isfinite(head["gain_low"]):
            axes.hlines(number, 100 * head["gain_low"], 100 * head["gain_high"], color=INK, linewidth=weight)
        axes.plot(100 * head["gain_mean"], number, "o", ms=7, color=INK, label="mean, interval" if not number else None)
        axes.plot(
            100 * head["naive"],
            number,
            "x",
            ms=6,
            color="#D55E00",
            label="if chosen on the same seeds" if not number else None,
        )
    axes.set_yticks(range(len(names)), [_label(table, name, metric) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.75)
    axes.set_xlabel("gain over the best of regime 1, points of test accuracy (paired by seed)")
    if names:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.4, 1 + 0.42 / (0.3 + 0.42 * len(names))),
            ncols=3,
            fontsize=8.5,
            frameon=False,
        )
    return figure


def _label(table: pd.DataFrame, name: str, metric: str) -> str:
    rate = table.loc[table["quality"] == name, "rival_lr"].iloc[0]
    return f"{name}{' *' if name == metric else ''}, from {lr_text(float(rate))}"
