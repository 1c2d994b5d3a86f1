"""Final error as a map: initial learning rate by decay time, and weight decay by decay time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.arms import lr_text
from analysis.decay.timing import Timing
from analysis.figures.style import INK, new_figure

__all__ = ["decay_grid_table", "draw_decay_grid"]

_RANGE = 3.0
"""The darkest tint is the median of the errors above the best, times this: a few hopeless cells must not set it."""


def decay_grid_table(timing: Timing) -> pd.DataFrame:
    """One row for each schedule of the comparison.

    Args:
        timing: compared decay times.

    Returns:
        Columns `initial_lr, weight_decay, scale, drop, decay_at, never, error_mean, error_low, error_high, n, best`;
        `decay_at` is the schedule's length where there is no decay.
    """
    rows = [
        {
            "initial_lr": line.initial_lr,
            "weight_decay": line.weight_decay,
            "scale": line.scale,
            "drop": line.drop,
            "decay_at": time,
            "never": never,
            "error_mean": error.value,
            "error_low": error.low,
            "error_high": error.high,
            "n": error.n,
            "best": number == timing.line and place == timing.choice.place,
        }
        for number, line in enumerate(timing.lines)
        for time, never, error, place in zip(line.times, line.never, line.errors, line.places, strict=True)
    ]
    return pd.DataFrame(rows)


def draw_decay_grid(table: pd.DataFrame) -> Figure:
    """Draw the maps through the best schedule.

    Args:
        table: from `decay_grid_table`.

    Returns:
        The figure: a map over the initial learning rate at the best weight decay, and one over the weight decay at the
        best learning rate where several were tried. Each cell holds the mean error in points and half its interval.
    """
    best = table[table["best"]].iloc[0]
    same = (table["drop"] == best["drop"]) & (table["scale"] == best["scale"])
    rate_fixed = np.isclose(table["initial_lr"], best["initial_lr"], rtol=1e-6)
    decay_fixed = np.isclose(table["weight_decay"], best["weight_decay"], rtol=1e-6)
    views = [("initial_lr", table[same & decay_fixed]), ("weight_decay", table[same & rate_fixed])]
    shown = [(name, rows) for name, rows in views if rows[name].nunique() > 1] or views[:1]
    height = max(rows[name].nunique() for name, rows in shown)
    figure, panels = new_figure(1.7 + 0.46 * height, columns=len(shown), width=4.4 + 4.4 * (len(shown) - 1))
    figure.subplots_adjust(left=0.17 if len(shown) == 1 else 0.1, wspace=0.32)
    titles = {
        "initial_lr": f"WD {lr_text(best['weight_decay'])}, {best['drop']}",
        "weight_decay": f"initial LR {lr_text(best['initial_lr'])}, {best['drop']}",
    }
    labels = {"initial_lr": "initial learning rate", "weight_decay": "weight decay"}
    for panel, (name, rows) in zip(panels, shown, strict=True):
        _map(panel, rows, name)
        seeds = sorted({int(count) for count in rows["n"] if count})
        counts = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}" if seeds else "0"
        panel.set_title(f"final test error, %: {titles[name]} (n = {counts})", loc="left", fontsize=9.5)
        panel.set_ylabel(labels[name])
        panel.set_xlabel("decay at step (framed: the best)")
    return figure


def _map(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    values = np.sort(rows[name].unique())
    times = rows[["decay_at", "never"]].drop_duplicates().sort_values("decay_at")
    low, floor = rows["error_mean"].min(), rows["error_mean"] - rows["error_mean"].min()
    span = max(_RANGE * float(floor.median()), 1e-6)
    for row in rows.to_dict("records"):
        if not np.isfinite(row["error_mean"]):
            continue
        x = int(np.flatnonzero((times["decay_at"] == row["decay_at"]) & (times["never"] == row["never"]))[0])
        y = int(np.searchsorted(values, row[name]))
        tint = 1.0 - 0.62 * min(1.0, (row["error_mean"] - low) / span)
        panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=str(tint), edgecolor="white", linewidth=1))
        half = (row["error_high"] - row["error_low"]) / 2
        spread = f"\n\N{PLUS-MINUS SIGN}{100 * half:.1f}" if np.isfinite(half) else ""
        text = f"{100 * row['error_mean']:.1f}{spread}"
        ink = INK if tint > 0.6 else "white"
        panel.text(x, y, text, ha="center", va="center", fontsize=8, color=ink, linespacing=0.95)
        if row["best"]:
            frame = Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=2.4)
            panel.add_patch(frame)
    panel.set_xlim(-0.5, len(times) - 0.5)
    panel.set_ylim(-0.5, len(values) - 0.5)
    panel.set_xticks(range(len(times)), _time_labels(times), fontsize=8)
    panel.set_yticks(range(len(values)), [lr_text(float(value)) for value in values], fontsize=8)
    panel.tick_params(length=0)


def _time_labels(times: pd.DataFrame) -> Sequence[str]:
    return ["never" if never else f"{time:,}" for time, never in zip(times["decay_at"], times["never"], strict=True)]
