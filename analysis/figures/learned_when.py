"""Which feature is learned when: accuracies over the steps of training, at a few learning rates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.arms import Arm, lr_text
from analysis.estimates import mean_estimate
from analysis.figures.style import GREY, INK, LOOKS, new_figure
from analysis.learned_when import Order, Timeline

__all__ = ["draw_learned_when", "learned_when_table"]

_SHOWN = 4
_NAMED = len(LOOKS)
"""More features than this are not told apart: the best stands out of the others."""


def learned_when_table(line: Timeline, arm: Arm, order: Order, confidence: float) -> pd.DataFrame:
    """Mean accuracy of each feature by learning rate and step.

    Args:
        line: accuracies along training.
        arm: its arm.
        order: features by name, or each network's own in descending order of accuracy at its last measured step; there
            sorting pulls apart what differs by noise alone, at earlier steps it does not.
        confidence: nominal coverage.

    Returns:
        Columns `lr, feature` (name, or `1` for each network's best), `step, n` (seeds), `accuracy, low, high` (mean
        over seeds with Student's interval, as fractions).
    """
    accuracy, names = line.accuracy, list(line.names)
    if order is Order.RANK:
        accuracy, names = _ranked(accuracy), [str(rank + 1) for rank in range(len(names))]
    rows = []
    for place, lr in enumerate(arm.lrs):
        for column, name in enumerate(names):
            for number, step in enumerate(line.steps):
                values = accuracy[:, place, number, column]
                if np.isfinite(values).any():
                    mean = mean_estimate(values, arm.clusters, confidence)
                    found = {"accuracy": mean.value, "low": mean.low, "high": mean.high}
                    rows.append({"lr": float(lr), "feature": name, "step": int(step), "n": mean.n, **found})
    return pd.DataFrame(rows)


def draw_learned_when(table: pd.DataFrame, first: pd.DataFrame) -> Figure:
    """Draw one panel for each of a few learning rates, evenly spaced over the grid.

    Args:
        table: from `learned_when_table`.
        first: from `analysis.learned_when.learning_order`, same order of features; medians of the first steps are
            marked on the axis with their intervals, those that most networks never reach are left out.

    Returns:
        The figure.
    """
    lrs = np.unique(table["lr"])
    shown = lrs[np.unique(np.linspace(0, len(lrs) - 1, min(_SHOWN, len(lrs))).round().astype(int))]
    figure, panels = new_figure(3.6, columns=len(shown))
    names = list(table["feature"].unique())
    for panel, lr in zip(panels, shown, strict=True):
        _draw(panel, table[table["lr"] == lr], first[first["lr"] == lr], names)
        panel.set_title(f"learning rate {lr_text(float(lr))}", loc="left", fontsize=9.5)
        panel.set_xlabel("step")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.tick_params(colors=INK)
        if panel is not panels[0]:
            panel.sharey(panels[0])
            panel.tick_params(labelleft=False)
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(loc="best", fontsize=8, framealpha=0.85, edgecolor="none")
    return figure


def _ranked(accuracy: np.ndarray) -> np.ndarray:
    """[U, L, T, F] with features in descending order of each network's accuracy at its last measured step."""
    known = np.isfinite(accuracy).all(axis=-1)
    last = accuracy.shape[2] - 1 - known[:, :, ::-1].argmax(axis=2)
    final = np.take_along_axis(accuracy, last[:, :, None, None], axis=2)
    order = np.argsort(-final, axis=-1, kind="stable")
    ranked: np.ndarray = np.take_along_axis(accuracy, np.broadcast_to(order, accuracy.shape), axis=-1)
    return ranked


def _draw(panel: Axes, table: pd.DataFrame, first: pd.DataFrame, names: list[str]) -> None:
    few = len(names) <= _NAMED
    for number, name in enumerate(names):
        rows = table[table["feature"] == name]
        look = LOOKS[number] if few or not number else {"color": GREY, "marker": "", "linestyle": "-"}
        label = name if few else ["each network's best", "the others"][number] if number < 2 else None
        width = 1.6 if few or not number else 0.7
        panel.plot(rows["step"], 100 * rows["accuracy"], **look, ms=4, mfc="white", linewidth=width, label=label)
        if few or not number:
            panel.vlines(rows["step"], 100 * rows["low"], 100 * rows["high"], color=look["color"], linewidth=1.1)
            _mark(panel, first[(first["feature"] == name) & np.isfinite(first["step"])], look["color"], number)


def _mark(panel: Axes, rows: pd.DataFrame, colour: str, number: int) -> None:
    """The median first step and its interval, along the bottom."""
    right = panel.get_xlim()[1]
    height = 0.02 + 0.025 * number
    for step, low, high in rows[["step", "step_low", "step_high"]].to_numpy(dtype=np.float64):
        ends = (low, min(high, right)) if np.isfinite(low) else (step, step)
        panel.plot(ends, [height] * 2, color=colour, linewidth=1.4, transform=panel.get_xaxis_transform())
        panel.plot(step, height, "|", color=colour, ms=7, mew=1.8, transform=panel.get_xaxis_transform())
