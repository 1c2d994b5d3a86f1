"""Which images are used: stratified by class and seeded, or the first of the file."""

from dataclasses import dataclass

import numpy as np

from trainables.images.sources import Rows, Source

__all__ = ["Choice", "evaluation_rows", "replaced_labels", "stratified", "training_rows"]

# Validation and test images are the same for every draw of the training images: one yardstick for all members.
_VALID, _TEST, _TRAIN, _NOISE = 0x7A11D, 0x7E57, 0x7A41, 0x4015E


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How many images of each kind, and how they are picked.

    Attributes:
        train_size: training images; 0 takes all that validation leaves.
        valid_size: validation images, taken from the training file.
        test_size: test images; 0 takes all.
        subset: `random` draws stratified by class; `first` takes the first rows of the files as they are.
    """

    train_size: int
    valid_size: int
    test_size: int
    subset: str

    @property
    def seeded(self) -> bool:
        """Whether the training images depend on the data seed."""
        return self.subset == "random" and self.train_size > 0

    def faults(self, train: Source, test: Source) -> list[str]:
        """Whether there are as many images.

        Args:
            train: the training source.
            test: the test source.

        Returns:
            One sentence for each size that is too large.
        """
        return self.faults_of_rows(train.rows, test.rows, train.what, test.what)

    def faults_of_rows(self, train: int, test: int, train_what: str, test_what: str) -> list[str]:
        """The same for sources known by their sizes alone.

        Args:
            train: images in the training file.
            test: images in the test file.
            train_what: how messages name the training file.
            test_what: how messages name the test file.

        Returns:
            One sentence for each size that is too large.
        """
        faults = []
        if self.train_size + self.valid_size > train or self.valid_size >= train:
            share = "" if self.train_size else " (train_size 0 takes what validation leaves, at least one image)"
            faults.append(
                f"task train_size + valid_size must be at most {train} (the images in {train_what}), found "
                f"{self.train_size} + {self.valid_size}{share}; validation images are taken from the training file"
            )
        if self.test_size > test:
            faults.append(
                f"task test_size must be at most {test} (the images in {test_what}), found {self.test_size}; "
                "0 takes all"
            )
        return faults


def stratified(classes: Rows, rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    """Draw rows so that every class has its share, up to one image.

    Within each class the rows are put in random order and numbered k = 0, 1, ...; the rows with the smallest
    (k + u) / n are taken, n the size of the class and u one uniform number for it. So a larger draw from the same
    generator state holds every smaller one.

    Args:
        classes: class of every row of the source.
        rows: the rows to draw from, ascending.
        size: how many, at most `len(rows)`.
        rng: source of randomness.

    Returns:
        Rows, ascending.
    """
    of = classes[rows]
    counts = np.bincount(of)
    order = np.lexsort((rng.random(len(rows)), of))
    starts = np.cumsum(counts) - counts
    place = np.empty(len(rows))
    place[order] = np.arange(len(rows)) - starts[of[order]]
    share = (place + rng.random(len(counts))[of]) / counts[of]
    return np.sort(rows[np.argsort(share, kind="stable")[:size]])


def training_rows(classes: Rows, choice: Choice, data_seed: int) -> tuple[Rows, Rows]:
    """Rows of the training file to train on, and rows to validate on.

    Args:
        classes: class of every row of the training source.
        choice: sizes and kind of subset.
        data_seed: fixes the training rows of a random subset; the validation rows do not depend on it.

    Returns:
        Training rows, validation rows; ascending and disjoint.
    """
    every = np.arange(len(classes))
    size = choice.train_size or len(classes) - choice.valid_size
    if choice.subset == "first":
        return every[:size], every[size : size + choice.valid_size]
    valid = stratified(classes, every, choice.valid_size, np.random.default_rng(_VALID))
    rest = np.setdiff1d(every, valid, assume_unique=True)
    if not choice.seeded:
        return rest, valid
    return stratified(classes, rest, size, np.random.default_rng([data_seed, _TRAIN])), valid


def evaluation_rows(classes: Rows, choice: Choice) -> Rows:
    """Rows of the test file, the same for every data seed.

    Args:
        classes: class of every row of the test source.
        choice: sizes and kind of subset.

    Returns:
        Rows, ascending.
    """
    every = np.arange(len(classes))
    if not choice.test_size or choice.subset == "first":
        return every[: choice.test_size or None]
    return stratified(classes, every, choice.test_size, np.random.default_rng(_TEST))


def replaced_labels(classes: Rows, count: int, share: float, data_seed: int) -> Rows:
    """The training file's labels with a share of them replaced, once and for all, by a class drawn uniformly.

    An image's wrong label depends on (data_seed, row) alone, not on which other images are used, and a smaller share
    replaces a subset of what a larger one replaces.

    Args:
        classes: class of every row of the training source.
        count: number of classes; one in `count` replaced labels stays right.
        share: probability that a label is replaced.
        data_seed: fixes which and by what.

    Returns:
        Classes, `[rows]`.
    """
    if share == 0:
        return classes
    rng = np.random.default_rng([data_seed, _NOISE])
    wrong = rng.random(len(classes)) < share
    return np.where(wrong, rng.integers(0, count, len(classes)), classes)
