"""Which accuracies are more than luck: exact binomial tests, corrected for how many there are.

A network that always answers with one class is no better than chance only where the classes are balanced. On sets whose
largest class holds more than its share, give that share as `chance`.
"""

import numpy as np
import numpy.typing as npt

from analysis.invariance.student import holm

__all__ = ["above_chance", "detectable"]

Floats = npt.NDArray[np.float64]


def above_chance(accuracy: Floats, samples: int, chance: float, confidence: float) -> npt.NDArray[np.bool_]:
    """Which of a network's accuracies are significantly above chance.

    One-sided exact binomial tests, corrected by Holm over the last axis: a network that guesses has any of its features
    called above chance with probability at most 1 - confidence.

    Args:
        accuracy: [..., F]; NaN where not measured, which counts as not above chance.
        samples: behind each accuracy.
        chance: accuracy of a guess.
        confidence: such as 0.95.

    Returns:
        [..., F].
    """
    from scipy.stats import binom

    hits = np.rint(np.where(np.isfinite(accuracy), accuracy, 0.0) * samples)
    p = np.where(np.isfinite(accuracy), binom.sf(hits - 1, samples, chance), np.nan)
    if not p.size:
        return np.zeros(p.shape, dtype=np.bool_)
    adjusted = np.apply_along_axis(holm, -1, p)
    return adjusted <= 1 - confidence


def detectable(features: int, samples: int, chance: float, confidence: float) -> float:
    """The least accuracy of a network's best feature that is significantly above chance.

    Args:
        features: how many are tested.
        samples: behind each accuracy.
        chance: accuracy of a guess.
        confidence: such as 0.95.

    Returns:
        An accuracy; above 1 where so few samples can never tell.
    """
    from scipy.stats import binom

    hits = np.arange(samples + 2)
    found = hits[binom.sf(hits - 1, samples, chance) <= (1 - confidence) / features]
    return float(found[0] / samples)
