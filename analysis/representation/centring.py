"""Activations about their mean over samples, after a look at whether they are numbers at all."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from trainables.spec import SpecError

__all__ = ["centred", "finite"]


def finite(units: Tensor) -> npt.NDArray[np.float64]:
    """Activations as float64.

    Args:
        units: `[n, units]`.

    Returns:
        `[n, units]`.

    Raises:
        SpecError: one is not a finite number.
    """
    x: npt.NDArray[np.float64] = units.detach().double().cpu().numpy()
    if not np.isfinite(x).all():
        raise SpecError(["activations must be finite, found NaN or infinity; this network says nothing"])
    return x


def centred(units: Tensor) -> npt.NDArray[np.float64]:
    """Subtract the mean over samples.

    Args:
        units: activations, `[n, units]`.

    Returns:
        `[n, units]`; exactly 0 for a unit that is the same for all samples, whose mean may be off by rounding.

    Raises:
        SpecError: one is not a finite number.
    """
    x = finite(units)
    deviations: npt.NDArray[np.float64] = x - x.mean(axis=0)
    deviations[:, x.max(axis=0) == x.min(axis=0)] = 0
    return deviations
