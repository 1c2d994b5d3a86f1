"""Activations about their mean over samples."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["centred"]


def centred(units: Tensor) -> npt.NDArray[np.float64]:
    """Subtract the mean over samples.

    Args:
        units: activations, `[n, units]`.

    Returns:
        `[n, units]`; exactly 0 for a unit that is the same for all samples, whose mean may be off by rounding.
    """
    x = units.double().cpu().numpy()
    deviations: npt.NDArray[np.float64] = x - x.mean(axis=0)
    deviations[:, x.max(axis=0) == x.min(axis=0)] = 0
    return deviations
