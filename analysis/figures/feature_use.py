"""Which features the solutions use: accuracies sorted, the share locked on one, and what each group achieves."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import INK, LOOKS, Marks, legend, lr_axis, new_figure, shade
from analysis.findings import Findings

__all__ = ["draw_feature_use", "feature_use_table"]


_MEASURES = (
    *("locked", "accuracy_locked", "accuracy_free", "share", "n_eff", "effective_rank", "gini", "hoyer"),
    *("used", "resolved"),
)


def feature_use_table(found: Findings) -> pd.DataFrame:
    """One row for each learning rate.

    Args:
        found: an arm's findings.

    Returns:
        Columns `lr, n, is_noise`, `rank_1 ... rank_F` (accuracy of each solution's best, second best, ... feature), and
        value, low and high of `locked, accuracy_locked, accuracy_free, share, n_eff, effective_rank, gini, hoyer, used,
        resolved`; shares and accuracies as fractions.
    """
    rows = []
    for row in found.feature_rows:
        record = {"lr": row.lr, "n": row.locked.n, "is_noise": row.is_noise}
        for name in _MEASURES:
            estimate = getattr(row, name)
            record |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        record |= {f"rank_{number}": value for number, value in enumerate(row.sorted_accuracy, start=1)}
        rows.append(record)
    return pd.DataFrame(rows)


def draw_feature_use(table: pd.DataFrame, points: pd.DataFrame, marks: Marks) -> Figure:
    """Draw three panels over the learning rate.

    Args:
        table: from `feature_use_table`.
        points: one row per solution, `lr, error, locked`.
        marks: thresholds and band.

    Returns:
        The figure.
    """
    figure, (ranks, share, given) = new_figure(7.4, rows=3)
    names = sorted((name for name in map(str, table) if name.startswith("rank_")), key=lambda name: int(name[5:]))
    for number, name in enumerate(names[1:]):
        ranks.plot(
            table["lr"],
            100 * table[name],
            color="#999999",
            linewidth=0.8,
            label="the other features" if not number else None,
        )
    ranks.plot(
        table["lr"], 100 * table[names[0]], **LOOKS[0], linewidth=2, mfc="white", label="each network's best feature"
    )
    ranks.axhline(60, color="#D55E00", linestyle=":", linewidth=1.2, label="locked above 60 %")
    ranks.set_ylabel("feature accuracy, %")
    share.errorbar(
        table["lr"],
        100 * table["locked"],
        100 * np.abs(table[["locked_low", "locked_high"]].sub(table["locked"], axis=0)).T,
        **LOOKS[0],
        mfc="white",
        capsize=3,
        linewidth=1.5,
    )
    share.set_ylabel("share locked, %")
    share.set_ylim(-3, 103)
    for locked, look, colour, words in ((True, LOOKS[1], "locked", "locked"), (False, LOOKS[2], "free", "not locked")):
        own = points[points["locked"] == locked]
        given.plot(own["lr"], 100 - 100 * own["error"], look["marker"], ms=3.5, mfc="none", mec="#888888", mew=0.6)
        mean, low, high = (100 * table[f"accuracy_{colour}{end}"] for end in ("", "_low", "_high"))
        given.plot(table["lr"], mean, **look, mfc="white", linewidth=1.6, label=f"{words}: mean, interval, seeds")
        given.vlines(table["lr"], low, high, color=look["color"], linewidth=1.6)
    given.set_ylabel("final accuracy, %")
    for panel in (ranks, share, given):
        lr_axis(panel, marks.lrs, label=panel is given)
        shade(panel, marks, names=panel is ranks, band=True)
    legend(ranks)
    legend(given)
    for panel in (ranks, share, given):
        panel.tick_params(colors=INK)
    return figure
