"""Loss and error on the straight line between solutions, finer around every maximum.

A uniform grid is judged first, many pairs at once and every solution once. Then, around the maximum of each curve, the
two neighbouring intervals are halved, again and again; every point judged counts for every curve, and the curves of one
pair mostly share their maximum. A rise narrower than the grid, with nothing of it on a grid point, stays unseen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.landscape.barriers import Barrier, Definition, barrier, excess
from analysis.landscape.mixtures import ELEMENTS, Weights, finite, misfit, mixed, on_sphere
from analysis.landscape.points import Points, judged
from analysis.landscape.policy import PathNorms
from trainables.spec import SpecError

__all__ = ["GRID", "ROUNDS", "Line", "lines"]

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[Any]


GRID = 21
"""Points on the uniform grid, both ends included: as the published study's convolutional networks."""
ROUNDS = 3
"""Halvings around each maximum: with 21 points its place is known to 1/160 of the line."""
_LEVEL = 1e-6
"""A rise above the chord that is rounding: nothing is refined there."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What lies between two solutions A and B.

    Attributes:
        alphas: [K] shares of B, ascending from 0 to 1.
        losses: by split, [K, n] the loss of each sample.
        wrong: by split, [K, n] 1 where a sample is wrong.
        norms: with which statistics batch norms normalised.
    """

    alphas: Floats
    losses: Mapping[str, Values]
    wrong: Mapping[str, Values]
    norms: PathNorms

    def loss(self, split: str) -> Floats:
        """Mean loss at every point, [K]."""
        return _mean(self.losses[split])

    def error(self, split: str) -> Floats:
        """Share of wrong samples at every point, [K]."""
        return _mean(self.wrong[split])

    def loss_barrier(self, split: str, definition: Definition = Definition.CHORD) -> Barrier:
        """The barrier of the loss, in nats."""
        return barrier(self.alphas, self.losses[split].astype(np.float64), definition)

    def error_barrier(self, split: str, definition: Definition = Definition.CHORD) -> Barrier:
        """The barrier of the error, as a fraction."""
        return barrier(self.alphas, self.wrong[split].astype(np.float64), definition)


@dataclass(frozen=True)
class _Point:
    """One judged mixture: by split, values of samples and their means."""

    losses: dict[str, Values]
    wrong: dict[str, Values]
    means: Floats  # [2 splits]: loss and error of each split in turn


def _mean(samples: Values) -> Floats:
    mean: Floats = samples.mean(axis=1, dtype=np.float64)
    return mean


def lines(
    points: Points,
    solutions: Weights,
    pairs: Sequence[tuple[int, int]],
    *,
    data_seeds: Sequence[int] | None = None,
    radius: float | None = None,
    grid: int = GRID,
    rounds: int = ROUNDS,
    splits: Sequence[str] = ("train", "test"),
    norms: PathNorms = PathNorms.REESTIMATED,
) -> list[Line]:
    """Judge the lines between pairs of solutions.

    Memory grows with pairs x points x samples, 8 bytes for each; mixtures are made and judged in parts.

    Args:
        points: judges weights.
        solutions: S solutions, name to `[S, *shape]`; they are not changed.
        pairs: (row of A, row of B) of each line.
        data_seeds: the draw of the data each solution is judged on, S of them; None where there is only one.
        radius: norm of the scale-invariant weights, given to solutions and mixtures; None leaves them as they are.
        grid: points on the uniform grid, at least 3.
        rounds: halvings around each maximum; 0 judges the grid alone.
        splits: on which data.
        norms: the statistics of batch norms.

    Returns:
        A line for each pair.

    Raises:
        SpecError: weights of another architecture or not finite, fewer than 3 points, rows that are not there, or
            pairs on two draws of the data.
    """
    count = len(next(iter(solutions.values())))
    seeds = [0] * count if data_seeds is None else [int(seed) for seed in data_seeds]
    _check(points, solutions, pairs, seeds, grid)

    def judge(rows: Sequence[tuple[int, int, float]]) -> list[_Point]:
        return _judge(points, solutions, rows, seeds, radius, splits, norms)

    used = sorted({row for pair in pairs for row in pair})
    ends = dict(zip(used, judge([(row, row, 0.0) for row in used]), strict=True))
    found: list[dict[float, _Point]] = [{0.0: ends[a], 1.0: ends[b]} for a, b in pairs]
    wanted = [(number, float(alpha)) for number in range(len(pairs)) for alpha in np.linspace(0, 1, grid)[1:-1]]
    for left in range(rounds, -1, -1):
        for (number, alpha), point in zip(wanted, judge([(*pairs[n], alpha) for n, alpha in wanted]), strict=True):
            found[number][alpha] = point
        wanted = [(n, alpha) for n, each in enumerate(found) for alpha in _halvings(each)] if left else []
    return [_line(each, splits, norms) for each in found]


def _check(
    points: Points, solutions: Weights, pairs: Sequence[tuple[int, int]], seeds: Sequence[int], grid: int
) -> None:
    count = len(next(iter(solutions.values())))
    faults = []
    if fault := misfit({name: tensor[0] for name, tensor in solutions.items()}, points.shapes):
        faults.append(f"solutions must be weights of the network that judges them, but one {fault}")
    if grid < 3:
        faults.append(f"a line needs at least 3 points, found {grid}")
    if len(seeds) != count:
        faults.append(f"data_seeds must have one entry for each of the {count} solutions, found {len(seeds)}")
    outside = [row for pair in pairs for row in pair if not 0 <= row < count]
    if outside:
        faults.append(f"pairs must be rows of the {count} solutions, found {outside[0]}")
    elif len(seeds) == count and any(seeds[a] != seeds[b] for a, b in pairs):
        faults.append("both solutions of a pair must be judged on one draw of the data, found two")
    broken = (~finite(solutions)).nonzero().flatten().tolist()
    if broken:
        faults.append(f"weights must be finite, found NaN or infinity in solution {broken[0]}; leave it out")
    if faults:
        raise SpecError(faults)


def _judge(
    points: Points,
    solutions: Weights,
    rows: Sequence[tuple[int, int, float]],
    seeds: Sequence[int],
    radius: float | None,
    splits: Sequence[str],
    norms: PathNorms,
) -> list[_Point]:
    """Judge mixtures (row of A, row of B, share of B), as many at once as memory allows."""
    size = sum(tensor[0].numel() for tensor in solutions.values())
    at_once = max(1, ELEMENTS // size)
    out: list[_Point] = []
    for start in range(0, len(rows), at_once):
        first, second, alphas = zip(*rows[start : start + at_once], strict=True)
        weights = on_sphere(mixed(solutions, first, second, alphas), points.scale_invariant, radius)
        results = judged(points, weights, [seeds[row] for row in first], splits, norms)
        losses: dict[str, Values] = {split: result.losses.cpu().numpy() for split, result in results.items()}
        wrong: dict[str, Values] = {split: result.wrong.cpu().numpy() for split, result in results.items()}
        means = np.stack([_mean(of[split]) for split in splits for of in (losses, wrong)], axis=1)
        out += [
            _Point({s: losses[s][row] for s in splits}, {s: wrong[s][row] for s in splits}, means[row])
            for row in range(len(first))
        ]
    return out


def _halvings(found: Mapping[float, _Point]) -> list[float]:
    """Midpoints of the intervals beside each curve's maximum, by height above the chord and by height alone."""
    alphas = np.array(sorted(found))
    curves = np.stack([found[alpha].means for alpha in alphas])  # [K, curves]
    rises = excess(alphas, curves, Definition.CHORD)
    new: set[float] = set()
    for curve, rise in zip(curves.T, rises.T, strict=True):
        if not np.isfinite(curve).all() or rise.max() <= _LEVEL:
            continue
        for top in {int(rise.argmax()), int(curve.argmax())}:
            if 0 < top < len(alphas) - 1:
                new |= {float((alphas[top + side] + alphas[top]) / 2) for side in (-1, 1)}
    return sorted(new)


def _line(found: Mapping[float, _Point], splits: Sequence[str], norms: PathNorms) -> Line:
    alphas = sorted(found)
    return Line(
        alphas=np.array(alphas),
        losses={split: np.stack([found[alpha].losses[split] for alpha in alphas]) for split in splits},
        wrong={split: np.stack([found[alpha].wrong[split] for alpha in alphas]) for split in splits},
        norms=norms,
    )
