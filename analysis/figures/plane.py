"""The plane through three solutions as a map: height lines of the training loss and of the test error."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import INK, LOOKS, new_figure

if TYPE_CHECKING:
    from analysis.landscape.plane import Plane

__all__ = ["GRID_POINT", "draw_plane", "plane_table"]

Floats = npt.NDArray[np.float64]

GRID_POINT = "grid"
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.8)
"""Heights of the lines, as shares of the range: close together near the solutions, where it is flat."""


_FLAT = 1.6
"""Maps wider than this for their height, or the other way round, have a scale of its own for each direction."""


def plane_table(plane: "Plane", names: Sequence[str]) -> pd.DataFrame:
    """A plane as data.

    Args:
        plane: from `analysis.landscape.plane.plane`.
        names: of its three solutions, such as `low`, `high`, `swa`.

    Returns:
        One row for each of the three solutions and for each point of the grid: `point` (the solution's name or `grid`),
        `x, y` (distances from the first solution), and for each split `SPLIT_loss` (nats) and `SPLIT_error` (a
        fraction).
    """
    across, up = np.meshgrid(plane.x, plane.y)
    table = pd.DataFrame(
        {
            "point": [*names, *[GRID_POINT] * across.size],
            "x": np.concatenate([plane.corners[:, 0], across.ravel()]),
            "y": np.concatenate([plane.corners[:, 1], up.ravel()]),
        }
    )
    for split in plane.loss:
        table[f"{split}_loss"] = np.concatenate([plane.corner_loss[split], plane.loss[split].ravel()])
        table[f"{split}_error"] = np.concatenate([plane.corner_error[split], plane.error[split].ravel()])
    return table


def draw_plane(table: pd.DataFrame) -> Figure:
    """Draw the training loss and the test error with labelled height lines and the three solutions.

    Both axes have one scale unless most of the figure would then be empty; the axis says so.

    Args:
        table: from `plane_table`, with the splits `train` and `test`.

    Returns:
        The figure.
    """
    figure, panels = new_figure(4.4, columns=2)
    figure.subplots_adjust(left=0.115, wspace=0.3)
    for panel, column, scale, title in (
        (panels[0], "train_loss", 1.0, "training loss, nats"),
        (panels[1], "test_error", 100.0, "test error, %"),
    ):
        _map(panel, table[table["point"] == GRID_POINT], column, scale)
        for number, solution in enumerate(table[table["point"] != GRID_POINT].itertuples(index=False)):
            _mark(panel, solution, f"{solution.point}: {scale * getattr(solution, column):.3g}", number)
        panel.set_title(title)
        panel.set_aspect("equal" if _alike(table) else "auto")
        panel.set_xlabel("distance from the first solution towards the second")
        panel.tick_params(colors=INK)
    scale_words = "" if _alike(table) else " (a scale of its own)"
    panels[0].set_ylabel(f"distance at right angles to it{scale_words}")
    return figure


def _alike(table: pd.DataFrame) -> bool:
    """Whether the map is about as high as wide; a flat one would be a line on axes of one scale."""
    width, height = (float(table[axis].max() - table[axis].min()) for axis in ("x", "y"))
    return 1 / _FLAT < height / width < _FLAT


def _map(panel: Axes, grid: pd.DataFrame, column: str, scale: float) -> None:
    heights = scale * grid.pivot(index="y", columns="x", values=column)
    x, y = heights.columns.to_numpy(dtype=np.float64), heights.index.to_numpy(dtype=np.float64)
    values = heights.to_numpy(dtype=np.float64)
    levels = _levels(values)
    panel.set_xlim(x[0], x[-1])
    panel.set_ylim(y[0], y[-1])
    if not len(levels):
        return
    shades = [str(shade) for shade in np.linspace(1.0, 0.62, len(levels) + 1)]
    panel.contourf(x, y, values, levels=[-np.inf, *levels, np.inf], colors=shades, extend="neither")
    lines = panel.contour(x, y, values, levels=levels, colors=INK, linewidths=0.8)
    panel.clabel(lines, fontsize=7.5, fmt="%.3g", inline_spacing=3)


def _levels(values: Floats) -> list[float]:
    """Rounded heights between the lowest and the highest value; none where all are the same."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.max() - finite.min() <= 0:
        return []
    low, span = float(finite.min()), float(finite.max() - finite.min())
    rounded = {float(f"{low + share * span:.2g}") for share in _SHARES}
    return sorted(level for level in rounded if low < level < low + span)


def _mark(panel: Axes, solution: object, words: str, number: int) -> None:
    x, y = float(solution.x), float(solution.y)  # type: ignore[attr-defined]
    look = LOOKS[number]
    panel.plot(x, y, look["marker"], ms=8, mfc=look["color"], mec="white", mew=1.2, zorder=4, clip_on=False)
    left = x > np.mean(panel.get_xlim())
    panel.annotate(
        words,
        (x, y),
        xytext=(-7 if left else 7, 6),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8.5,
        weight="bold",
        color=INK,
        zorder=5,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )
