"""Learning curves of the first phase, one line for each learning rate."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.arms import lr_text, positions
from analysis.figures.style import new_figure
from analysis.findings import Findings

__all__ = ["draw_learning_curves", "learning_curves_table"]

_SHOWN = 12
_STYLES = ("-", "--", "-.", ":")


def learning_curves_table(found: Findings) -> pd.DataFrame:
    """Means over seeds, by learning rate and step.

    Args:
        found: an arm's findings.

    Returns:
        Columns `lr, step, train_loss, train_error, n`, and `test_error` or, with a validation split, `valid_error`.
    """
    members = found.arm.pretrain
    epochs = found.study.tables.epochs
    place = positions(epochs, members)
    rows = epochs[place >= 0]
    rates = found.arm.lrs[members["place"].to_numpy()[place[place >= 0]]]
    groups = rows.assign(lr=rates).groupby(["lr", "step"])
    means = groups[["train_loss", "train_error", f"{found.study.watched}_error"]].mean()
    return means.assign(n=groups.size()).reset_index()


def draw_learning_curves(table: pd.DataFrame, converged_loss: float) -> Figure:
    """Draw train loss and accuracy against steps.

    Args:
        table: from `learning_curves_table`.
        converged_loss: drawn as a line.

    Returns:
        The figure.
    """
    figure, (left, right) = new_figure(3.9, columns=2)
    watched = "valid_error" if "valid_error" in table else "test_error"
    figure.subplots_adjust(right=0.87)
    lrs = np.unique(table["lr"])
    shown = lrs[np.unique(np.linspace(0, len(lrs) - 1, min(_SHOWN, len(lrs))).round().astype(int))] if len(lrs) else lrs
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(len(shown), 1)))
    for number, lr in enumerate(shown):
        rows = table[table["lr"] == lr]
        look = {"color": colours[number], "linestyle": _STYLES[number % len(_STYLES)], "linewidth": 1.4}
        left.plot(rows["step"], rows["train_loss"].clip(lower=1e-6), **look, label=lr_text(float(lr)))
        right.plot(rows["step"], 100 - 100 * rows[watched], **look)
    left.set_yscale("log")
    left.axhline(converged_loss, color="#D55E00", linestyle=":", linewidth=1.2)
    left.set_title("train loss, mean over seeds", loc="left", fontsize=10.5)
    right.set_title(f"{watched.removesuffix('_error')} accuracy, %, mean over seeds", loc="left", fontsize=10.5)
    for panel in (left, right):
        panel.set_xlabel("step of phase 1")
    figure.legend(
        loc="center left",
        bbox_to_anchor=(0.875, 0.5),
        title="learning rate",
        title_fontsize=8.5,
        fontsize=8.5,
        frameon=False,
    )
    return figure
