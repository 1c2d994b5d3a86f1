"""In how many directions a layer's activations vary, by four definitions of rank that need no threshold.

All are functions of the eigenvalues of the covariance of the centred activations and do not change with their scale:

- `effective_rank`: exp of the entropy of the singular values, divided by their sum (Roy & Vetterli, EUSIPCO 2007);
- `covariance_effective_rank`: the same of the covariance's eigenvalues, the squares of the singular values;
- `participation_ratio`: (sum of eigenvalues)^2 / sum of their squares;
- `stable_rank`: sum of eigenvalues / largest eigenvalue.

None can exceed the number of units nor n - 1, and with few samples all are too low: n samples of a round Gaussian in p
dimensions have a participation ratio of about p / (1 + p / n), not p. Intervals are about the figure that so many
samples give on average; compare figures of equal n, and take n well above the number of units.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.estimates import Estimate
from analysis.representation.centring import centred
from analysis.representation.intervals import as_rows, student
from analysis.sparsity import effective_number
from trainables.spec import SpecError

__all__ = ["Ranks", "ranks"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Ranks of one layer, each from 1 to min(units, n - 1).

    Attributes:
        effective_rank: by the entropy of the singular values.
        covariance_effective_rank: by the entropy of the covariance's eigenvalues.
        participation_ratio: of the covariance's eigenvalues.
        stable_rank: squared Frobenius norm over squared spectral norm.
        units: the layer's size.
        n: samples.
    """

    effective_rank: Estimate
    covariance_effective_rank: Estimate
    participation_ratio: Estimate
    stable_rank: Estimate
    units: int
    n: int

    def as_rows(self) -> dict[str, float]:
        """Name to number, with `_low` and `_high`."""
        names = ("effective_rank", "covariance_effective_rank", "participation_ratio", "stable_rank")
        return as_rows({name: getattr(self, name) for name in names})


def ranks(units: Tensor, confidence: float = 0.95) -> Ranks:
    """Ranks of a layer's activations, with intervals by the infinitesimal jackknife over samples.

    The standard error is that of the first-order change of a figure with the weight of each sample (Jaeckel, 1972);
    it needs no second decomposition.

    Args:
        units: activations, `[n, units]`.
        confidence: nominal coverage.

    Returns:
        The ranks.

    Raises:
        SpecError: fewer than three samples, or activations that do not vary or are not finite.
    """
    n = len(units)
    if n < 3:
        raise SpecError([f"ranks need at least 3 samples, found {n}"])
    eigenvalues, squares = _spectrum(centred(units))
    if not len(eigenvalues):
        raise SpecError(["ranks need activations that vary between samples, found a layer that is constant"])

    def estimate(value: float, gradient: Floats) -> Estimate:
        influence = squares @ gradient  # its mean is 0: no figure changes with scale
        error = float(np.sqrt((influence**2).sum() / (n * (n - 1))))
        return student(value, error, n, n, confidence, least=1.0)

    total, squared, largest = eigenvalues.sum(), (eigenvalues**2).sum(), eigenvalues[0]
    singular = np.sqrt(eigenvalues)
    roy, by_singular = _entropy_rank(singular)
    participation, stable = float(effective_number(eigenvalues)), float(total / largest)
    of_largest = np.zeros_like(eigenvalues)
    of_largest[0] = 1
    return Ranks(
        effective_rank=estimate(roy, by_singular / (2 * singular)),
        covariance_effective_rank=estimate(*_entropy_rank(eigenvalues)),
        participation_ratio=estimate(participation, 2 * participation * (1 / total - eigenvalues / squared)),
        stable_rank=estimate(stable, (1 - stable * of_largest) / largest),
        units=units.shape[1],
        n=n,
    )


def _spectrum(x: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues of the covariance, and what each sample adds to them.

    Computed on units by units or samples by samples, whichever is smaller.

    Returns:
        The k eigenvalues that are not rounding, descending, and the squared coordinates of each sample along their
        directions, `[n, k]`, whose means they are.
    """
    n, p = x.shape
    values, vectors = np.linalg.eigh(x.T @ x / n if p <= n else x @ x.T / n)
    kept = np.flatnonzero(values > max(n, p) * np.finfo(np.float64).eps * max(values[-1], 0.0))[::-1]
    values, vectors = values[kept], vectors[:, kept]
    return values, (x @ vectors) ** 2 if p <= n else n * values * vectors**2


def _entropy_rank(values: Floats) -> tuple[float, Floats]:
    """exp(H(p)) of positive values divided by their sum, and its gradient."""
    total = values.sum()
    logs = np.log(values / total)
    entropy = -float((values / total) @ logs)
    rank = float(np.exp(entropy))
    return rank, -rank * (logs + entropy) / total
