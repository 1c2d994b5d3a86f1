"""Final error by the time of the decay, with the recommended time and those that may be as good."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.arms import lr_text
from analysis.decay.timing import Timing
from analysis.figures.style import BAND, GREY, LOOKS, new_figure

__all__ = ["decay_seeds_table", "decay_timing_table", "draw_decay_timing"]


def decay_timing_table(timing: Timing) -> pd.DataFrame:
    """One row for each line and decay time.

    Args:
        timing: compared decay times.

    Returns:
        Columns `line, initial_lr, weight_decay, drop, decay_at, never, error_mean, error_low, error_high, n,
        excess_low, excess_high, within_margin, recommended, chosen_line`, lines by their lowest mean error, the chosen
        one first.
    """
    rows = []
    order = sorted(
        range(len(timing.lines)),
        key=lambda number: (number != timing.line, min(error.value for error in timing.lines[number].errors)),
    )
    for rank, number in enumerate(order):
        line = timing.lines[number]
        for place, time in enumerate(line.times):
            error = line.errors[place]
            rows.append(
                {
                    "line": rank,
                    "initial_lr": line.initial_lr,
                    "weight_decay": line.weight_decay,
                    "drop": line.drop,
                    "decay_at": time,
                    "never": line.never[place],
                    "error_mean": error.value,
                    "error_low": error.low,
                    "error_high": error.high,
                    "n": error.n,
                    "excess_low": line.excess_low[place],
                    "excess_high": line.excess_high[place],
                    "within_margin": time in line.within_margin,
                    "recommended": number == timing.line and line.places[place] == timing.choice.place,
                    "chosen_line": number == timing.line,
                }
            )
    return pd.DataFrame(rows)


def decay_seeds_table(timing: Timing) -> pd.DataFrame:
    """Every final error of the chosen line.

    Args:
        timing: compared decay times.

    Returns:
        Columns `data_seed, seed, decay_at, error`.
    """
    line, outcomes = timing.best_line, timing.outcomes
    error = outcomes.error[:, list(line.places)]
    units, places = np.nonzero(np.isfinite(error))
    return pd.DataFrame(
        {
            "data_seed": outcomes.arm.data_seeds[units],
            "seed": outcomes.arm.seeds[units],
            "decay_at": np.array(line.times)[places],
            "error": error[units, places],
        }
    )


def draw_decay_timing(table: pd.DataFrame, seeds: pd.DataFrame, interval: tuple[float, float], margin: float) -> Figure:
    """Draw the lines.

    Args:
        table: from `decay_timing_table`.
        seeds: from `decay_seeds_table`.
        interval: span of the times that may be the best; NaN where it is not known.
        margin: practical size of a difference, drawn above the lowest mean.

    Returns:
        The figure.
    """
    figure, (axes,) = new_figure(4.2)
    chosen = table[table["chosen_line"]]
    if np.isfinite(interval[0]) and interval[0] < interval[1]:
        axes.axvspan(*interval, color="#e4e4e4", zorder=0, label="times that may be the best")
    axes.plot(
        seeds["decay_at"], 100 * seeds["error"], ".", ms=4, color="#999999", zorder=2, label="seeds of the best line"
    )
    for rank, rows in list(table.groupby("line"))[: len(LOOKS)]:
        look, first = LOOKS[int(str(rank))], rows.iloc[0]
        stressed = bool(first["chosen_line"])
        name = f"LR {lr_text(first['initial_lr'])}, WD {lr_text(first['weight_decay'])}, {first['drop']}"
        axes.plot(
            rows["decay_at"],
            100 * rows["error_mean"],
            **look,
            ms=6 if stressed else 4.5,
            linewidth=2.2 if stressed else 1.2,
            mfc="white",
            zorder=4 if stressed else 3,
            label=f"{name} (n = {int(rows['n'].max())})",
        )
        known = rows["error_low"].notna()
        axes.vlines(
            rows.loc[known, "decay_at"],
            100 * rows.loc[known, "error_low"],
            100 * rows.loc[known, "error_high"],
            color=look["color"],
            linewidth=1.8 if stressed else 0.9,
            zorder=4 if stressed else 3,
        )
    axes.axhline(100 * (chosen["error_mean"].min() + margin), color=GREY, linestyle=":", linewidth=1.2)
    for time in table.loc[table["recommended"], "decay_at"]:
        axes.axvline(
            time, color=BAND, linestyle="--", linewidth=1.4, zorder=1, label=f"recommended: {_time(table, time)}"
        )
    _label_times(axes, table)
    axes.set_xlabel("decay at step")
    axes.set_ylabel("final test error, %")
    axes.margins(x=0.03)
    handles, labels = axes.get_legend_handles_labels()
    lines = (len(labels) + 1) // 2
    height = figure.get_size_inches()[1] + 0.2 * lines
    figure.set_size_inches(figure.get_size_inches()[0], height)
    figure.subplots_adjust(bottom=(0.62 + 0.2 * lines) / height, top=1 - 0.15 / height)
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.08, 0.0), ncols=2, fontsize=8.5, frameon=False)
    return figure


def _label_times(axes: Axes, table: pd.DataFrame) -> None:
    """Ticks at the times that were tried, labels where they do not touch."""
    never = set(table.loc[table["never"], "decay_at"])
    times = np.sort(table["decay_at"].unique())
    gap = 0.075 * (times[-1] - times[0])
    shown: list[float] = []
    for time in times[::-1]:  # from the end: "never" is always labelled
        if not shown or shown[-1] - time >= gap:
            shown.append(time)
    axes.set_xticks(shown, ["never" if time in never else f"{time:,}" for time in shown])
    axes.set_xticks(times, minor=True)


def _time(table: pd.DataFrame, time: int) -> str:
    rows = table[table["recommended"] & (table["decay_at"] == time)]
    return "no decay" if rows["never"].any() else f"step {time:,}"
