"""Distance between the trained functions of two groups of runs, and its permutation test.

For each evaluation input the runs of a group give a histogram of predicted labels; the distance of two groups is the l1
distance of their histograms, averaged over inputs. It is positive for two groups of the same distribution too, so it is
judged against the distances of groups that are mixed at random: whole runs change places, never single predictions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.invariance.design import Design

__all__ = ["FunctionDistance", "function_distance"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHUNK = 8_000_000  # permuted differences held at once


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionDistance:
    """Two groups compared.

    Attributes:
        distance: l1 distance of the label histograms, averaged over inputs; between 0 and 2.
        null_mean: its mean over permutations.
        null_high: the distance that 95 % of the permutations do not exceed.
        p: permutation p-value, (1 + permutations at least as far apart) / (1 + permutations).
        disagreement: share of inputs on which two runs differ: within the first group, within the second, across.
        runs: in each group.
        permutations: made.
    """

    distance: float
    null_mean: float
    null_high: float
    p: float
    disagreement: tuple[float, float, float]
    runs: tuple[int, int]
    permutations: int


def function_distance(
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
    generator: np.random.Generator,
    permutations: int = 999,
    design: Design = Design.INDEPENDENT,
) -> FunctionDistance:
    """Compare the label distributions of two groups of runs.

    Args:
        first: [runs, inputs] predicted class.
        second: [other runs, inputs], the same inputs.
        generator: for the permutations, the only source of randomness.
        permutations: how many.
        design: INDEPENDENT mixes all runs; CROSSED takes row i of both groups for one seed and lets the two change
            places, which keeps the test right where runs of one seed are alike.

    Returns:
        The comparison.

    Raises:
        ValueError: the groups saw different inputs or none, one has no run, or crossed groups differ in size.
    """
    runs, others = len(first), len(second)
    if first.shape[1:] != second.shape[1:] or first.ndim != 2:
        raise ValueError(f"labels are [runs, inputs] of the same inputs, got {first.shape} and {second.shape}")
    if not (runs and others) or (design is Design.CROSSED and runs != others):
        raise ValueError(f"cannot compare {runs} with {others} runs ({design})")
    inputs = first.shape[1]
    if not inputs:
        raise ValueError("there are no evaluation inputs")
    labels = np.concatenate([first, second]).astype(np.int64)
    classes = np.unique(labels)
    # Whole numbers, counts times the other group's size: sums are exact, so equal distances compare as equal.
    weights = np.vstack([_signs(runs, others), _permuted(runs, others, permutations, design, generator)])
    sums = np.zeros(1 + permutations)
    agreeing = np.zeros(3)
    for part in np.array_split(np.arange(inputs), -(-inputs * len(classes) * weights.shape[0] // _CHUNK)):
        hot = (labels[:, part, None] == classes).astype(np.float32)
        sums += _distances(hot.reshape(len(labels), -1), weights)
        agreeing += _agreeing(hot[:runs].sum(axis=0), hot[runs:].sum(axis=0))
    pairs = np.array([runs * (runs - 1), others * (others - 1), runs * others], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        within, within_other, across = 1 - agreeing / (pairs * inputs)
    scale = runs * others * inputs
    return FunctionDistance(
        distance=float(sums[0]) / scale,
        null_mean=float(sums[1:].mean()) / scale if permutations else np.nan,
        null_high=float(np.quantile(sums[1:], 0.95)) / scale if permutations else np.nan,
        p=float((sums >= sums[0]).sum()) / (1 + permutations),
        disagreement=(float(within), float(within_other), float(across)),
        runs=(runs, others),
        permutations=permutations,
    )


def _signs(runs: int, others: int) -> Floats:
    """[runs + others] weight of each run in (counts of the first x others - counts of the second x runs)."""
    return np.concatenate([np.full(runs, float(others)), np.full(others, -float(runs))])


def _permuted(runs: int, others: int, count: int, design: Design, generator: np.random.Generator) -> Floats:
    """[count, runs + others] weights of random groupings."""
    signs = np.tile(_signs(runs, others), (count, 1))
    if design is Design.INDEPENDENT:
        return generator.permuted(signs, axis=1)
    swap: Floats = np.where(generator.random((count, runs)) < 0.5, -1.0, 1.0)
    swapped: Floats = signs * np.hstack([swap, swap])
    return swapped


def _distances(flat: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """[groupings] summed absolute difference of the weighted counts."""
    varying = flat[:, flat.min(axis=0) != flat.max(axis=0)]  # labels that all runs give, or none, add no distance
    exact = np.float32 if np.abs(weights).max() * len(flat) < 2**24 else np.float64
    found: Floats = np.abs(weights.astype(exact) @ varying.astype(exact)).sum(axis=1, dtype=np.float64)
    return found


def _agreeing(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> Floats:
    """Ordered pairs of runs with the same label, summed over inputs: within the first group, the second, across."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    return np.array([(a * (a - 1)).sum(), (b * (b - 1)).sum(), (a * b).sum()])
