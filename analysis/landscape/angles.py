"""Angular distances between solutions: how far apart networks are whose loss does not feel the scale of weights.

The angle between two flattened weight vectors; pi/2 means unrelated. For scale-invariant networks it is the distance on
the sphere that they live on (Kodryan et al., NeurIPS 2022, arXiv 2209.03695).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.landscape.mixtures import Weights
from analysis.landscape.points import Points
from trainables.spec import SpecError

__all__ = ["angle_matrix", "angles", "compared_weights"]

Floats = npt.NDArray[np.float64]


def compared_weights(points: Points) -> tuple[str, tuple[str, ...]]:
    """Which weights angles are taken over.

    Args:
        points: knows the architecture.

    Returns:
        `scale_invariant` and the names of those parameters, or, where there are none, `trained` and all trained ones.
    """
    if points.scale_invariant:
        return "scale_invariant", tuple(points.scale_invariant)
    return "trained", tuple(points.trained)


def angles(solutions: Weights, pairs: Sequence[tuple[int, int]], names: Sequence[str]) -> Floats:
    """Angles between pairs of solutions.

    From the chord between the unit vectors, because the arc cosine of a cosine near 1 loses half the digits.

    Args:
        solutions: name to `[S, *shape]`.
        pairs: (row, row) of each pair.
        names: parameters that make up the vector.

    Returns:
        [pairs] radians, in [0, pi]; NaN where a vector is 0, which has no direction.

    Raises:
        SpecError: no such parameter, or rows that are not there.
    """
    units = _units(solutions, names)
    outside = [row for pair in pairs for row in pair if not 0 <= row < len(units)]
    if outside:
        raise SpecError([f"pairs must be rows of the {len(units)} solutions, found {outside[0]}"])
    return np.array([_angle(units[a], units[b]) for a, b in pairs], dtype=np.float64)


def angle_matrix(solutions: Weights, names: Sequence[str]) -> Floats:
    """Angles between all solutions of a set.

    Args:
        solutions: name to `[S, *shape]`.
        names: parameters that make up the vector.

    Returns:
        [S, S] radians, symmetric, with a diagonal of 0; NaN beside a vector that is 0.

    Raises:
        SpecError: no such parameter.
    """
    units = _units(solutions, names)
    out = np.zeros((len(units), len(units)))
    for a, b in zip(*np.triu_indices(len(units), k=1), strict=True):
        out[a, b] = out[b, a] = _angle(units[a], units[b])
    return out


def _units(solutions: Weights, names: Sequence[str]) -> Tensor:
    unknown = [name for name in names if name not in solutions]
    if unknown or not names:
        raise SpecError([f"angles need names of parameters, found {unknown[0] if unknown else 'none'!r}"])
    flat = torch.cat([solutions[name].double().flatten(1) for name in names], dim=1)
    units: Tensor = flat / flat.norm(dim=1, keepdim=True)
    return units


def _angle(u: Tensor, v: Tensor) -> float:
    return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))
