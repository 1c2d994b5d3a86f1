"""Linear centred kernel alignment between two sets of activations of the same samples, without its bias.

The plain estimate (Kornblith et al., ICML 2019) tends to 1 for unrelated activations with many more units than samples.
The debiased one puts the unbiased estimate of HSIC (Song et al., JMLR 2012, eq. 5) into all three places (Nguyen,
Raghu & Kornblith, ICLR 2021): unrelated activations then give 0 on average, some below it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.estimates import Estimate
from analysis.representation.centring import centred
from analysis.representation.intervals import as_rows, jackknife_error, student
from trainables.spec import SpecError

__all__ = ["Similarity", "linear_cka"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike two layers see the same samples.

    Attributes:
        cka: debiased linear CKA, at most 1; 0 on average for unrelated activations.
        biased: the plain estimate, in [0, 1], for comparison with other work.
    """

    cka: Estimate
    biased: float

    @property
    def n(self) -> int:
        """Samples behind it."""
        return self.cka.n

    def as_rows(self) -> dict[str, float]:
        """Name to number; the figure itself has the name of what it is about, and none here."""
        return as_rows({"": self.cka}) | {":biased": self.biased}


def linear_cka(a: Tensor, b: Tensor, confidence: float = 0.95) -> Similarity:
    """Debiased linear CKA with Student's interval around the jackknife over samples.

    Layers with more units than samples are first written in n coordinates, so that no matrix is larger than
    units by units or samples by samples, whichever is smaller. The figure without each sample has a closed
    form, so the interval costs about as much as the figure. For unrelated activations it is too wide rather than too
    narrow.

    Args:
        a: activations of one network, `[n, p]`.
        b: of another, of the same samples in the same order, `[n, q]`.
        confidence: nominal coverage.

    Returns:
        The similarity.

    Raises:
        SpecError: different or fewer than five samples, activations that are not finite, or such that hardly vary, for
            which the unbiased estimate of their own dependence is not positive.
    """
    if len(a) != len(b) or len(a) < 5:
        raise SpecError([f"CKA needs the same samples twice, at least 5, found {len(a)} and {len(b)}"])
    x, y = _scaled(a), _scaled(b)
    n = len(x)
    sides = [(x, y), (x, x), (y, y)]
    whole, left_out, plain = zip(*(_dependence(u, v) for u, v in sides), strict=True)
    if min(whole[1], whole[2]) <= 0 or min(left_out[1].min(), left_out[2].min()) <= 0:
        raise SpecError(
            ["CKA needs activations that vary in a way that several samples share, found noise or a constant"]
        )
    value = float(whole[0] / np.sqrt(whole[1] * whole[2]))
    error = jackknife_error(left_out[0] / np.sqrt(left_out[1] * left_out[2]))
    biased = float(plain[0] / np.sqrt(plain[1] * plain[2]))
    return Similarity(student(value, error, n, n, confidence, most=1.0), biased)


def _scaled(units: Tensor) -> Floats:
    """Centred, of norm sqrt(n), in at most n coordinates: nothing of which changes a CKA."""
    x = centred(units)
    if x.shape[1] > len(x):
        x = np.asarray(np.linalg.qr(x.T, mode="r")).T
    norm = np.linalg.norm(x)
    return x * (np.sqrt(len(x)) / norm) if norm > 0 else x


def _dependence(x: Floats, y: Floats) -> tuple[float, Floats, float]:
    """HSIC of the linear kernels of centred `[n, p]` and `[n, q]`.

    With K and L the kernels without their diagonals, all follow from the row sums of K, L and of their elementwise
    product, and from K and L times each other's row sums; none of it needs a matrix of samples by samples.

    Returns:
        The unbiased estimate, the same without each sample in turn `[n]`, and n^2 times the biased estimate.
    """
    n = len(x)
    k_diagonal, l_diagonal = (x**2).sum(1), (y**2).sum(1)
    product = ((x @ (x.T @ y)) * y).sum(1)
    plain = float(product.sum())
    product = product - k_diagonal * l_diagonal
    k_rows, l_rows = -k_diagonal, -l_diagonal  # whole rows of a centred kernel sum to 0
    k_times_l = x @ (x.T @ l_rows) - k_diagonal * l_rows
    l_times_k = y @ (y.T @ k_rows) - l_diagonal * k_rows
    trace, k_sum, l_sum, both = product.sum(), k_rows.sum(), l_rows.sum(), k_rows @ l_rows
    left_out = _unbiased(
        n - 1,
        trace - 2 * product,
        k_sum - 2 * k_rows,
        l_sum - 2 * l_rows,
        both - k_rows * l_rows - k_times_l - l_times_k + product,
    )
    return float(_unbiased(n, trace, k_sum, l_sum, both)), left_out, plain


def _unbiased(n: int, trace: Floats, k_sum: Floats, l_sum: Floats, both: Floats) -> Floats:
    """Song et al. 2012, eq. 5: `both` is the sum over samples of the product of row sums."""
    found: Floats = (trace + k_sum * l_sum / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))
    return found
