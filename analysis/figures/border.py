"""The border between 2A and 2B: what the rule looks at, rate by rate, and where other margins would put the border."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.border import Border
from analysis.figures.style import LOOKS, Marks, lr_axis, new_figure, shade

__all__ = ["border_table", "draw_border"]


def border_table(border: Border) -> pd.DataFrame:
    """What the rule looks at.

    Args:
        border: the border.

    Returns:
        One row for each rate of regime 2: `lr, spread, barrier, is_2a`, in fractions.
    """
    return pd.DataFrame(
        {
            "lr": border.rates,
            "spread": border.spreads,
            "barrier": border.barriers,
            "is_2a": border.rates <= border.lower,
        }
    )


def draw_border(border: Border, table: pd.DataFrame, marks: Marks) -> Figure:
    """Draw spread and barrier against their margins, and the border under other margins.

    Args:
        border: the border.
        table: from `analysis.border.sensitivity`.
        marks: thresholds and band.

    Returns:
        The figure.
    """
    figure, (rule, moved) = new_figure(5.2, rows=2)
    shown = ((border.spreads, border.spread, "spread of errors"), (border.barriers, border.barrier, "train barrier"))
    for number, (values, margin, words) in enumerate(shown):
        look = LOOKS[number]
        rule.plot(border.rates, 100 * values, **look, mfc="white", linewidth=1.6, label=words)
        label = f"its margin, {100 * margin:g} points"
        rule.axhline(100 * margin, color=look["color"], linestyle=":", linewidth=1.1, label=label)
    rule.set_yscale("symlog", linthresh=1, linscale=0.6)
    rule.set_ylim(-0.15, 120)
    rule.set_yticks([0, 0.5, 1, 3, 10, 30, 100], ["0", "0.5", "1", "3", "10", "30", "100"])
    rule.set_ylabel("points")
    inside = table[(table["border"] > 0) & np.isfinite(table["border"])]
    for number, (spread, part) in enumerate(inside.groupby("spread", sort=True)):
        moved.plot(
            part["border"],
            100 * part["barrier"],
            linestyle="",
            marker=LOOKS[number]["marker"],
            color=LOOKS[number]["color"],
            mfc="none",
            ms=5 + 2 * number,
            label=f"spread at most {100 * float(str(spread)):g}",
        )
    moved.set_yscale("log")
    moved.set_ylim(0.07, 3)
    moved.set_yticks([0.1, 0.5, 1, 2], ["0.1", "0.5", "1", "2"])
    moved.minorticks_off()
    moved.set_ylabel("margin on the barrier, points")
    for panel in (rule, moved):
        lr_axis(panel, marks.lrs, label=panel is moved)
        shade(panel, marks, names=panel is rule)
        if np.isfinite(border.value) and border.value > 0:
            panel.axvline(border.value, color="#000000", linewidth=1.4)
            # an end beyond the rates of regime 2 is drawn as far as these go: the caption says that it is open
            low, high = max(border.low, border.rates[0]), min(border.high, border.rates[-1])
            if np.isfinite(low) and np.isfinite(high):
                panel.axvspan(low, high, ymin=0.97, ymax=1, color="#000000", linewidth=0)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="upper left", bbox_to_anchor=(0.0, 0.93), fontsize=8.5, framealpha=0.85, edgecolor="none")
    return figure
