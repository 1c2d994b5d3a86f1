"""Largest and smallest eigenvalues of a curvature, by Lanczos with a stop on residuals."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.landscape.krylov import Floats, Krylov, Product
from trainables.spec import SpecError

__all__ = ["Ends", "Spectrum", "eigenvalues"]

Flags = npt.NDArray[np.bool_]

_ZERO = 1e-3
"""An eigenvalue this much smaller than the largest in size is judged on that scale: of zero there is no per cent."""

_APART = 0.02
"""Two eigenvalues closer than this, relative, count as one in the search for those missed."""
_MISSED = 0.05
"""A start component this much smaller than the typical one would still have shown: 4 % of random ones are smaller."""


class Ends(StrEnum):
    """Which ends of the spectrum must have converged before Lanczos stops."""

    LARGEST = "largest"
    """The largest; the smallest come along with a flag of their own."""
    BOTH = "both"
    """Both ends; the lower one of a Hessian lies close to the bulk and may cost several times as many products."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of a symmetric operator from both ends.

    A residual is |A v - lambda v| of the unit Ritz vector v: an eigenvalue lies within it of every number given, and
    within residual^2 / gap once it is apart from the others (Parlett 1980, sections 4.5 and 11.7).

    Attributes:
        largest: `[k]`, descending.
        smallest: `[j]`, ascending.
        largest_residuals: `[k]`.
        smallest_residuals: `[j]`.
        largest_converged: `[k]`, whether the residual is within the tolerance.
        smallest_converged: `[j]`.
        vectors: orthonormal Ritz vectors, `[k + j, P]`, in the order of `largest`, `smallest`.
        krylov: the whole basis, which deflates the trace.
    """

    largest: Floats
    smallest: Floats
    largest_residuals: Floats
    smallest_residuals: Floats
    largest_converged: Flags
    smallest_converged: Flags
    vectors: Tensor = field(repr=False)
    krylov: Krylov = field(repr=False)

    @property
    def products(self) -> int:
        """Operator products used."""
        return self.krylov.products

    @property
    def converged(self) -> bool:
        """Whether the largest all have."""
        return bool(self.largest_converged.all())


def eigenvalues(
    product: Product,
    size: int,
    *,
    largest: int = 5,
    smallest: int = 1,
    tolerance: float = 3e-2,
    most: int = 200,
    require: Ends = Ends.LARGEST,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Spectrum:
    """Eigenvalues of a symmetric operator from both ends.

    Stops as soon as the residual of every eigenvalue asked for is at most `tolerance` times the eigenvalue (its error
    is then far smaller, of the order of the residual squared over the gap) and an eigenvalue missing between them has
    become unlikely (see `Krylov.exclusion`): residuals alone stop before an eigenvalue to which the start vector
    happens to be almost orthogonal has shown. Of eigenvalues equal to within 2 % mostly one is found.

    Args:
        product: the operator, `[P]` to `[P]`, symmetric.
        size: P.
        largest: how many from the upper end.
        smallest: how many from the lower end.
        tolerance: on residuals, relative to each eigenvalue (to a thousandth of the largest for those near zero).
        most: products at most.
        require: which ends must have converged.
        seed: of the start vector.
        dtype: of the vectors.
        device: of the vectors.

    Returns:
        The eigenvalues, as many of them as the operator has, with flags saying which have converged.

    Raises:
        SpecError: numbers out of range, or products that are not finite.
    """
    _check(size, largest, smallest, tolerance, most)
    krylov = Krylov(product, size, torch.Generator().manual_seed(seed), dtype=dtype, device=device)
    upper, lower = min(largest, size), min(smallest, size)
    wanted = max(upper, lower, 1)
    for _ in range(min(most, size)):
        krylov.step()
        if krylov.products < wanted:
            continue
        values, vectors, residuals, settled = _state(krylov, tolerance)
        done = _complete(krylov, values[::-1], settled[::-1], upper, 1)
        if done and require is Ends.BOTH:
            done = _complete(krylov, values, settled, lower, -1)
        if done:
            break
    values, vectors, residuals, settled = _state(krylov, tolerance)
    top = np.arange(len(values) - 1, len(values) - 1 - min(upper, len(values)), -1)
    bottom = np.arange(min(lower, len(values)))
    return Spectrum(
        largest=values[top],
        smallest=values[bottom],
        largest_residuals=residuals[top],
        smallest_residuals=residuals[bottom],
        largest_converged=settled[top],
        smallest_converged=settled[bottom],
        vectors=krylov.combined(vectors[:, np.concatenate([top, bottom])]),
        krylov=krylov,
    )


def _complete(krylov: Krylov, values: Floats, settled: Flags, count: int, sign: int) -> bool:
    """Whether the first `count` Ritz values from one end have converged and none is likely to be missing among them.

    Args:
        krylov: the basis.
        values: Ritz values from that end inwards, `[m]`.
        settled: whether each has converged, `[m]`.
        count: how many are wanted.
        sign: 1 at the upper end, -1 at the lower.
    """
    if not settled[:count].all():
        return False
    if count == 0 or krylov.exhausted:
        return True
    found = sign * values[:count]  # descending at both ends
    copies = krylov.split_off
    if copies is not None and (sign * copies).max() > found[-1] + _ZERO * float(np.abs(values).max()):
        return False  # outside the spaces known there may be a further copy of this eigenvalue
    middles = (found[1:] + found[:-1]) / 2
    outside = np.minimum(found + _APART * np.abs(found), np.concatenate([[np.inf], middles]))
    inside = np.maximum(found[:-1] - _APART * np.abs(found[:-1]), middles)
    return bool((krylov.exclusion(sign * np.concatenate([outside, inside])) >= 1 / _MISSED).all())


def _state(krylov: Krylov, tolerance: float) -> tuple[Floats, Floats, Floats, Flags]:
    """Ritz values, their vectors in the basis, residuals, and which of them have converged."""
    values, vectors = krylov.ritz()
    residuals = np.abs(vectors[-1]) * krylov.coupling[-1]
    floor = _ZERO * float(np.abs(values).max())
    return values, vectors, residuals, residuals <= tolerance * np.maximum(np.abs(values), floor)


def _check(size: int, largest: int, smallest: int, tolerance: float, most: int) -> None:
    rules = [
        (size >= 1, f"an operator must have a dimension of at least 1, found {size}; give the number of weights"),
        (
            min(largest, smallest) >= 0 and largest + smallest >= 1,
            f"at least one eigenvalue must be asked for, found {largest} and {smallest}; give counts from 0 up",
        ),
        (
            math.isfinite(tolerance) and tolerance > 0,
            f"the tolerance must be positive, found {tolerance}; 0.03 gives eigenvalues to far better than 1 %",
        ),
        (
            most >= min(max(largest, smallest), size),
            f"most must allow as many products as eigenvalues, found {most}; 200 is ample",
        ),
    ]
    broken = [message for holds, message in rules if not holds]
    if broken:
        raise SpecError(broken)
