"""What all figures share: size, marks that stay apart in grey, the learning-rate axis and the shading of regimes."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from analysis.arms import lr_text
from analysis.findings import Findings

__all__ = ["LOOKS", "Drawing", "Marks", "legend", "lr_axis", "marks_of", "new_figure", "render", "shade"]

INK = "#222222"
GREY = "#777777"
PALE = "#c4c4c4"
BAND = "#0072B2"

_SETTINGS: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "lr-atlas",
}

LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "marker": "o", "linestyle": "-"},
    {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    {"color": "#0072B2", "marker": "^", "linestyle": "-."},
    {"color": "#009E73", "marker": "D", "linestyle": ":"},
    {"color": "#CC79A7", "marker": "v", "linestyle": (0, (5, 1))},
    {"color": "#8C6D00", "marker": "P", "linestyle": (0, (3, 1, 1, 1))},
    {"color": "#56B4E9", "marker": "X", "linestyle": (0, (1, 1))},
)
"""Colour, marker and line style of the i-th series: any one of them tells the series apart."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        png: at 150 dots per inch.
        svg: the same as vectors.
    """

    png: bytes
    svg: bytes


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What is marked behind every curve over the learning rate.

    Attributes:
        lrs: the grid.
        convergence: threshold between regimes 1 and 2 with its interval; None outside the grid.
        divergence: threshold between regimes 2 and 3 likewise.
        band: the band's edges; None where there is none yet.
    """

    lrs: tuple[float, ...]
    convergence: tuple[float, float, float] | None
    divergence: tuple[float, float, float] | None
    band: tuple[float, float] | None


def marks_of(found: Findings) -> Marks:
    """The marks of one arm."""
    edges = [
        (each.value, each.low, each.high) if each.inside else None for each in (found.convergence, found.divergence)
    ]
    band = (found.band.low, found.band.high) if found.band else None
    return Marks(lrs=tuple(map(float, found.arm.lrs)), convergence=edges[0], divergence=edges[1], band=band)


def new_figure(height: float, rows: int = 1, columns: int = 1, *, width: float = 8.4) -> tuple[Figure, list[Axes]]:
    """A figure with its axes, all with the same x axis when stacked.

    Args:
        height: in inches.
        rows: panels above each other.
        columns: panels beside each other.
        width: in inches.

    Returns:
        The figure and its panels, row by row.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))
        panels = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1 and columns == 1)
        figure.subplots_adjust(
            left=0.09, right=0.985, top=1 - 0.45 / height, bottom=0.55 / height, hspace=0.2, wspace=0.24
        )
    return figure, [panel for row in panels for panel in row]


def render(figure: Figure) -> Drawing:
    """Draw a figure once as PNG and once as SVG."""
    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(png, format="png", dpi=150)
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Drawing(png=png.getvalue(), svg=svg.getvalue())


def lr_axis(axes: Axes, lrs: Sequence[float], *, label: bool = True, spacing: float = 0.075) -> None:
    """A logarithmic axis whose ticks are the grid's own learning rates, thinned until the labels do not touch.

    Args:
        axes: the panel.
        lrs: the grid, ascending.
        label: whether to write the axis label.
        spacing: least distance of two tick labels, as a share of the axis.
    """
    axes.set_xscale("log")
    span = max(np.log10(lrs[-1] / lrs[0]), 0.3)
    axes.set_xlim(lrs[0] / 10 ** (0.04 * span), lrs[-1] * 10 ** (0.04 * span))
    labelled: list[float] = []
    for lr in lrs:
        if not labelled or np.log10(lr / labelled[-1]) > spacing * span:
            labelled.append(lr)
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_minor_locator(FixedLocator(list(lrs)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda lr, _: lr_text(lr)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=8)
    if label:
        axes.set_xlabel("initial learning rate (as swept)")


def legend(axes: Axes, *, columns: int = 1) -> None:
    """A legend where it hides the least, with the curves shining through.

    Args:
        axes: the panel.
        columns: entries beside each other.
    """
    axes.legend(loc="best", ncols=columns, fontsize=8.5, framealpha=0.85, edgecolor="none")


def shade(axes: Axes, marks: Marks, *, names: bool = False, band: bool = False) -> None:
    """Shade the regimes, the thresholds' intervals and the band behind the curves.

    Args:
        axes: a panel whose x axis is the learning rate.
        marks: what to mark.
        names: write the regimes' names along the top.
        band: mark the band too.
    """
    left, right = axes.get_xlim()
    cuts = [left, *(edge[0] for edge in (marks.convergence, marks.divergence) if edge), right]
    tints = ["#ffffff", "#f1f1f1", "#dddddd"] if marks.convergence else ["#f1f1f1", "#dddddd"]
    labels = ["1 convergence", "2 chaotic equilibrium", "3 divergence"][0 if marks.convergence else 1 :]
    if marks.convergence is None and marks.divergence is None:
        labels, tints = [], ["#ffffff"]
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        axes.axvspan(start, stop, color=tints[min(number, len(tints) - 1)], zorder=0, linewidth=0)
        if names and number < len(labels):
            narrow = np.log(stop / start) < 0.13 * np.log(right / left)
            at_end = narrow and number == len(cuts) - 2
            where, align = (right, "right") if at_end else (float(np.sqrt(start * stop)), "center")
            axes.text(
                where, 1.02, labels[number], transform=axes.get_xaxis_transform(), ha=align, color=INK, fontsize=9
            )
    for edge in (marks.convergence, marks.divergence):
        if edge is None:
            continue
        low = edge[1] if edge[1] > 0 else left
        high = edge[2] if np.isfinite(edge[2]) else right
        if np.isfinite(low):
            axes.axvspan(
                low, high, facecolor="none", edgecolor="#999999", hatch="////", linewidth=0, alpha=0.7, zorder=0.5
            )
        axes.axvline(edge[0], color=GREY, linestyle="--", linewidth=1.1, zorder=1)
    if band and marks.band:
        axes.axvspan(*marks.band, ymin=0, ymax=0.025, color=BAND, zorder=3, linewidth=0)
    axes.set_xlim(left, right)
