"""Distance between the functions that two schedules train, against steps, beside what chance gives."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from analysis.figures.series import shortened
from analysis.figures.style import GREY, INK, LOOKS, new_figure

__all__ = ["draw_function_distance", "function_distance_table"]

_COLUMNS = 3
_MOST = 12
"""More pairs than this cannot be read; those of equal product come first, the table holds all."""


def function_distance_table(pairs: list[dict[str, object]]) -> pd.DataFrame:
    """Pairs of schedules as the test of functions reports them.

    Args:
        pairs: the test's `numbers["pairs"]`.

    Returns:
        Columns `pair, equal, step, distance, null_mean, null_high, p`, pairs of equal product first.
    """
    columns = ["pair", "equal", "step", "distance", "null_mean", "null_high", "p"]
    rows = [{**pair, "pair": " | ".join(map(str, _both(pair["schedules"])))} for pair in pairs]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], float))
    return table.sort_values(["equal", "pair", "step"], ascending=[False, True, True], ignore_index=True)


def draw_function_distance(table: pd.DataFrame) -> Figure:
    """Draw a panel for each pair: the distance with its p-values, and the range of 95 % of the permutations.

    Args:
        table: from `function_distance_table`.

    Returns:
        The figure.
    """
    pairs = list(dict.fromkeys(table.sort_values("equal", ascending=False, kind="stable")["pair"]))[:_MOST]
    columns = min(_COLUMNS, max(len(pairs), 1))
    rows = -(-max(len(pairs), 1) // columns)
    height = 1.4 + 2.35 * rows
    figure, panels = new_figure(height, rows=rows, columns=columns)
    figure.subplots_adjust(wspace=0.08, hspace=0.62, top=1 - 1.15 / height)
    for number, (panel, pair) in enumerate(zip(panels, pairs, strict=False)):
        if number:
            panel.sharey(panels[0])
            panel.sharex(panels[0])
        _draw_pair(panel, table[table["pair"] == pair].sort_values("step"), f"{chr(ord('a') + number)}")
        first = number % columns == 0
        panel.tick_params(labelleft=first)
        if first:
            panel.set_ylabel("l1 distance", fontsize=9)
        if number + columns >= len(pairs):
            panel.set_xlabel("steps since the last change", fontsize=9)
    for panel in panels[len(pairs) :]:
        panel.set_axis_off()
    steps = sorted(table["step"].unique())
    panels[0].set_xscale("log")
    panels[0].set_xlim(steps[0] / 1.35, steps[-1] * 1.35)
    panels[0].set_ylim(0, 1.22 * float(table[["distance", "null_high"]].max().max()))
    for panel in panels[: len(pairs)]:
        panel.xaxis.set_major_locator(FixedLocator(steps))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.tick_params(axis="x", labelsize=7.5)
    _explain(figure, panels[: len(pairs)])
    return figure


def _explain(figure: Figure, panels: list[Axes]) -> None:
    """One legend for all panels, above them."""
    entries: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(
        handles=list(entries.values()),
        loc="upper left",
        bbox_to_anchor=(0.08, 0.995),
        ncols=len(entries),
        title="numbers: permutation p-values",
        title_fontsize=8,
        fontsize=8,
        alignment="left",
        frameon=False,
    )


def _draw_pair(panel: Axes, rows: pd.DataFrame, letter: str) -> None:
    equal = bool(rows["equal"].iloc[0])
    kind = "equal product" if equal else "unequal product"
    look = LOOKS[0 if equal else 1]
    panel.fill_between(rows["step"], 0, rows["null_high"], color="#dddddd", linewidth=0, label="95 % of permutations")
    panel.plot(
        rows["step"], rows["null_mean"], color=GREY, linestyle=":", linewidth=1.2, label="mean of the permutations"
    )
    face = "white" if equal else look["color"]
    panel.plot(rows["step"], rows["distance"], **look, mfc=face, ms=5, linewidth=1.2, label=f"distance, {kind}")
    for place in range(len(rows)):
        row = rows.iloc[place]
        over = max(float(row["distance"]), float(row["null_high"]) if np.isfinite(row["null_high"]) else 0.0)
        panel.annotate(
            f"{row['p']:.3f}".lstrip("0") if row["p"] < 1 else "1",
            (row["step"], over),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=INK,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.4},
        )
    first, _, second = str(rows["pair"].iloc[0]).partition(" | ")
    panel.set_title(f"{letter}  {kind}\n{shortened(first, 38)}\n{shortened(second, 38)}", loc="left", fontsize=7.5)


def _both(schedules: object) -> tuple[object, ...]:
    return tuple(schedules) if isinstance(schedules, list | tuple) else (schedules,)
