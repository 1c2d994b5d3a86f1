"""Which Fourier bands the solutions use: accuracy on test images of one band, or without it, by learning rate."""

from collections.abc import Mapping
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.above_chance import above_chance
from analysis.arms import Arm
from analysis.estimates import mean_estimate
from analysis.features import feature_table
from analysis.figures.style import INK, LOOKS, PALE, Marks, lr_axis, new_figure, shade
from analysis.study import Study

__all__ = ["BAND_VARIANTS", "band_use_table", "draw_band_use"]

BAND_VARIANTS: Mapping[str, str] = {
    "published": "one band alone, as published",
    "renormalised": "one band alone, at mean 0, spread 1",
    "radial": "one ring of frequencies alone",
    "randomised": "one band taken from another image",
}
"""Column `split` of the probe `band_accuracy`, with what the network is shown."""


_LOOK = {"background": 0, "dc": 0, "low": 1, "mid": 2, "high": 3, "whole": 4}
"""A band looks the same in every panel; rings are numbered as they come, behind `dc`."""


def band_use_table(study: Study, arm: Arm, quality: str, confidence: float) -> pd.DataFrame:
    """Mean accuracy by variant, band and learning rate.

    Args:
        study: the study.
        arm: one of its arms.
        quality: which solutions, a final quality of the arm.
        confidence: nominal coverage.

    Returns:
        Columns `variant, band, lr, n` (seeds), `samples` (images of each set), `chance`, `accuracy, low, high` (mean
        over seeds with Student's interval, as fractions), `usage, usage_low, usage_high` (mean of the accuracy above
        chance in units of what is to be had above chance, cut to [0, 1]) and `above_chance` (share of seeds whose
        accuracy on this band is significantly above chance, by Holm over the bands of a variant); empty where no band
        was measured. In the variant `randomised`, `whole` is the accuracy on intact images and a band's accuracy is
        what is left without it.
    """
    rows = []
    for variant in BAND_VARIANTS:
        table = feature_table(study, arm, probe="band_accuracy", split=variant)
        if table is None:
            continue
        q = arm.qualities.index(quality)
        accuracy, usage = table.accuracy[:, :, q], table.usage()[:, :, q]
        above = above_chance(accuracy, table.samples, table.chance, confidence)
        for column, band in enumerate(table.names):
            for place, lr in enumerate(arm.lrs):
                values = accuracy[:, place, column]
                known = np.isfinite(values)
                if not known.any():
                    continue
                mean = mean_estimate(values, arm.clusters, confidence)
                used = mean_estimate(usage[:, place, column], arm.clusters, confidence)
                rows.append(
                    {
                        "variant": variant,
                        "band": band,
                        "lr": float(lr),
                        "n": mean.n,
                        "samples": table.samples,
                        "chance": table.chance,
                        "accuracy": mean.value,
                        "low": mean.low,
                        "high": mean.high,
                        "usage": used.value,
                        "usage_low": used.low,
                        "usage_high": used.high,
                        "above_chance": float(above[known, place, column].mean()),
                    }
                )
    return pd.DataFrame(rows)


def draw_band_use(table: pd.DataFrame, marks: Marks) -> Figure:
    """Draw one panel for each variant.

    Args:
        table: from `band_use_table`, not empty.
        marks: thresholds and band.

    Returns:
        The figure.
    """
    variants = [name for name in BAND_VARIANTS if (table["variant"] == name).any()]
    figure, panels = new_figure(0.9 + 2.3 * len(variants), rows=len(variants))
    figure.subplots_adjust(right=0.8)
    for panel, variant in zip(panels, variants, strict=True):
        own = table[table["variant"] == variant]
        _draw_bands(panel, own)
        panel.set_ylabel("accuracy, %")
        lr_axis(panel, marks.lrs, label=panel is panels[-1])
        shade(panel, marks, names=panel is panels[0], band=True)
        panel.legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            title="\n".join(wrap(BAND_VARIANTS[variant], 22)),
            title_fontsize=8.5,
            fontsize=8.5,
            alignment="left",
            frameon=False,
        )
        panel.tick_params(colors=INK)
    return figure


def _draw_bands(panel: Axes, table: pd.DataFrame) -> None:
    """Means with their intervals, one line for each band; chance below them."""
    panel.axhline(100 * table["chance"].iloc[0], color=PALE, linewidth=1.2, zorder=1)
    for number, band in enumerate(table["band"].unique()):
        rows, look = table[table["band"] == band], LOOKS[_LOOK.get(band, number) % len(LOOKS)]
        panel.plot(rows["lr"], 100 * rows["accuracy"], **look, mfc="white", ms=4.5, linewidth=1.4, label=_words(band))
        panel.vlines(rows["lr"], 100 * rows["low"], 100 * rows["high"], color=look["color"], linewidth=1.2)


def _words(band: str) -> str:
    return {"background": "mean colour", "dc": "mean colour", "whole": "whole image"}.get(band, band.replace("_", " "))
