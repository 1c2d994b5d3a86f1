"""Time to equilibrium after a kick against the intrinsic learning rate."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.series import (
    corner_legend,
    layer_panels,
    level_axis,
    looks_of,
    plain_log,
    shown_layers,
    side_legend,
    sidestep,
)
from analysis.figures.style import INK, PALE
from analysis.invariance.design import matched
from analysis.invariance.equilibrium_time import TimeLaw, time_law
from analysis.laws import equilibrium_steps

__all__ = ["draw_equilibrium_time", "equilibrium_time_table", "time_laws"]


def equilibrium_time_table(times: pd.DataFrame, tolerance: float = 0.1) -> pd.DataFrame:
    """Measured times beside the theory's.

    Weights multiplied by k start at k^4 times the equilibrium of ||w||^4, so that theory says
    ln((k^4 - 1) / tolerance) / (4 lambda_e) steps (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916).

    Args:
        times: one row per kick and layer: `layer, intrinsic_lr, ratio, seed, kick, steps`; NaN where it never arrived.
        tolerance: relative distance of ||w||^4 that counts as equilibrium.

    Returns:
        The same with levels matched and the column `theory_steps`.
    """
    theory = [
        equilibrium_steps(float(rate), float(kick) ** 4, tolerance)
        for rate, kick in zip(times["intrinsic_lr"], times["kick"], strict=True)
    ]
    levels = {"intrinsic_lr": matched(times["intrinsic_lr"]), "ratio": matched(times["ratio"])}
    return times.assign(**levels, theory_steps=theory)


def time_laws(times: pd.DataFrame) -> dict[str, TimeLaw]:
    """Regression of log time on log intrinsic learning rate by layer."""
    return {str(layer): time_law(rows) for layer, rows in times.groupby("layer", sort=False, observed=True)}


def draw_equilibrium_time(table: pd.DataFrame, laws: dict[str, TimeLaw]) -> Figure:
    """Draw a panel for each layer: one mark per run, the theory's line and the fitted one.

    Args:
        table: from `equilibrium_time_table`.
        laws: from `time_laws`.

    Returns:
        The figure.
    """
    layers = shown_layers(table["layer"])
    figure, (panels,) = layer_panels(layers, 3.9)
    looks = {ratio: {**look, "linestyle": "none"} for ratio, look in looks_of(table["ratio"]).items()}
    for panel, layer in zip(panels, layers, strict=True):
        own = table[table["layer"] == layer]
        for number, (ratio, look) in enumerate(looks.items()):
            runs = own[own["ratio"] == ratio]
            thin = {**look, "ms": 4.5, "mew": 0.8}
            panel.plot(sidestep(runs["intrinsic_lr"], number, len(looks)), runs["steps"], **thin, zorder=2)
        _draw_lines(panel, own, laws[layer], " " if len(layers) < 3 else "\n")
        level_axis(panel, table["intrinsic_lr"], "intrinsic learning rate", panels=len(layers))
    plain_log(panels[0])
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(bottom=low / (high / low) ** 0.3)  # room for the legends
    panels[0].set_ylabel("steps to equilibrium")
    side_legend(figure, looks, "ratio η / λ", "one mark per run")
    return figure


def _draw_lines(panel: Axes, own: pd.DataFrame, law: TimeLaw, gap: str) -> None:
    """The theory's line for each kick, wide and pale, and the fitted one."""
    levels = own.drop_duplicates(["kick", "intrinsic_lr"]).sort_values("intrinsic_lr")
    for kick, rows in levels.groupby("kick"):
        x, y = rows["intrinsic_lr"], rows["theory_steps"]
        panel.plot(x, y, color=PALE, linewidth=4.0, zorder=1, label=f"theory, kick {kick:g}")
    if np.isfinite(law.slope):
        rates = np.unique(own["intrinsic_lr"])
        low, high = law.interval
        interval = f"{gap}[{low:.3f}, {high:.3f}]" if np.isfinite(low) else ""
        fitted = np.exp(law.intercept + law.slope * np.log(rates))
        panel.plot(rates, fitted, color=INK, linewidth=1.2, zorder=3, label=f"fit, slope {law.slope:.3f}{interval}")
    lost = f", {law.lost} never arrived" if law.lost else ""
    corner_legend(panel, "lower left", f"{law.runs} runs{lost}")
