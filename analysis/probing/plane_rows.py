"""A plane through three solutions as rows of the table `probes`, and back.

Keys are `loss@j,i` and `error@j,i` at row j (along y) and column i (along x) of the grid, `x@i` and `y@j` its
coordinates, and `x_A`, `y_A`, `loss_A`, `error_A` of the corners A, B, C.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.rows import ProbeRow

if TYPE_CHECKING:
    from analysis.landscape.plane import Plane
    from analysis.probing.bench import Bench
    from analysis.probing.solutions import Solution

__all__ = ["plane_of", "plane_rows"]

Floats = npt.NDArray[np.float64]

_CORNERS = "ABC"


def plane_rows(bench: "Bench", plane: "Plane", corners: "tuple[Solution, Solution, Solution]") -> Iterator[ProbeRow]:
    """Write a plane down.

    Args:
        bench: of the job.
        plane: what was measured.
        corners: its solutions A, B and C.

    Yields:
        Rows of the probe `plane`; the member is A's, the other one B's, the group those of all three.
    """
    a, b, c = corners
    group = f"{a.group}~{b.group}~{c.group}"
    for split in plane.loss:
        values: dict[str, float] = {}
        for kind, grid, ends in (
            ("loss", plane.loss[split], plane.corner_loss[split]),
            ("error", plane.error[split], plane.corner_error[split]),
        ):
            values |= {f"{kind}@{j},{i}": float(value) for (j, i), value in np.ndenumerate(grid)}
            values |= {f"{kind}_{name}": float(value) for name, value in zip(_CORNERS, ends, strict=True)}
        values |= {f"x@{i}": float(value) for i, value in enumerate(plane.x)}
        values |= {f"y@{j}": float(value) for j, value in enumerate(plane.y)}
        for name, (x, y) in zip(_CORNERS, plane.corners, strict=True):
            values |= {f"x_{name}": float(x), f"y_{name}": float(y)}
        yield from bench.pair_rows(a, b, "plane", values, n=bench.samples_of(a, split), split=split, group=group)


def plane_of(rows: pd.DataFrame) -> "Plane":
    """Read a plane back.

    Args:
        rows: all rows of one plane, with the columns `split, key, value`.

    Returns:
        The plane.
    """
    from analysis.landscape.plane import Plane
    from analysis.landscape.policy import PathNorms

    splits = {str(split): dict(zip(part["key"], part["value"], strict=True)) for split, part in rows.groupby("split")}
    first = next(iter(splits.values()))
    x, y = (np.array([first[f"{axis}@{i}"] for i in range(_count(first, axis))]) for axis in "xy")

    def grids(kind: str) -> dict[str, Floats]:
        return {
            split: np.array([[values[f"{kind}@{j},{i}"] for i in range(len(x))] for j in range(len(y))])
            for split, values in splits.items()
        }

    def ends(kind: str) -> dict[str, Floats]:
        return {split: np.array([values[f"{kind}_{name}"] for name in _CORNERS]) for split, values in splits.items()}

    return Plane(
        x=x,
        y=y,
        loss=grids("loss"),
        error=grids("error"),
        corners=np.array([[first[f"x_{name}"], first[f"y_{name}"]] for name in _CORNERS]),
        corner_loss=ends("loss"),
        corner_error=ends("error"),
        norms=PathNorms.REESTIMATED,
    )


def _count(values: dict[str, float], axis: str) -> int:
    return sum(key.startswith(f"{axis}@") for key in values)
