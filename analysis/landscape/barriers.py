"""How much worse it is between two solutions than at them: three definitions, each with its name.

Along the straight line E(a) = E((1 - a) A + a B), a in [0, 1]:

- chord: max E(a) - (1 - a) E(0) - a E(1) (Entezari et al., ICLR 2022, arXiv 2110.06296, equation 1);
- mean: max E(a) - (E(0) + E(1)) / 2 (Frankle et al., ICML 2020, arXiv 1912.05671, "instability"; two solutions count as
  linearly connected below 2 % of error);
- worse: max E(a) - max(E(0), E(1)), which others report and which is never larger than the other two.

The maximum is over the whole line, both ends included, so that none can be negative and none needs a floor: chord and
worse are 0 where nothing between the ends rises above them, mean is then half the ends' difference.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from analysis.estimates import Estimate

__all__ = ["STABLE", "Barrier", "Definition", "barrier", "excess"]

Floats = npt.NDArray[np.float64]

STABLE = 0.02
"""Error barrier (mean) below which two solutions count as linearly connected (Frankle et al. 2020)."""


class Definition(StrEnum):
    """What the values between two solutions are compared with."""

    CHORD = "chord"
    """The straight line between the values at the ends."""
    MEAN = "mean"
    """The mean of the values at the ends."""
    WORSE = "worse"
    """The larger of the values at the ends."""


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """A barrier of one pair of solutions.

    Attributes:
        value: its height, in the unit of what was judged: a fraction for errors, nats for losses.
        standard_error: of that height over samples like the n judged ones, the weights and the place of the maximum
            being given. A height of 0 has that of the largest excess between the ends.
        at: share of the second solution at the maximum, in [0, 1].
        n: samples behind every point.
    """

    value: float
    standard_error: float
    at: float
    n: int

    def interval(self, confidence: float = 0.95) -> Estimate:
        """The height with a normal interval, cut at 0.

        Args:
            confidence: nominal coverage for a height that is not 0.

        Returns:
            The estimate.
        """
        from scipy.special import ndtri

        half = float(ndtri(0.5 + confidence / 2)) * self.standard_error
        return Estimate(self.value, max(self.value - half, 0.0), self.value + half, self.n, confidence)


def _compared_with(alphas: Floats, values: Floats, definition: Definition) -> Floats:
    """What each point is compared with, in the shape of `values`."""
    share = alphas.reshape(-1, *[1] * (values.ndim - 1))
    level: Floats
    match definition:
        case Definition.CHORD:
            level = (1 - share) * values[0] + share * values[-1]
        case Definition.MEAN:
            level = (values[0] + values[-1]) / 2
        case Definition.WORSE:
            level = np.maximum(values[0], values[-1])
    return np.broadcast_to(level, values.shape)


def excess(alphas: Floats, curves: Floats, definition: Definition) -> Floats:
    """How far points lie above what they are compared with.

    Args:
        alphas: [K] ascending from 0 to 1.
        curves: [K, ...] values along one line or, in further axes, several.
        definition: with what.

    Returns:
        [K, ...]; its largest value over K is the barrier.
    """
    height: Floats = curves - _compared_with(alphas, curves, definition)
    return height


def barrier(alphas: Floats, samples: Floats, definition: Definition) -> Barrier:
    """The barrier of one line, from the values of single samples.

    The standard error is that of a mean of paired differences: sample by sample, the value at the maximum minus what it
    is compared with.

    Args:
        alphas: [K] ascending from 0 to 1, at least 3.
        samples: [K, n] loss, or 0 and 1 for right and wrong, of each sample at each point.
        definition: which barrier.

    Returns:
        The barrier; NaN where a value on the line is not a number, infinite where one is infinite.
    """
    n = samples.shape[1]
    curve = samples.mean(axis=1)
    if np.isnan(curve).any() or not np.isfinite(curve[[0, -1]]).all():
        return Barrier(value=np.nan, standard_error=np.nan, at=np.nan, n=n)
    heights = excess(alphas, curve, definition)
    top = int(heights.argmax())
    height = {"value": float(heights[top]), "at": float(alphas[top])}
    if n < 2 or not np.isfinite(curve).all():
        return Barrier(**height, standard_error=np.nan, n=n)
    place = top if definition is Definition.MEAN else 1 + int(heights[1:-1].argmax())
    compared = {
        Definition.CHORD: (1 - alphas[place]) * samples[0] + alphas[place] * samples[-1],
        Definition.MEAN: (samples[0] + samples[-1]) / 2,
        Definition.WORSE: samples[0 if curve[0] >= curve[-1] else -1],
    }[definition]
    error = np.std(samples[place] - compared, ddof=1) / np.sqrt(n)
    return Barrier(**height, standard_error=float(error), n=n)
