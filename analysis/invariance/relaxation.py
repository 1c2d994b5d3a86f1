"""One run's way to equilibrium: when it first arrives, and at which rate it relaxes.

Both start from the distance |value / target - 1| of a relaxing number: ||w||^4, whose mean relaxes exactly
exponentially with rate 4 lambda_e. The *last* time outside a band is no measure of this: at equilibrium the value
fluctuates out of the band now and then, the more the larger the learning rate, and the slope comes out with the wrong
sign.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["first_crossing", "relaxation_rate"]

Floats = npt.NDArray[np.float64]

_TAIL = 0.3  # share of the samples, the last ones, that shows the fluctuation
_ABOVE = 3.0  # the fit uses distances above this many root mean squares of the fluctuation
_LEAST = 4  # samples for a fit


def first_crossing(steps: npt.ArrayLike, values: npt.ArrayLike, target: float, tolerance: float = 0.1) -> float:
    """First step at which a value is within a tolerance of its target.

    Between samples the distance is taken to shrink exponentially; where the value jumps across the target it is taken
    to move in a straight line.

    Args:
        steps: [n], increasing.
        values: [n]; what is not finite is left out.
        target: the value at equilibrium, positive.
        tolerance: relative distance that counts as arrived.

    Returns:
        The step, the first one if the value starts within the band; NaN where it never arrives.
    """
    at, signed = _distances(steps, values, target)
    apart = np.abs(signed)
    crossed = np.append(False, signed[1:] * signed[:-1] < 0)
    arrived = np.flatnonzero((apart <= tolerance) | crossed)
    if not len(arrived):
        return np.nan
    place = int(arrived[0])
    if place == 0:
        return float(at[0])
    if crossed[place]:
        share = (apart[place - 1] - tolerance) / (apart[place - 1] + apart[place])
    else:
        nearest = max(float(apart[place]), np.finfo(np.float64).tiny)
        share = np.log(apart[place - 1] / tolerance) / np.log(apart[place - 1] / nearest)
    return float(at[place - 1] + share * (at[place] - at[place - 1]))


def relaxation_rate(steps: npt.ArrayLike, values: npt.ArrayLike, target: float) -> float:
    """Rate of the exponential approach to the target, by a line through the log distance.

    The fluctuation at equilibrium is read from the last 30 % of the samples, and the fit ends where the distance first
    falls below three times that: nearer the target, noise would pass for slowness. Samples are weighted with the square
    of their fitted distance, to which the precision of their logarithm is proportional.

    Args:
        steps: [n], increasing, long enough to end at equilibrium.
        values: [n]; what is not finite is left out.
        target: the value at equilibrium, positive.

    Returns:
        The rate per step; NaN with fewer than four samples to fit.
    """
    at, signed = _distances(steps, values, target)
    apart = np.abs(signed)
    if len(apart) < _LEAST:
        return np.nan
    tail = apart[-max(int(_TAIL * len(apart)), 1) :]
    near = np.flatnonzero(apart <= _ABOVE * np.sqrt(np.mean(tail**2)))
    end = int(near[0]) if len(near) else len(apart)
    if end < _LEAST:
        return np.nan
    x, y = at[:end] - at[0], np.log(apart[:end])
    slope = np.polyfit(x, y, 1)[0]
    for _ in range(2):
        slope = np.polyfit(x, y, 1, w=np.exp(slope * x))[0]  # polyfit squares its weights
    return float(-slope)


def _distances(steps: npt.ArrayLike, values: npt.ArrayLike, target: float) -> tuple[Floats, Floats]:
    """Steps and signed relative distances of the finite samples; none where there is no target."""
    at, x = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = np.isfinite(x) & bool(np.isfinite(target) and target > 0)
    return at[known], x[known] / (target if target else 1.0) - 1
