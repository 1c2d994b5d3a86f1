"""Spectral density of a curvature by stochastic Lanczos quadrature."""

from dataclasses import dataclass

import numpy as np
import torch

from analysis.landscape.krylov import Floats, Krylov, Product
from trainables.spec import SpecError

__all__ = ["Band", "Density", "density"]


@dataclass(frozen=True, eq=False)
class Band:
    """Numbers with an interval from the spread over runs.

    Attributes:
        value: mean over runs, `[k]`.
        low: lower ends of Student's intervals, `[k]`; NaN with a single run.
        high: upper ends.
        confidence: nominal coverage of each.
    """

    value: Floats
    low: Floats
    high: Floats
    confidence: float


@dataclass(frozen=True, eq=False)
class Density:
    """A spectral density: as many point masses as Lanczos steps, for each of several random start vectors.

    A point mass is no eigenvalue: only the outermost ones are close to some. `eigenvalues` gives these with residuals.

    Attributes:
        nodes: where the masses lie, `[runs, steps]`, each run ascending.
        weights: the masses, `[runs, steps]`; each run sums to 1.
        products: operator products used.
    """

    nodes: Floats
    weights: Floats
    products: int

    def cdf(self, points: Floats, confidence: float = 0.95) -> Band:
        """Share of eigenvalues at or below each point.

        Args:
            points: `[k]`.
            confidence: of the interval.

        Returns:
            Shares, `[k]`, cut to [0, 1].
        """
        below = self.nodes[:, None, :] <= np.asarray(points)[None, :, None]
        band = _band((self.weights[:, None, :] * below).sum(2), confidence)
        return Band(band.value, np.maximum(band.low, 0.0), np.minimum(band.high, 1.0), confidence)

    def smoothed(self, grid: Floats, width: float, confidence: float = 0.95) -> Band:
        """The density seen through a Gaussian.

        Args:
            grid: `[k]`, eigenvalues at which it is wanted.
            width: standard deviation of the Gaussian, in units of the eigenvalues.
            confidence: of the interval.

        Returns:
            Density per unit of eigenvalue, `[k]`, not below 0.

        Raises:
            SpecError: a width that is not positive.
        """
        if not width > 0:
            raise SpecError([f"the width must be positive, found {width}; a hundredth of the range shows the shape"])
        away = (np.asarray(grid)[None, :, None] - self.nodes[:, None, :]) / width
        kernel = np.exp(-(away**2) / 2) / (width * np.sqrt(2 * np.pi))
        band = _band((self.weights[:, None, :] * kernel).sum(2), confidence)
        return Band(band.value, np.maximum(band.low, 0.0), band.high, confidence)

    def quantile(self, share: float) -> float:
        """The smallest node up to which at least a share of the mass lies, all runs together.

        Args:
            share: between 0 and 1.

        Returns:
            An eigenvalue.

        Raises:
            SpecError: a share outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise SpecError([f"a share must lie between 0 and 1, found {share}; 0.5 asks for the median"])
        nodes, weights = self._pooled()
        reached = np.cumsum(weights) >= share - 1e-12  # the masses sum to 1 but for rounding
        return float(nodes[int(reached.argmax())] if reached.any() else nodes[-1])

    def wasserstein(self, eigenvalues: Floats) -> float:
        """Distance to a set of eigenvalues: the area between both distribution functions.

        Args:
            eigenvalues: `[n]`, each of mass 1/n.

        Returns:
            The 1-Wasserstein distance, in units of the eigenvalues.
        """
        nodes, weights = self._pooled()
        others = np.asarray(eigenvalues, dtype=np.float64)
        places = np.concatenate([nodes, others])
        masses = np.concatenate([weights, np.full(len(others), -1 / len(others))])
        order = np.argsort(places, kind="stable")
        between = np.abs(np.cumsum(masses[order])[:-1])
        return float((between * np.diff(places[order])).sum())

    def _pooled(self) -> tuple[Floats, Floats]:
        """Nodes of all runs ascending, and their masses, which sum to 1."""
        nodes, weights = self.nodes.ravel(), self.weights.ravel() / len(self.weights)
        order = np.argsort(nodes, kind="stable")
        return nodes[order], weights[order]


def density(
    product: Product,
    size: int,
    *,
    runs: int = 4,
    steps: int = 40,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Density:
    """Spectral density of a symmetric operator (Ubaru, Chen and Saad 2017; Ghorbani, Krishnan and Xiao 2019).

    Args:
        product: the operator, `[P]` to `[P]`, symmetric.
        size: P.
        runs: random start vectors, at least 1; their spread gives the intervals.
        steps: Lanczos steps of each.
        seed: of the start vectors.
        dtype: of the vectors.
        device: of the vectors.

    Returns:
        Nodes and masses. It takes `runs` x `steps` products, fewer steps where P is smaller.

    Raises:
        SpecError: less than one run or step, or products that are not finite.
    """
    if min(runs, steps) < 1:
        raise SpecError([f"runs and steps must be at least 1, found {runs} and {steps}; 4 and 40 show the shape"])
    generator = torch.Generator().manual_seed(seed)
    length = min(steps, size)
    nodes, weights = np.zeros((runs, length)), np.zeros((runs, length))
    for run in range(runs):
        krylov = Krylov(product, size, generator, dtype=dtype, device=device)
        for _ in range(length):
            krylov.step()
        values, vectors = krylov.ritz()
        nodes[run], weights[run] = values, vectors[0] ** 2
    return Density(nodes, weights, runs * length)


def _band(values: Floats, confidence: float) -> Band:
    """Mean over runs with Student's interval."""
    from scipy.special import stdtrit

    runs = len(values)
    mean = values.mean(0)
    if runs < 2:
        return Band(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan), confidence)
    half = float(stdtrit(runs - 1, 0.5 + confidence / 2)) * values.std(0, ddof=1) / np.sqrt(runs)
    return Band(mean, mean - half, mean + half, confidence)
