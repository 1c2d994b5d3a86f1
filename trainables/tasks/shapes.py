"""Two-dimensional features as data: where in the square [-2, 2]^2 each class lies.

A shape is a level function u(x1, x2) and the levels at which the class changes. The class of a point is the number of
levels at or below u, modulo 2. Distance to the border, which the margin is measured in, is |u - level| divided by the
length of u's gradient, the same everywhere for every shape here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HALF_SIDE", "SHAPES", "Shape", "draw", "draw_border"]

Points = NDArray[np.float64]
HALF_SIDE = 2.0
SQRT2 = float(np.sqrt(2.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One kind of 2-D feature.

    Attributes:
        level: (x1, x2) to u.
        borders: levels at which the class changes, ascending.
        slope: length of u's gradient.
    """

    level: Callable[[Points, Points], Points]
    borders: tuple[float, ...]
    slope: float

    def classes(self, x1: Points, x2: Points) -> NDArray[np.int64]:
        """Class, 0 or 1, of each point.

        Args:
            x1: first coordinates.
            x2: second coordinates, same shape.

        Returns:
            Classes, same shape.
        """
        return (np.searchsorted(self.borders, self.level(x1, x2), side="right") + self.first_class) % 2

    @property
    def first_class(self) -> int:
        """Class below the lowest border: chosen so that the tick's V-shaped band is class 0."""
        return 1

    def distance(self, x1: Points, x2: Points) -> Points:
        """Distance of each point to the nearest border.

        Args:
            x1: first coordinates.
            x2: second coordinates, same shape.

        Returns:
            Distances, same shape.
        """
        u = self.level(x1, x2)
        nearest: Points = np.min([np.abs(u - border) for border in self.borders], axis=0)
        return nearest / self.slope


def _tooth(x: Points) -> Points:
    """Triangle wave of period 2, between 0 and 1, slope 1."""
    return np.abs((x + 1.0) % 2.0 - 1.0)


def _line_distances(x1: Points, x2: Points) -> list[Points]:
    return [np.abs(x1), np.abs(x2), np.abs(x1 - x2) / SQRT2, np.abs(x1 + x2) / SQRT2]


def _sectors(x1: Points, x2: Points) -> Points:
    """Signed distance to the nearest of four lines through the centre; the sign alternates between sectors."""
    sign = np.where(np.floor(np.arctan2(x2, x1) / (np.pi / 4)).astype(int) % 2 == 0, 1.0, -1.0)
    nearest: Points = np.min(_line_distances(x1, x2), axis=0)
    return sign * nearest


# The tick is the published study's (Sadrtdinov et al., NeurIPS 2024): V-shaped band -2 <= x2 - |x1| <= 0 against the
# rest. The study's code names the other shapes; their sizes are chosen here so that both classes have room.
SHAPES: Mapping[str, Shape] = {
    "tick": Shape(level=lambda x1, x2: x2 - np.abs(x1), borders=(-2.0, 0.0), slope=SQRT2),
    "circles": Shape(level=np.hypot, borders=(0.8, 1.6), slope=1.0),
    "sectors": Shape(level=_sectors, borders=(0.0,), slope=1.0),
    "stripe": Shape(level=lambda x1, x2: x2, borders=(-0.7, 0.7), slope=1.0),
    "diamond": Shape(level=lambda x1, x2: np.abs(x1) + np.abs(x2), borders=(1.0, 2.2), slope=SQRT2),
    "peaks": Shape(level=lambda x1, x2: x2 - 2.0 * _tooth(x1), borders=(-1.0,), slope=float(np.sqrt(5.0))),
    "cross": Shape(level=lambda x1, x2: np.minimum(np.abs(x1), np.abs(x2)), borders=(0.5,), slope=1.0),
    "union_jack": Shape(level=lambda x1, x2: np.min(_line_distances(x1, x2), axis=0), borders=(0.25,), slope=1.0),
}


def draw(shape: Shape, classes: NDArray[np.int64], margin: float, rng: np.random.Generator) -> Points:
    """Points of given classes, uniform on the part of the square at least `margin` away from every border.

    Args:
        shape: the feature.
        classes: wanted classes, any shape.
        margin: least distance to the border.
        rng: source of randomness.

    Returns:
        Coordinates, `[*classes.shape, 2]`.
    """
    wanted = classes.ravel()
    points = np.empty((wanted.size, 2))
    missing = np.arange(wanted.size)
    while missing.size:  # rejection: a point is kept when its class is the wanted one
        trial = rng.uniform(-HALF_SIDE, HALF_SIDE, (missing.size, 2))
        x1, x2 = trial.T
        good = (shape.classes(x1, x2) == wanted[missing]) & (shape.distance(x1, x2) >= margin)
        points[missing[good]] = trial[good]
        missing = missing[~good]
    return points.reshape(*classes.shape, 2)


def draw_border(shape: Shape, size: tuple[int, ...], rng: np.random.Generator) -> Points:
    """Points exactly on the border: they carry no information about the class ("switched off").

    x1 is uniform on the square's side; x2 is one of the border's crossings of that vertical line, each with the same
    probability. For the tick this is the published rule, x2 = |x1| or |x1| - 2. Lines that miss the border are drawn
    again.

    Args:
        shape: the feature.
        size: how many points, as a shape.
        rng: source of randomness.

    Returns:
        Coordinates, `[*size, 2]`.
    """
    count = int(np.prod(size))
    points = np.empty((count, 2))
    missing = np.arange(count)
    ticks = np.linspace(-HALF_SIDE, HALF_SIDE, 42)  # even count: no node on a shape's axis of symmetry
    while missing.size:
        x1 = rng.uniform(-HALF_SIDE, HALF_SIDE, missing.size)
        classes = shape.classes(*np.broadcast_arrays(x1[:, None], ticks))
        change = classes[:, 1:] != classes[:, :-1]
        crossings = change.sum(1)
        hit = crossings > 0
        which = rng.integers(0, np.maximum(crossings, 1))
        cell = np.argmax((np.cumsum(change, axis=1) == (which + 1)[:, None]) & change, axis=1)
        low, high, first = ticks[cell], ticks[cell + 1], classes[np.arange(x1.size), cell]
        for _ in range(44):  # halves 0.1 to below 1e-14
            middle = (low + high) / 2
            same = shape.classes(x1, middle) == first
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        found = np.stack([x1, (low + high) / 2], axis=1)
        points[missing[hit]] = found[hit]
        missing = missing[~hit]
    return points.reshape(*size, 2)
