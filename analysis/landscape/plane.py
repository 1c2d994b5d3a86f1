"""Loss and error on the plane through three solutions (Garipov et al., NeurIPS 2018, arXiv 1802.10026, figure 1).

With u along B - A and v what is left of C - A, both of length 1 (Gram-Schmidt), the point (x, y) is A + x u + y v.
Distances are those between the trained parameters. On a sphere every point is scaled back to it, so that the plane
becomes the piece of the sphere above it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from analysis.landscape.mixtures import ELEMENTS, Weights, finite, misfit, on_sphere, take
from analysis.landscape.points import Points, judged
from analysis.landscape.policy import PathNorms
from trainables.spec import SpecError

__all__ = ["MARGIN", "RESOLUTION", "Plane", "plane"]

Floats = npt.NDArray[np.float64]

RESOLUTION = 25
"""Points along each axis."""
MARGIN = 0.2
"""Room around the triangle, as a share of its extent along each axis."""
_FLAT = 1e-4
"""Height of the triangle over its longest side below which it is a line."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The surroundings of three solutions A, B, C.

    Attributes:
        x: [k] distances along B - A, from A.
        y: [k] distances at right angles to it, towards C.
        loss: by split, [k, k] mean loss in nats; rows are y, columns x.
        error: by split, [k, k] share of wrong samples.
        corners: [3, 2] coordinates of A, B and C.
        corner_loss: by split, [3] mean loss of A, B and C themselves.
        corner_error: by split, [3] share of wrong samples likewise.
        norms: with which statistics batch norms normalised.
    """

    x: Floats
    y: Floats
    loss: Mapping[str, Floats]
    error: Mapping[str, Floats]
    corners: Floats
    corner_loss: Mapping[str, Floats]
    corner_error: Mapping[str, Floats]
    norms: PathNorms


def plane(
    points: Points,
    solutions: Weights,
    rows: tuple[int, int, int] = (0, 1, 2),
    *,
    data_seed: int = 0,
    radius: float | None = None,
    resolution: int = RESOLUTION,
    margin: float = MARGIN,
    splits: Sequence[str] = ("train", "test"),
    norms: PathNorms = PathNorms.REESTIMATED,
) -> Plane:
    """Judge a grid of points on the plane through three solutions.

    Args:
        points: judges weights.
        solutions: name to `[S, *shape]`; they are not changed.
        rows: which of them are A, B and C.
        data_seed: the draw of the data.
        radius: norm of the scale-invariant weights of every point; None leaves them as they are.
        resolution: k, points along each axis.
        margin: room around the triangle, as a share of its extent along each axis.
        splits: on which data.
        norms: the statistics of batch norms.

    Returns:
        The plane.

    Raises:
        SpecError: fewer than 2 points along an axis, a negative margin, weights of another architecture or not finite,
            or solutions that lie on one line.
    """
    if resolution < 2 or margin < 0:
        raise SpecError([f"a plane needs resolution >= 2 and margin >= 0, found {resolution} and {margin}"])
    if fault := misfit({name: tensor[0] for name, tensor in solutions.items()}, points.shapes):
        raise SpecError([f"solutions must be weights of the network that judges them, but one {fault}"])
    three = take(solutions, rows)
    if not bool(finite(three).all()):
        raise SpecError(["weights must be finite, found NaN or infinity in a solution of the plane; choose another"])
    three = on_sphere(three, points.scale_invariant, radius)
    corners = _corners(three, points.trained)
    x, y = (_axis(corners[:, axis], margin, resolution) for axis in (0, 1))
    across, up = np.meshgrid(x, y)
    to_c = up.ravel() / corners[2, 1]
    to_b = (across.ravel() - to_c * corners[2, 0]) / corners[1, 0]
    shares = np.concatenate([np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.stack([to_b, to_c], axis=1)])
    values = _judge(points, three, shares, data_seed, radius, splits, norms)
    return Plane(
        x=x,
        y=y,
        loss={split: loss[3:].reshape(resolution, resolution) for split, (loss, _) in values.items()},
        error={split: error[3:].reshape(resolution, resolution) for split, (_, error) in values.items()},
        corners=corners,
        corner_loss={split: loss[:3] for split, (loss, _) in values.items()},
        corner_error={split: error[:3] for split, (_, error) in values.items()},
        norms=norms,
    )


def _corners(three: Weights, names: Sequence[str]) -> Floats:
    """Coordinates of A, B and C in the basis of the plane."""
    flat = torch.cat([three[name].double().flatten(1) for name in names], dim=1).cpu()
    to_b, to_c = flat[1] - flat[0], flat[2] - flat[0]
    length = float(to_b.norm())
    along = float(to_c @ to_b) / length if length else 0.0
    height = float((to_c - (along / length) * to_b).norm()) if length else 0.0
    if height <= _FLAT * max(length, abs(along), abs(along - length)):
        raise SpecError(["a plane needs three solutions that do not lie on one line; judge the line instead"])
    return np.array([[0.0, 0.0], [length, 0.0], [along, height]])


def _axis(coordinates: Floats, margin: float, resolution: int) -> Floats:
    low, high = float(coordinates.min()), float(coordinates.max())
    room = margin * (high - low)
    return np.linspace(low - room, high + room, resolution)


def _judge(
    points: Points,
    three: Weights,
    shares: Floats,
    data_seed: int,
    radius: float | None,
    splits: Sequence[str],
    norms: PathNorms,
) -> dict[str, tuple[Floats, Floats]]:
    """Mean loss and error of (1 - b - c) A + b B + c C for each row (b, c) of `shares`, each [R], by split."""
    size = sum(tensor[0].numel() for tensor in three.values())
    at_once = max(1, ELEMENTS // size)
    found: dict[str, list[tuple[Floats, Floats]]] = {split: [] for split in splits}
    for start in range(0, len(shares), at_once):
        part = shares[start : start + at_once]
        weights = on_sphere(_at(three, part), points.scale_invariant, radius)
        results = judged(points, weights, [data_seed] * len(part), splits, norms)
        for split, result in results.items():
            found[split].append((_means(result.losses), _means(result.wrong)))
    return {split: _joined(parts) for split, parts in found.items()}


def _at(three: Weights, shares: Floats) -> dict[str, torch.Tensor]:
    mixtures = {}
    for name, tensor in three.items():
        if not tensor.is_floating_point():
            mixtures[name] = tensor[:1].expand(len(shares), *tensor.shape[1:]).clone()
            continue
        parts = np.column_stack([1 - shares.sum(axis=1), shares])
        a, b, c = torch.as_tensor(parts.T, dtype=tensor.dtype, device=tensor.device).view(
            3, -1, *[1] * (tensor.dim() - 1)
        )
        mixtures[name] = a * tensor[0] + b * tensor[1] + c * tensor[2]
    return mixtures


def _means(samples: torch.Tensor) -> Floats:
    means: Floats = samples.double().mean(1).cpu().numpy()
    return means


def _joined(parts: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    losses, errors = zip(*parts, strict=True)
    return np.concatenate(losses), np.concatenate(errors)
