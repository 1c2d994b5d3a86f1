"""How unequally a network uses its features, as functions of per-feature accuracies.

The excess over chance of each feature is d = max(accuracy - chance, 0); usage is the same in units of what the feature
could give. With F features and one in use: share 1, effective number and rank 1, Gini 1 - 1/F, Hoyer 1; with all used
alike: share 1/F, effective number and rank F, Gini 0, Hoyer 0.

None of these knows noise: where no feature is used, d is the positive half of sampling noise, and the effective number
comes out near F / pi, the rank near 0.4 F, whatever the network. Read them where features are significantly above
chance (`analysis.above_chance`).
"""

import numpy as np
import numpy.typing as npt

__all__ = ["best_share", "effective_number", "effective_rank", "excess", "gini", "hoyer", "usage"]

Floats = npt.NDArray[np.float64]


def excess(accuracy: Floats, chance: float) -> Floats:
    """Accuracy above chance, cut at 0. Same shape as `accuracy`."""
    return np.maximum(accuracy - chance, 0.0)


def usage(accuracy: Floats, chance: float, ceiling: float | Floats = 1.0) -> Floats:
    """How much of what each feature could give is used: (accuracy - chance) / (ceiling - chance), cut to [0, 1].

    Args:
        accuracy: [..., F] accuracies.
        chance: accuracy of a guess.
        ceiling: the best accuracy by that feature alone, one number or [F]; above chance.

    Returns:
        [..., F] usage.
    """
    used: Floats = np.clip((accuracy - chance) / (np.asarray(ceiling) - chance), 0.0, 1.0)
    return used


def best_share(d: Floats) -> Floats:
    """Share of the best feature: max(d) / sum(d) over the last axis; NaN where no feature is used."""
    return _ratio(d.max(axis=-1), d.sum(axis=-1))


def effective_number(d: Floats) -> Floats:
    """Participation ratio (sum d)^2 / sum d^2 over the last axis; NaN where no feature is used."""
    return _ratio(d.sum(axis=-1) ** 2, (d**2).sum(axis=-1))


def effective_rank(d: Floats) -> Floats:
    """exp(entropy of d / sum(d)) over the last axis; NaN where no feature is used (Roy & Vetterli, EUSIPCO 2007)."""
    p = _ratio(d, np.broadcast_to(d.sum(axis=-1, keepdims=True), d.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, -p * np.log(p))
    rank: Floats = np.exp(terms.sum(axis=-1))
    return rank


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
