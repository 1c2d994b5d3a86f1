"""What shall be measured on the solutions of a study."""

from dataclasses import dataclass
from enum import StrEnum

from analysis.landscape.policy import Norms, PathNorms

__all__ = ["NEEDS", "FeatureMeasure", "FeatureSpec", "GeometryMeasure", "GeometrySpec", "ProbeSpec"]


class GeometryMeasure(StrEnum):
    """A part of the geometry."""

    BARRIER = "barrier"
    """Angles and barriers of every pair of solutions."""
    CURVATURE = "curvature"
    """Eigenvalues and trace of the Hessian, edge of stability, effective forms."""
    DENSITY = "density"
    """Distribution of the Hessian's eigenvalues; 160 products a solution."""
    GRADIENT = "gradient"
    """Norm and noise of the gradient, effective forms."""
    SHARPNESS = "sharpness"
    """SAM and ASAM sharpness, basin width."""
    LLC = "llc"
    """Local learning coefficient."""
    PLANE = "plane"
    """Loss and error on the plane through three solutions, of one seed at a few learning rates."""


class FeatureMeasure(StrEnum):
    """A part of the features."""

    ACCURACY = "accuracy"
    """Accuracy on every probe set of the task: single features, Fourier bands."""
    REPRESENTATION = "representation"
    """Rank and sparsity of activations, linear probes with a control, neural collapse, CKA between solutions."""
    TIMELINE = "timeline"
    """Accuracy on the probe sets at every kept step: which feature is learned when."""


NEEDS = {
    GeometryMeasure.BARRIER: "two solutions that come from one first phase: give a later phase, or averages (swa)",
    GeometryMeasure.PLANE: "three solutions that come from one first phase: give two rates of a later phase, and "
    "averages (swa)",
    FeatureMeasure.TIMELINE: "weights kept on the way: give steps in measure.keep",
}
"""What measures of more than one solution cannot do without, and where it comes from."""


@dataclass(frozen=True, kw_only=True)
class GeometrySpec:
    """Which geometry of which solutions.

    Attributes:
        measures: what.
        solutions: of which: `low` and `high` (lowest and highest rate of the second phase), `swa` (largest window),
            `final` (end of the first phase).
        seeds: at most this many seeds at each learning rate; None for all.
        samples: training samples that curvature, gradients, sharpness and LLC look at, the first of the split.
        points: on the line between two solutions, both included, before the maximum is refined.
        norms: batch-norm statistics of single solutions.
        line_norms: batch-norm statistics on the line between two solutions: `reestimated` at every point,
            `train_batch` as the published study has it, `mixed` as weights are.
    """

    measures: tuple[GeometryMeasure, ...] = (
        GeometryMeasure.BARRIER,
        GeometryMeasure.CURVATURE,
        GeometryMeasure.GRADIENT,
        GeometryMeasure.SHARPNESS,
        GeometryMeasure.PLANE,
    )
    solutions: tuple[str, ...] = ("low", "high", "swa", "final")
    seeds: int | None = 8
    samples: int = 512
    points: int = 21
    norms: Norms = Norms.REESTIMATED
    line_norms: PathNorms = PathNorms.REESTIMATED


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Which features of which solutions; attributes as in `GeometrySpec`."""

    measures: tuple[FeatureMeasure, ...] = tuple(FeatureMeasure)
    solutions: tuple[str, ...] = ("low", "high", "swa", "final")
    seeds: int | None = 8
    samples: int = 1000


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """A sweep's `probes` section; None leaves a part out."""

    geometry: GeometrySpec | None = None
    features: FeatureSpec | None = None
