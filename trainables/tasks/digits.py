"""Real images that ship with scikit-learn: the 1,797 handwritten digits, 8x8 pixels."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.images.band_sets import Pictures, band_groups
from trainables.tasks.base import ModelBuilder, Split, Task, per_sample_cross_entropy

__all__ = ["digits"]

CLASSES = 10
SIDE = 8


@lru_cache(maxsize=1)
def _images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x / 16.0, y.astype(np.int64)


def digits(
    *,
    model: ModelBuilder,
    train_size: int = 300,
    test_size: int = 1200,
    label_noise: float = 0.0,
    data_seed: int = 0,
) -> Task:
    """Classify digits, with a share of the training labels wrong.

    Args:
        model: (shape of one input, outputs) to a network.
        train_size: training images, drawn at random without replacement.
        test_size: test images, drawn likewise from the rest.
        label_noise: probability that a training label is replaced, once and for all, by a class drawn uniformly from
            all ten (so a tenth of the replaced labels stay right). Test labels are never touched.
        data_seed: fixes the draw of images and of wrong labels. The images drawn do not depend on `label_noise`.

    Returns:
        Inputs `[n, 64]` with the training images' mean 0 and standard deviation 1 over all pixels together;
        Fourier bands of the test images as probe groups.
    """
    images, labels = _images()
    rng = np.random.default_rng([data_seed, 0xD161])
    order = rng.permutation(len(images))
    train, test = order[:train_size], order[train_size : train_size + test_size]
    wrong = rng.random(train_size) < label_noise
    noisy = np.where(wrong, rng.integers(0, CLASSES, train_size), labels[train])
    mean, std = images[train].mean(), images[train].std()

    def split(rows: NDArray[np.int64], y: NDArray[np.int64]) -> Split:
        return Split(torch.from_numpy((images[rows] - mean) / std), torch.from_numpy(y))

    held_out = split(test, labels[test])
    pictures = Pictures(
        split=held_out,
        pixels=lambda stored: (stored * std + mean).view(-1, 1, SIDE, SIDE),
        mean=(float(mean),),
        std=(float(std),),
        flat=True,
    )
    return Task(
        model=lambda: model((images.shape[1],), CLASSES),
        train=split(train, noisy),
        test=held_out,
        loss=per_sample_cross_entropy,
        probe_groups=band_groups(pictures),
    )
