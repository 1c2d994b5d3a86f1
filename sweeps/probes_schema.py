"""The section `probes` of a sweep file: what is measured on kept weights once training has ended."""

import re
from collections import Counter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from analysis.landscape.policy import Norms, PathNorms
from analysis.probing.spec import FeatureMeasure, FeatureSpec, GeometryMeasure, GeometrySpec
from sweeps.fields import Count, Number, Part

__all__ = ["SOLUTIONS", "FeatureProbes", "GeometryProbes", "ProbesSpec"]

SOLUTIONS = ("low", "high", "swa", "final")
"""Solutions by name, as in `analysis.probing.solutions`, which loads pandas."""

_GEOMETRY, _FEATURES = GeometrySpec(), FeatureSpec()


def _solution(name: str) -> str:
    """The name of a solution; which windows there are is checked against the phases."""
    if name not in SOLUTIONS and not re.fullmatch(r"swa@[1-9]\d*", name):
        legal = ", ".join(SOLUTIONS)
        raise ValueError(f"must be one of {legal}, or swa@W for a smaller window; found {name!r}")
    return name


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    """At least one measure or solution, and none twice."""
    if not names:
        raise ValueError("must name at least one, found an empty list; leave the key out for the usual ones")
    repeated = [name for name, count in Counter(map(str, names)).items() if count > 1]
    if repeated:
        raise ValueError(f"must name each once, found {', '.join(repeated)} more than once; remove the repetitions")
    return names


_Solutions = Annotated[tuple[Annotated[str, AfterValidator(_solution)], ...], AfterValidator(_different)]


class GeometryProbes(Part):
    """Curvature, gradients, sharpness, angles and barriers; what the keys mean stands at `GeometrySpec`."""

    measures: Annotated[tuple[GeometryMeasure, ...], AfterValidator(_different)] = _GEOMETRY.measures
    solutions: _Solutions = _GEOMETRY.solutions
    seeds: Count | None = _GEOMETRY.seeds
    samples: Count = _GEOMETRY.samples
    points: Annotated[int, Number, Field(ge=3)] = _GEOMETRY.points
    norms: Norms = _GEOMETRY.norms
    line_norms: PathNorms = _GEOMETRY.line_norms


class FeatureProbes(Part):
    """Accuracy on probe sets, representations, which feature is learned when; as in `FeatureSpec`."""

    measures: Annotated[tuple[FeatureMeasure, ...], AfterValidator(_different)] = _FEATURES.measures
    solutions: _Solutions = _FEATURES.solutions
    seeds: Count | None = _FEATURES.seeds
    samples: Count = _FEATURES.samples


class ProbesSpec(Part):
    """What is measured; null, or nothing at all, leaves a kind out."""

    geometry: GeometryProbes | None = None
    features: FeatureProbes | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.geometry is None and self.features is None:
            raise ValueError(
                "must ask for geometry, features or both, found neither; `geometry: {}` takes its defaults"
            )
        return self

    @property
    def solutions(self) -> frozenset[str]:
        """Every solution that is asked for, by name."""
        return frozenset(name for part in (self.geometry, self.features) if part for name in part.solutions)

    @property
    def seeds(self) -> int | None:
        """The most seeds that any kind looks at; None for all."""
        asked = [part.seeds for part in (self.geometry, self.features) if part]
        return None if None in asked else max(seeds for seeds in asked if seeds is not None)
