"""The regime map: train loss at the end of the first phase and error there, by learning rate, regimes shaded."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import INK, Marks, legend, lr_axis, new_figure, shade
from analysis.findings import Findings
from analysis.regimes import Regime

__all__ = ["draw_regime_map", "regime_map_table"]

_MARKERS = {"convergence": "o", "chaotic_equilibrium": "^", "divergence": "X"}


def regime_map_table(found: Findings) -> pd.DataFrame:
    """One row for each member of the first phase that has ended.

    Args:
        found: an arm's findings.

    Returns:
        Columns `lr, data_seed, seed, regime, end_train_loss, plateau_train_loss, plateau_train_error,
        plateau_test_error` (with a validation split `plateau_valid_error`).
    """
    units, rates = np.indices(found.arm.shape)
    frame = pd.DataFrame(
        {
            "lr": found.arm.lrs[rates.ravel()],
            "data_seed": found.arm.data_seeds[units.ravel()],
            "seed": found.arm.seeds[units.ravel()],
            "regime": [Regime(int(code)).label for code in found.codes.ravel()],
            "end_train_loss": found.end.end_loss.ravel(),
            "plateau_train_loss": found.end.loss.ravel(),
            "plateau_train_error": found.end.train_error.ravel(),
            f"plateau_{found.study.watched}_error": found.end.watched_error.ravel(),
        }
    )
    return frame[frame["regime"] != Regime.UNKNOWN.label].reset_index(drop=True)


def draw_regime_map(table: pd.DataFrame, marks: Marks, converged_loss: float) -> Figure:
    """Draw the map.

    Args:
        table: from `regime_map_table`.
        marks: thresholds.
        converged_loss: drawn as a line.

    Returns:
        The figure.
    """
    figure, (top, bottom) = new_figure(5.6, rows=2)
    watched = "valid" if "plateau_valid_error" in table else "test"
    floor = 1e-6
    spread = (
        np.exp(0.012 * np.log(marks.lrs[-1] / marks.lrs[0]) * (table["seed"].rank(method="dense") % 5 - 2) / 2)
        if len(marks.lrs) > 1
        else 1.0
    )
    for panel, column, scale in ((top, "end_train_loss", 1.0), (bottom, f"plateau_{watched}_error", -100.0)):
        values = table[column].clip(lower=floor) if scale > 0 else 100 + scale * table[column]
        for regime, marker in _MARKERS.items():
            of = table["regime"] == regime
            panel.plot(
                (table["lr"] * spread)[of],
                values[of],
                marker,
                ms=4,
                mfc="none",
                mec="#555555",
                mew=0.7,
                alpha=0.75,
                label=f"{regime.replace('_', ' ')} (n = {int(of.sum())})" if of.any() else None,
            )
        medians = values.groupby(table["lr"]).median()
        panel.plot(medians.index, medians, "-", color=INK, linewidth=1.6, label="median over seeds")
        lr_axis(panel, marks.lrs, label=panel is bottom)
    top.set_yscale("log")
    top.axhline(
        converged_loss, color="#D55E00", linestyle=":", linewidth=1.2, label=f"converged below {converged_loss:g}"
    )
    top.set_ylabel("train loss, end of phase 1")
    bottom.set_ylabel(f"{watched} accuracy, end of phase 1, %")
    shade(top, marks, names=True)
    shade(bottom, marks)
    legend(top)
    return figure
