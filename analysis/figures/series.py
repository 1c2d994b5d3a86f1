"""Series that differ in one level (a ratio, an intrinsic learning rate), drawn alike in every figure about laws."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.arms import lr_text
from analysis.figures.style import LOOKS, lr_axis, new_figure

__all__ = [
    "MOST_LAYERS",
    "corner_legend",
    "draw_means",
    "layer_panels",
    "level_axis",
    "looks_of",
    "plain_log",
    "seeds_text",
    "shortened",
    "shown_layers",
    "side_legend",
    "sidestep",
]

MOST_LAYERS = 4
"""More layers than this do not fit beside each other; the tables hold all."""
_STEP = 0.08
"""Distance of neighbouring series, as a share of that of neighbouring levels."""
_SIDE = 0.86
"""Where the panels end and the legend begins, as a share of the width."""


def looks_of(levels: Iterable[float]) -> dict[float, dict[str, Any]]:
    """A look for each level, in ascending order; marks shrink so that one lying on another can be seen through it.

    Args:
        levels: repeats are allowed.

    Returns:
        Keyword arguments of `Axes.plot` by level.
    """
    distinct = sorted(set(map(float, levels)))
    sizes = np.linspace(9.0, 5.0, len(distinct)) if len(distinct) > 1 else [6.0]
    return {
        level: {**LOOKS[number % len(LOOKS)], "ms": float(size), "mfc": "none", "mew": 1.3, "linewidth": 1.2}
        for number, (level, size) in enumerate(zip(distinct, sizes, strict=True))
    }


def shown_layers(layers: Iterable[str]) -> list[str]:
    """The layers that are drawn: all, or evenly spaced ones with the first and the last.

    Args:
        layers: names in the network's order; repeats are allowed.

    Returns:
        At most `MOST_LAYERS` names.
    """
    names = list(dict.fromkeys(map(str, layers)))
    places = np.unique(np.linspace(0, len(names) - 1, min(MOST_LAYERS, len(names))).round().astype(int))
    return [names[place] for place in places]


def sidestep(values: pd.Series, number: int, count: int) -> pd.Series:
    """Values on a log axis, moved sideways a little so that series do not hide each other.

    Args:
        values: positive levels; the step is a small part of the least distance between two of them.
        number: of the series.
        count: how many series there are.

    Returns:
        The values times one factor, 1 for the series in the middle.
    """
    return values.mul(10 ** (_STEP * _gap(values) * (number - (count - 1) / 2)))


def level_axis(axes: Axes, levels: Iterable[float], label: str, *, panels: int) -> None:
    """A log axis labelled at the levels themselves, thinned until the labels do not touch.

    Args:
        axes: the panel.
        levels: positive; repeats are allowed.
        label: of the axis.
        panels: how many panels stand beside each other.
    """
    distinct = sorted(set(map(float, levels)))
    letters = max(len(lr_text(level)) for level in distinct)
    lr_axis(axes, distinct, label=False, spacing=panels * (0.012 * letters + 0.005))
    room = 10 ** (2.5 * _STEP * _gap(pd.Series(distinct)))
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, distinct[0] / room), max(high, distinct[-1] * room))
    axes.set_xlabel(label)


def plain_log(axes: Axes) -> None:
    """A logarithmic y axis with numbers written out."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_means(axes: Axes, x: pd.Series, rows: pd.DataFrame, name: str, look: dict[str, Any], **more: Any) -> None:
    """Draw means with their intervals.

    Args:
        axes: the panel.
        x: places of the rows.
        rows: with `<name>_mean, <name>_low, <name>_high`; without an interval the mean stands alone.
        name: of the measure.
        look: from `looks_of`.
        more: passed on to `Axes.plot`.
    """
    axes.plot(x, rows[f"{name}_mean"], **{**look, **more})
    known = rows[f"{name}_low"].notna().to_numpy()
    low, high = rows[f"{name}_low"][known], rows[f"{name}_high"][known]
    axes.vlines(x[known], low, high, color=look["color"], linewidth=1.4)


def layer_panels(layers: Sequence[str], height: float, rows: int = 1) -> tuple[Figure, list[list[Axes]]]:
    """A column of panels for each layer, with room for a legend beside them.

    Args:
        layers: names, as `shown_layers` gives them.
        height: of the figure in inches.
        rows: panels of each layer, above each other; each row has one y axis.

    Returns:
        The figure and its panels by row.
    """
    figure, flat = new_figure(height, rows=rows, columns=len(layers))
    figure.subplots_adjust(right=_SIDE, wspace=0.1, hspace=0.16)
    panels = [flat[row * len(layers) : (row + 1) * len(layers)] for row in range(rows)]
    for row in panels:
        for panel in row[1:]:
            panel.sharey(row[0])
            panel.tick_params(labelleft=False, which="both")
    for panel, layer in zip(panels[0], layers, strict=True):
        panel.set_title(shortened(layer.removesuffix(".weight"), 80 // len(layers)), loc="left", fontsize=9)
    return figure, panels


def side_legend(figure: Figure, looks: dict[float, dict[str, Any]], title: str, note: str = "") -> None:
    """What each level looks like, beside the panels.

    Args:
        figure: from `layer_panels`.
        looks: from `looks_of`.
        title: what the level is.
        note: what a point is made of.
    """
    entries = [figure.axes[0].plot([], [], **look, label=lr_text(level))[0] for level, look in looks.items()]
    figure.legend(
        handles=entries,
        loc="center left",
        bbox_to_anchor=(_SIDE + 0.005, 0.5),
        title="\n".join([title, *textwrap.wrap(note, 12)]),
        title_fontsize=8.5,
        fontsize=8.5,
        alignment="left",
        frameon=False,
    )


def shortened(name: str, most: int) -> str:
    """A name with its middle left out where it is longer than `most` characters."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[len(name) - (most - 1 - head) :]}"


def corner_legend(axes: Axes, place: Literal["upper left", "lower left"], title: str) -> None:
    """A small legend of the lines of one panel.

    Args:
        axes: the panel.
        place: the corner.
        title: its heading.
    """
    axes.legend(loc=place, title=title, title_fontsize=8, fontsize=8, frameon=False, alignment="left", handlelength=1.6)


def seeds_text(counts: pd.Series) -> str:
    """How many seeds are behind a point: `10 seeds per point`, `8 to 10 seeds per point`."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low if low == high else f'{low} to {high}'} seed{'' if high == 1 else 's'} per point"


def _gap(levels: pd.Series) -> float:
    """Least distance in decades between two different levels; that of a factor 2 where there is one level only."""
    decades = np.diff(np.log10(np.unique(levels.to_numpy(dtype=np.float64))))
    return float(decades.min()) if len(decades) else float(np.log10(2))
