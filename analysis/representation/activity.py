"""How sparse a layer's activations are: zeros, small values, dead units, unevenness over units."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.estimates import Estimate, mean_estimate
from analysis.representation.activations import Layer
from analysis.representation.intervals import as_rows
from analysis.sparsity import gini, hoyer

__all__ = ["Activity", "activity"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Activity:
    """Sparsity of one layer; means over samples, with Student's interval over samples.

    Attributes:
        zeros: share of activations that are exactly 0 (after a ReLU; about 0 elsewhere), at every place of every
            channel.
        small: share that is at most 0.01 times the sample's root mean square over the layer; zeros included.
        gini: Gini coefficient of a sample's absolute unit values, 0 where all are alike.
        hoyer: Hoyer's sparsity of the same (JMLR 2004), 1 where a single unit speaks.
        dead: share of units that are exactly 0 for every sample looked at: at least the share that is 0 for all.
        n: samples looked at.
    """

    zeros: Estimate
    small: Estimate
    gini: Estimate
    hoyer: Estimate
    dead: float
    n: int

    def as_rows(self) -> dict[str, float]:
        """Name to number, with `_low` and `_high` where it is a mean."""
        return as_rows({name: getattr(self, name) for name in ("zeros", "small", "gini", "hoyer")}) | {
            "dead": self.dead
        }


def activity(layer: Layer, confidence: float = 0.95) -> Activity:
    """Sparsity of a layer's activations.

    Args:
        layer: what it says of n samples (`activations.record`, or `activations.layer_of` for a tensor at hand).
        confidence: nominal coverage.

    Returns:
        The figures; Gini and Hoyer are means over the samples for which any unit is not 0, NaN where there is none.
    """
    magnitudes = np.abs(layer.units.double().numpy())

    def over_units(measure: Callable[[Floats], Floats]) -> Estimate:
        return _share(measure(magnitudes), confidence)

    return Activity(
        zeros=_share(layer.zeros.double().numpy(), confidence),
        small=_share(layer.small.double().numpy(), confidence),
        gini=over_units(gini),
        hoyer=over_units(hoyer),
        dead=1 - float(layer.alive.double().mean()),
        n=len(magnitudes),
    )


def _share(values: Floats, confidence: float) -> Estimate:
    found = mean_estimate(values, np.arange(len(values)), confidence)
    return replace(found, low=float(np.clip(found.low, 0, 1)), high=float(np.clip(found.high, 0, 1)))
