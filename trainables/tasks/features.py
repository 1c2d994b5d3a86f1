"""Many 2-D features, each alone enough to tell two classes apart.

Sadrtdinov et al., NeurIPS 2024, arXiv 2410.22113.
"""

from collections.abc import Iterator
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.tasks.base import ModelBuilder, ProbeGroup, Split, Task, per_sample_binary_cross_entropy
from trainables.tasks.shapes import SHAPES, draw, draw_border

__all__ = ["tick_features"]

PROBE_SEED = 0xFEA7  # probe sets are the same for every draw of the training data: one yardstick for all members


def _split(points: NDArray[np.float64], classes: NDArray[np.int64]) -> Split:
    return Split(torch.from_numpy(points.reshape(len(points), -1)), torch.from_numpy(classes.astype(np.float64)))


@lru_cache(maxsize=8)
def _probes(features: int, size: int, shape_name: str, margin: float) -> dict[str, Split]:
    """In set i feature i tells the class, the others sit on the class border."""
    rng = np.random.default_rng(PROBE_SEED)
    shape = SHAPES[shape_name]
    probes = {}
    for feature in range(features):
        classes = rng.integers(0, 2, size)
        points = draw_border(shape, (size, features), rng)
        points[:, feature] = draw(shape, classes, margin, rng)
        probes[f"feature_{feature:02d}"] = _split(points, classes)
    return probes


def _resampled(
    features: int, size: int, shape_name: str, margin: float, samples: int | None
) -> Iterator[tuple[str, Split]]:
    """In set i feature i tells the class, the others are drawn from the mixture of both classes, as in training."""
    rng = np.random.default_rng([PROBE_SEED, 1])
    shape = SHAPES[shape_name]
    for feature in range(features):
        classes = rng.integers(0, 2, size)
        shown = rng.integers(0, 2, (size, features))
        shown[:, feature] = classes
        points = draw(shape, shown, margin, rng)
        yield f"feature_{feature:02d}", _split(points[:samples], classes[:samples])


def tick_features(
    *,
    model: ModelBuilder,
    features: int = 16,
    train_size: int = 512,
    test_size: int = 2000,
    probe_size: int = 1000,
    shape: str = "tick",
    margin: float = 0.1,
    label_noise: float = 0.0,
    data_seed: int = 0,
) -> Task:
    """Tell two equally likely classes apart by `features` independent 2-D features, every one of them sufficient.

    Args:
        model: (shape of one input, outputs) to a network.
        features: how many; the input has twice as many coordinates.
        train_size: training points.
        test_size: test points.
        probe_size: points in each probe set.
        shape: a name in `trainables.tasks.shapes.SHAPES`.
        margin: least distance of a point to the class border, perpendicular to it.
        label_noise: probability that a training label is swapped.
        data_seed: fixes training and test points; the probe sets do not depend on it.

    Returns:
        Inputs `[n, 2 * features]`, targets 0. or 1.; probe sets `feature_00`, `feature_01` and so on, with the other
        features on the class border; in the group `resampled` the others are drawn without regard to the class.
    """
    rng = np.random.default_rng([data_seed, PROBE_SEED])

    def sample(size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        classes = rng.integers(0, 2, size)
        return draw(SHAPES[shape], np.repeat(classes[:, None], features, axis=1), margin, rng), classes

    x, y = sample(train_size)
    x_test, y_test = sample(test_size)
    swapped = rng.random(train_size) < label_noise

    return Task(
        model=lambda: model((2 * features,), 1),
        train=_split(x, np.where(swapped, 1 - y, y)),
        test=_split(x_test, y_test),
        loss=per_sample_binary_cross_entropy,
        probes=_probes(features, probe_size, shape, margin),
        probe_groups={
            "resampled": ProbeGroup(
                probe="feature_accuracy",
                split="resampled",
                sets=partial(_resampled, features, probe_size, shape, margin),
            )
        },
    )
