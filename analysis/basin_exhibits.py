"""The geometry part of an arm's report: pairs of solutions, the 2A/2B border, curvature, gradients, sharpness."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.arms import lr_text
from analysis.basin import Basin
from analysis.captions import exhibit_name, interval_words
from analysis.exhibit import Exhibit
from analysis.figures.basin_geometry import basin_geometry_table, draw_basin_geometry
from analysis.figures.border import border_table, draw_border
from analysis.figures.measures import Panel, draw_measures, measures_table
from analysis.figures.plane import draw_plane, plane_table
from analysis.figures.style import marks_of, render
from analysis.findings import Findings
from analysis.landscape.policy import PathNorms
from analysis.words import border_words, margin_words

if TYPE_CHECKING:
    from analysis.landscape.plane import Plane

__all__ = ["PANELS", "basin_exhibits", "converged"]

PANELS: dict[str, tuple[str, str, tuple[Panel, ...]]] = {
    "curvature": (
        "Curvature of the solutions",
        "Of the train loss's Hessian at each solution. Edge ratio: learning rate of the last steps times the largest "
        "eigenvalue, over its limit of stability; above 1 a quadratic would be left. Effective values, of the weights "
        "scaled to norm 1, do not change with the scale of scale-invariant weights; raw ones do. Where weights are "
        "not all scale-invariant, ASAM sharpness stands beside the raw values instead.",
        (
            Panel(key="edge_ratio", label="edge ratio", line=1.0, line_words="edge of stability"),
            Panel(key="effective_lambda_1", label="effective largest eigenvalue"),
            Panel(key="effective_trace", label="effective trace"),
            Panel(key="lambda_1", label="largest eigenvalue"),
            Panel(key="asam", label="ASAM sharpness, nats"),
        ),
    ),
    "density": (
        "Spectral density",
        "Of the train loss's Hessian, by stochastic Lanczos quadrature: the share of its eigenvalues below -0.1 % of "
        "the largest, and the eigenvalue above which one per cent lies.",
        (
            Panel(key="negative", label="negative share, %", factor=100.0),
            Panel(key="q99", label="99th percentile"),
        ),
    ),
    "gradient": (
        "Gradients at the solutions",
        "Mean norm of the mini-batch gradients times the weights' norm (the sharpness proxy of the published study), "
        "and the noise scale tr(S)/|G|^2 in samples: batches far smaller than it are mostly noise. Solutions "
        "whose gradient cannot be told from 0, those of the largest scale, have no scale and are left out.",
        (
            Panel(key="effective_batch_norm", label="effective batch gradient norm"),
            Panel(key="batch_norm", label="batch gradient norm"),
            Panel(key="noise_scale", label="noise scale, samples"),
        ),
    ),
    "sharpness": (
        "Sharpness of the solutions",
        "Largest rise of the train loss found within a ball around the weights: SAM in the weights' own units (0.05), "
        "ASAM in units of each weight (0.5), which no rescaling of the network changes. Both are lower bounds of the "
        "true maximum.",
        (Panel(key="asam", label="ASAM sharpness, nats"), Panel(key="sam", label="SAM sharpness, nats")),
    ),
    "width": (
        "Width of the basin",
        "How far one can go along random directions until the train loss has risen by 0.1 nats: as a relative change "
        "of every weight, which no rescaling of the network alters, and as a distance over the weights' norm.",
        (
            Panel(key="adaptive", label="width, relative change"),
            Panel(key="unit_relative", label="width / weights' norm"),
        ),
    ),
    "llc": (
        "Local learning coefficient",
        "Estimated by SGLD (Lau et al. 2023): the effective number of parameters that the loss pins down, halved; a "
        "measure that no change of coordinates alters in theory, here up to the strength that holds the chains. "
        "Solutions whose estimate did not converge are left out.",
        (Panel(key="value", label="local learning coefficient"),),
    ),
}
"""By probe: title, caption and panels of the figure; panels that were not measured are left out."""


_NORMS = {
    PathNorms.REESTIMATED: "norm statistics re-estimated at every point",
    PathNorms.TRAIN_BATCH: "train errors with the statistics of each batch, as published",
    PathNorms.MIXED: "norm statistics mixed as weights are, which can hide a barrier",
}


def basin_exhibits(found: Findings, basin: Basin) -> Iterator[Exhibit]:
    """Draw the geometry of one arm.

    Args:
        found: its findings.
        basin: its geometry.

    Yields:
        The exhibits, in reading order; those without data are left out.
    """
    if not basin.pairs.empty:
        yield _pairs(found, basin)
    if basin.border is not None:
        yield _border(found, basin)
    for number, (lr, seed, plane) in enumerate(basin.planes, start=1):
        yield _plane(found, plane, lr, seed, number)
    for probe in basin.singles:
        exhibit = _singles(found, basin, probe)
        if exhibit is not None:
            yield exhibit


def _pairs(found: Findings, basin: Basin) -> Exhibit:
    table = basin_geometry_table(basin.pairs, found.arm, found.study.settings.confidence)
    shown = [~frame["pair"].str.contains("@") for frame in (table, basin.pairs)]
    return Exhibit(
        name=exhibit_name(found, "geometry"),
        title="Basin geometry",
        caption="Solutions of the same pre-training: lowest (low) and highest (high) second-phase rate, largest weight "
        f"average (swa). Medians over up to {int(table['n'].max())} seeds with bootstrap {interval_words(found)}. "
        "Barrier: largest excess of the error over the chord on the straight line between two solutions; "
        f"{_NORMS[basin.norms]}. Dotted: a right angle. The table holds averages of fewer weights, too.",
        drawing=render(draw_basin_geometry(table[shown[0]], basin.pairs[shown[1]], marks_of(found))),
        table=table,
    )


def _border(found: Findings, basin: Basin) -> Exhibit:
    border = basin.border
    assert border is not None
    return Exhibit(
        name=exhibit_name(found, "border"),
        title="Where 2A ends",
        caption=f"{border_words(border)} A rate of regime 2 is 2A as long as the mean test errors after the later "
        f"rates spread over at most {margin_words(border.spread)} and the median low-high train error barrier is below "
        f"{margin_words(border.barrier)}. Black line: the border; bar at the top: its interval. Below: where the "
        "border would be with other margins; margins that put it outside regime 2 have no mark.",
        drawing=render(draw_border(border, basin.sensitivity, marks_of(found))),
        table=border_table(border),
    )


def _plane(found: Findings, plane: "Plane", lr: float, seed: int, number: int) -> Exhibit:
    table = plane_table(plane, ("low", "high", "swa"))
    return Exhibit(
        name=exhibit_name(found, f"plane-{number}"),
        title=f"The plane through three solutions, initial rate {lr_text(lr)}",
        caption=f"Seed {seed}: train loss and test error on the plane through the solutions after the lowest (low) and "
        "the highest (high) later rate and the largest average (swa), norm statistics re-estimated at every point; "
        "distances are those of weight space. One seed: a picture, not a statistic.",
        drawing=render(draw_plane(table)),
        table=table,
    )


def _singles(found: Findings, basin: Basin, probe: str) -> Exhibit | None:
    title, caption, panels = PANELS[probe]
    frame = basin.singles[probe]
    frame = frame[np.isfinite(frame["value"].to_numpy(dtype=np.float64))]
    if probe == "llc":
        frame = converged(frame)
    shown = [panel for panel in panels if (frame["key"] == panel.key).any()]
    if not shown:
        return None
    table = measures_table(frame, found.arm, found.study.settings.confidence, "solution")
    seeds = int(table["n"].max())
    return Exhibit(
        name=exhibit_name(found, probe),
        title=title,
        caption=f"{caption} Medians over up to {seeds} seed{'' if seeds == 1 else 's'} with bootstrap "
        f"{interval_words(found)}; points: the seeds.",
        drawing=render(draw_measures(table, frame, shown, marks_of(found), "solution")),
        table=table,
    )


def converged(frame: pd.DataFrame) -> pd.DataFrame:
    """Learning coefficients whose estimate converged; the others mean nothing."""
    index = ["unit", "place", "solution"]
    good = frame[(frame["key"] == "converged") & (frame["value"] == 1)][index]
    return frame.merge(good, on=index)
