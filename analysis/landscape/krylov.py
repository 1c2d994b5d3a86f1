"""The Lanczos process with full re-orthogonalisation: what eigenvalues, trace and density of a curvature rest on.

Without re-orthogonalisation the basis loses its orthogonality as soon as a Ritz value converges, and copies of
eigenvalues already found ("ghosts") appear. Here every new vector is made orthogonal to all earlier ones, twice
(Parlett, The Symmetric Eigenvalue Problem, 1980, sections 6.9 and 13.8).
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.spec import SpecError

__all__ = ["Krylov", "Product", "random_unit"]

Product = Callable[[Tensor], Tensor]
"""A symmetric operator: a vector `[P]` to a vector `[P]`."""

Floats = npt.NDArray[np.float64]

_BLOCK = 16  # basis vectors kept in one matrix
_MOST_PASSES = 4


def random_unit(size: int, generator: torch.Generator, *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A direction drawn uniformly from the sphere.

    Args:
        size: P.
        generator: on the CPU, whatever the device, so that a seed means the same vector everywhere.
        dtype: of the result.
        device: of the result.

    Returns:
        `[P]`, norm 1.
    """
    vector = torch.randn(size, generator=generator, dtype=torch.float32).to(device=device, dtype=dtype)
    unit: Tensor = vector / vector.norm()
    return unit


class Krylov:
    """An orthonormal basis grown by one operator product a step, in which the operator is tridiagonal.

    Where the space spanned so far turns out to be invariant, a new random direction outside it is taken, and the
    tridiagonal matrix falls into blocks. Of an eigenvalue that occurs several times one start vector sees one copy;
    further copies come from such new directions or from rounding, late and not reliably.

    Attributes:
        diagonal: of the tridiagonal matrix, one number a step.
        coupling: beside it; the last one couples the basis to the direction that would come next.
        products: steps taken.
    """

    def __init__(
        self,
        product: Product,
        size: int,
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start from a random direction.

        Args:
            product: the symmetric operator.
            size: P, its dimension.
            generator: source of the random directions, on the CPU.
            dtype: of the vectors.
            device: of the vectors.
        """
        self.diagonal: list[float] = []
        self.coupling: list[float] = []
        self._product, self._size, self._generator = product, size, generator
        self._dtype, self._device = dtype, torch.device(device)
        self._blocks: list[Tensor] = []
        self._filled = 0
        self._next = random_unit(size, generator, dtype=dtype, device=self._device)

    @property
    def products(self) -> int:
        """Operator products computed, which is the number of basis vectors."""
        return len(self.diagonal)

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return self.products == self._size

    @property
    def captured(self) -> float:
        """Trace of the operator within the basis."""
        return math.fsum(self.diagonal)

    def step(self) -> None:
        """Add a basis vector.

        Raises:
            SpecError: the operator's product is not finite.
            ValueError: the basis spans the whole space already.
        """
        if self.exhausted:
            raise ValueError("the basis spans the whole space")
        current = self._next
        self._append(current)
        image = self._product(current)
        along = float(torch.dot(image, current))
        if not math.isfinite(along):
            raise SpecError(
                ["curvature products must be finite, found NaN or infinity; is the loss finite at these weights?"]
            )
        self.diagonal.append(along)
        if self.products == self._size:
            self.coupling.append(0.0)
            return
        rest = self.orthogonal(image)
        norm = float(rest.norm())
        scale = max(max(map(abs, self.diagonal)), max(self.coupling, default=0.0))
        if norm <= torch.finfo(self._dtype).eps * scale:
            self.coupling.append(0.0)
            fresh = self.orthogonal(random_unit(self._size, self._generator, dtype=self._dtype, device=self._device))
            self._next = fresh / fresh.norm()
        else:
            self.coupling.append(norm)
            self._next = rest / norm

    def ritz(self) -> tuple[Floats, Floats]:
        """Eigenvalues of the tridiagonal matrix.

        Returns:
            Ritz values ascending, `[m]`, and their vectors in the basis, `[m, m]`, one a column.
        """
        matrix = np.diag(self.diagonal)
        beside = np.array(self.coupling[:-1])
        rows = np.arange(len(beside))
        matrix[rows, rows + 1] = matrix[rows + 1, rows] = beside
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors

    def exclusion(self, points: Floats) -> Floats:
        """How far the operator having an eigenvalue at a point is excluded.

        A unit eigenvector at mu with the component c in the start vector has the component c p_j(mu) in basis vector j,
        p_j being the Lanczos polynomials; since these components square to at most 1 in sum, c^2 <= 1 / sum_j
        p_j(mu)^2. A large sum therefore means: an eigenvalue there could only have been missed by a start vector
        almost orthogonal to it, and a random component is below d / sqrt(P) with a probability of 0.8 d.

        Args:
            points: `[k]`.

        Returns:
            Lower bounds of 1 / (c sqrt(P)), `[k]`, for the start vector of the latest part of the basis; infinite where
            that part is an invariant space: outside it there are only further copies of its eigenvalues.
        """
        diagonal, coupling = self._latest()
        if coupling[-1] == 0.0:
            return np.full(len(points), np.inf)
        before, now, total = np.zeros_like(points), np.ones_like(points), np.ones_like(points)
        for along, beside, last in zip(diagonal, coupling, [0.0, *coupling], strict=False):
            before, now = now, ((points - along) * now - last * before) / beside
            total += now**2
        bound: Floats = np.sqrt(total / self._size)
        return bound

    @property
    def split_off(self) -> Floats | None:
        """Eigenvalues of the invariant space that the latest vector completed, if it did: each distinct one once."""
        if not self.coupling or self.coupling[-1] != 0.0:
            return None
        diagonal, coupling = self._latest()
        beside = np.array(coupling[:-1])
        values: Floats = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        return values

    def _latest(self) -> tuple[list[float], list[float]]:
        """Diagonal and coupling since the last invariant space that was split off before the latest vector."""
        splits = [index for index, beside in enumerate(self.coupling[:-1]) if beside == 0.0]
        start = splits[-1] + 1 if splits else 0
        return self.diagonal[start:], self.coupling[start:]

    def combined(self, coefficients: Floats) -> Tensor:
        """Vectors given in the basis.

        Args:
            coefficients: `[m, k]`, one vector a column.

        Returns:
            `[k, P]`.
        """
        weights = torch.as_tensor(coefficients.T.copy(), dtype=self._dtype, device=self._device)
        total = torch.zeros(len(weights), self._size, dtype=self._dtype, device=self._device)
        for start, block in self._used():
            total.addmm_(weights[:, start : start + len(block)], block)
        return total

    def orthogonal(self, vector: Tensor) -> Tensor:
        """The part of a vector outside the basis.

        Args:
            vector: `[P]`.

        Returns:
            `[P]`, a new tensor.
        """
        before = float(vector.norm())
        for done in range(1, _MOST_PASSES + 1):
            for _, block in self._used():
                vector = torch.addmv(vector, block.T, block @ vector, alpha=-1)
            after = float(vector.norm())
            if done > 1 and after > before / 2:
                break
            before = after
        return vector

    def _used(self) -> list[tuple[int, Tensor]]:
        """Filled parts of the basis, each with the number of its first vector."""
        starts = range(0, self._filled, _BLOCK)
        return [(start, block[: self._filled - start]) for start, block in zip(starts, self._blocks, strict=True)]

    def _append(self, vector: Tensor) -> None:
        place = self._filled % _BLOCK
        if place == 0:
            rows = min(_BLOCK, self._size - self._filled)
            self._blocks.append(torch.empty(rows, self._size, dtype=self._dtype, device=self._device))
        self._blocks[-1][place] = vector
        self._filled += 1
