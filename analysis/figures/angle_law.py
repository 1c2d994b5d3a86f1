"""Two formulas of the equilibrium against what was measured: the angle of a step and the squared norm."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.estimates import mean_estimate
from analysis.figures.series import (
    draw_means,
    layer_panels,
    level_axis,
    looks_of,
    seeds_text,
    shown_layers,
    side_legend,
    sidestep,
)
from analysis.figures.style import GREY
from analysis.invariance.design import matched
from analysis.laws import equilibrium_angle, equilibrium_norm_sq

__all__ = ["angle_law_table", "draw_angle_law"]

_MEASURES = {"angle": "angle / predicted", "norm": "norm² / predicted"}
_TOLERANCE = 0.03
"""Half width of the strip that marks good agreement."""


def angle_law_table(
    runs: pd.DataFrame, layers: Sequence[str], confidence: float, momentum: float = 0.0
) -> pd.DataFrame:
    """Measured over predicted, by layer and cell.

    The angle between the weights before and after a step is predicted as sqrt(2 eta lambda / (1 + beta)), the squared
    norm as sqrt(eta E[G] / (2 lambda (1 - beta))) with the run's own E[G].

    Args:
        runs: one row per run: `intrinsic_lr, lr, weight_decay, ratio, seed` and for each layer L `angle:L` (root mean
            square, radians), `norm_sq:L` and `noise:L` (E[G]).
        layers: names.
        confidence: nominal coverage of Student's intervals; seeds are the units.
        momentum: beta of all runs.

    Returns:
        Columns `layer, intrinsic_lr, ratio, n`, and mean, low and high of `angle` and `norm`, 1 being the prediction.
    """
    cells = runs.assign(intrinsic_lr=matched(runs["intrinsic_lr"]), ratio=matched(runs["ratio"]))
    lr, decay = (runs[name].to_numpy(dtype=np.float64) for name in ("lr", "weight_decay"))
    rows = []
    for layer in layers:
        noise = runs[f"noise:{layer}"].to_numpy(dtype=np.float64)
        measured = cells.assign(
            angle=runs[f"angle:{layer}"] / equilibrium_angle(lr, decay, momentum),
            norm=runs[f"norm_sq:{layer}"] / equilibrium_norm_sq(lr, decay, noise, momentum),
        )
        for (level, ratio), cell in measured.groupby(["intrinsic_lr", "ratio"]):
            row: dict[str, object] = {"layer": layer, "intrinsic_lr": level, "ratio": ratio, "n": len(cell)}
            for name in _MEASURES:
                values = cell[name].to_numpy(dtype=np.float64)
                mean = mean_estimate(values, cell["seed"].to_numpy(dtype=np.int64), confidence)
                row |= {f"{name}_mean": mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
            rows.append(row)
    ends = [f"{name}_{end}" for name in _MEASURES for end in ("mean", "low", "high")]
    return pd.DataFrame(rows, columns=["layer", "intrinsic_lr", "ratio", "n", *ends])


def draw_angle_law(table: pd.DataFrame) -> Figure:
    """Draw angle above norm, a column for each layer.

    Args:
        table: from `angle_law_table`.

    Returns:
        The figure.
    """
    layers = shown_layers(table["layer"])
    figure, panels = layer_panels(layers, 4.9, rows=2)
    looks = {ratio: {**look, "linestyle": "none"} for ratio, look in looks_of(table["ratio"]).items()}
    for row, (name, label) in zip(panels, _MEASURES.items(), strict=True):
        last = row is panels[-1]
        for panel, layer in zip(row, layers, strict=True):
            own = table[table["layer"] == layer]
            panel.axhspan(1 - _TOLERANCE, 1 + _TOLERANCE, color="#ececec", linewidth=0, zorder=0)
            panel.axhline(1, color=GREY, linewidth=1, zorder=1)
            for number, (ratio, look) in enumerate(looks.items()):
                cells = own[own["ratio"] == ratio]
                x = sidestep(cells["intrinsic_lr"], number, len(looks))
                draw_means(panel, x, cells, name, {**look, "ms": 5})
            level_axis(panel, table["intrinsic_lr"], "intrinsic learning rate" if last else "", panels=len(layers))
            panel.tick_params(labelbottom=last)
        row[0].set_ylabel(label)
    side_legend(figure, looks, "ratio η / λ", seeds_text(table["n"]))
    return figure
