"""How unequally a network uses its features, as functions of per-feature accuracies.

The excess over chance of each feature is d = max(accuracy - chance, 0). With F features and one in use: share 1,
effective number 1, Gini 1 - 1/F, Hoyer 1; with all used alike: share 1/F, effective number F, Gini 0, Hoyer 0.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["best_share", "effective_number", "excess", "gini", "hoyer"]

Floats = npt.NDArray[np.float64]


def excess(accuracy: Floats, chance: float) -> Floats:
    """Accuracy above chance, cut at 0. Same shape as `accuracy`."""
    return np.maximum(accuracy - chance, 0.0)


def best_share(d: Floats) -> Floats:
    """Share of the best feature: max(d) / sum(d) over the last axis; NaN where no feature is used."""
    return _ratio(d.max(axis=-1), d.sum(axis=-1))


def effective_number(d: Floats) -> Floats:
    """Participation ratio (sum d)^2 / sum d^2 over the last axis; NaN where no feature is used."""
    return _ratio(d.sum(axis=-1) ** 2, (d**2).sum(axis=-1))


def gini(d: Floats) -> Floats:
    """Gini coefficient over the last axis; NaN where no feature is used."""
    n = d.shape[-1]
    ranks = 2 * np.arange(1, n + 1) - n - 1
    return _ratio((np.sort(d, axis=-1) * ranks).sum(axis=-1), n * d.sum(axis=-1))


def hoyer(d: Floats) -> Floats:
    """Hoyer's sparsity (sqrt(n) - l1/l2) / (sqrt(n) - 1) over the last axis; NaN where no feature is used."""
    n = d.shape[-1]
    if n == 1:
        return np.where(d[..., 0] > 0, 1.0, np.nan)
    sparsity: Floats = (np.sqrt(n) - _ratio(d.sum(axis=-1), np.sqrt((d**2).sum(axis=-1)))) / (np.sqrt(n) - 1)
    return sparsity


def _ratio(a: Floats, b: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, a / b, np.nan)
