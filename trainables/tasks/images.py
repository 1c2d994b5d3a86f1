"""Image classification: CIFAR-10 and CIFAR-100, Parquet files of the Hugging Face layout, folders of images."""

from functools import lru_cache, partial

import torch

from trainables.images.augment import CropFlip, Padding
from trainables.images.band_sets import Pictures, band_groups
from trainables.images.cifar import STATISTICS, cifar_sources
from trainables.images.decode import pixel_store
from trainables.images.encode import Normalise, measured
from trainables.images.locate import find_sources
from trainables.images.randaugment import RandAugment
from trainables.images.sources import Rows, Source, classes_of
from trainables.images.subsets import Choice, evaluation_rows, replaced_labels, training_rows
from trainables.spec import SpecError
from trainables.tasks.base import Augment, ModelBuilder, Split, Task, per_sample_cross_entropy

__all__ = ["cifar10", "cifar100", "image_folder", "parquet_images"]


def _augmentation(name: str, padding: int, padding_mode: str) -> Augment | None:
    if name == "none":
        return None
    crop = CropFlip(padding, Padding(padding_mode))
    return crop if name == "crop_flip" else RandAugment(crop=crop)


@lru_cache(maxsize=16)
def _encoding(train: Source, test: Source, size: int, choice: Choice) -> Normalise:
    """Measured on the training images of data seed 0, whatever the data seed: one encoding for all draws."""
    rows, _ = training_rows(classes_of(train, test).train, choice, 0)
    return measured([pixel_store(train, train, test, size).take(rows)])


def _task(
    sources: tuple[Source, Source],
    choice: Choice,
    *,
    model: ModelBuilder,
    size: int,
    augment: Augment | None,
    label_noise: float,
    data_seed: int,
    encode: Normalise | None = None,
) -> Task:
    train, test = sources
    classes = classes_of(train, test)
    if faults := choice.faults(train, test):
        raise SpecError(faults)
    learned, valid = training_rows(classes.train, choice, data_seed)
    held_out = evaluation_rows(classes.test, choice)

    def split(source: Source, labels: Rows, rows: Rows) -> Split:
        return Split(pixel_store(source, train, test, size).take(rows), torch.from_numpy(labels[rows]))

    noisy = replaced_labels(classes.train, len(classes.names), label_noise, data_seed)
    splits = {"train": split(train, noisy, learned), "test": split(test, classes.test, held_out)}
    height, width, channels = splits["train"].x.shape[1:]
    encoding = encode or _encoding(train, test, size, choice)
    pictures = Pictures(split=splits["test"], pixels=_pixels, mean=encoding.mean, std=encoding.std)
    return Task(
        model=partial(model, (channels, height, width), len(classes.names)),
        train=splits["train"],
        test=splits["test"],
        valid=split(train, classes.train, valid) if len(valid) else None,
        loss=per_sample_cross_entropy,
        augment=augment,
        encode=encoding,
        probe_groups=band_groups(pictures),
    )


def _pixels(stored: torch.Tensor) -> torch.Tensor:
    return stored.movedim(-1, -3).to(torch.float32) / 255


def _cifar(
    name: str,
    *,
    model: ModelBuilder,
    train_size: int = 0,
    valid_size: int = 5000,
    test_size: int = 0,
    size: int = 0,
    subset: str = "random",
    augment: str = "none",
    padding: int = 4,
    padding_mode: str = "zero",
    label_noise: float = 0.0,
    data_seed: int = 0,
) -> Task:
    """Classify the 32x32 colour images of CIFAR.

    The images come from `{name}-train.parquet` and `{name}-test.parquet` in the data folder (`LRATLAS_DATA`, else
    `~/.cache/lratlas`), or from torchvision's download into it.

    Args:
        name: `cifar10` or `cifar100`.
        model: (shape of one input, outputs) to a network.
        train_size: training images; 0 takes all that validation leaves.
        valid_size: validation images, taken from the training file; the same for every data seed.
        test_size: test images, the same for every data seed; 0 takes all.
        size: side to resize to: block averages where it divides 32, else antialiased interpolation; 0 keeps 32.
        subset: `random` draws stratified by class; `first` takes the files' first rows: for training, then as many as
            wanted for validation.
        augment: `none`, `crop_flip`, or `randaugment` (crop and flip, then two operations of magnitude 14).
        padding: pixels around an image before it is cropped.
        padding_mode: `zero` (black) or `reflect`.
        label_noise: probability that a training label is replaced, once and for all, by a class drawn uniformly from
            all. Validation and test labels are never touched.
        data_seed: fixes the training images drawn (if `train_size` asks for fewer than all) and the wrong labels.

    Returns:
        Images uint8 `[n, 32, 32, 3]`, shared by all tasks of the process; the published studies' mean and standard
        deviation.
    """
    return _task(
        cifar_sources(name),
        Choice(train_size=train_size, valid_size=valid_size, test_size=test_size, subset=subset),
        model=model,
        size=size,
        augment=_augmentation(augment, padding, padding_mode),
        label_noise=label_noise,
        data_seed=data_seed,
        encode=Normalise(*STATISTICS),
    )


cifar10 = partial(_cifar, "cifar10")
"""See `_cifar`."""
cifar100 = partial(_cifar, "cifar100")
"""See `_cifar`; the hundred fine classes."""


def parquet_images(
    *,
    model: ModelBuilder,
    train: str,
    test: str,
    image_column: str = "auto",
    label_column: str = "auto",
    train_size: int = 0,
    valid_size: int = 1000,
    test_size: int = 0,
    size: int = 0,
    subset: str = "random",
    augment: str = "none",
    padding: int = 4,
    padding_mode: str = "zero",
    label_noise: float = 0.0,
    data_seed: int = 0,
) -> Task:
    """Classify the images of Parquet files in the Hugging Face layout.

    Args:
        model: (shape of one input, outputs) to a network.
        train: files of the training images: paths, folders or patterns, or any URL that fsspec knows; separated by
            commas.
        test: files of the test images likewise.
        image_column: column of encoded images; `auto` takes `img` or `image`.
        label_column: column of labels; `auto` takes `label`, `labels` or `fine_label`.
        train_size: as for `cifar10`, and so are the arguments that follow.
        valid_size: validation images, taken from the training files.
        test_size: test images; 0 takes all.
        size: side to resize to; 0 keeps the images' size, which must then be the same for all.
        subset: `random` or `first`.
        augment: `none`, `crop_flip` or `randaugment`.
        padding: pixels around an image before it is cropped.
        padding_mode: `zero` or `reflect`.
        label_noise: probability that a training label is replaced.
        data_seed: fixes the training images drawn and the wrong labels.

    Returns:
        Images uint8 `[n, H, W, C]`, C = 1 if all are grey, else 3; normalised by the mean and standard deviation
        measured on the training images.
    """
    columns = {"image_column": image_column, "label_column": label_column}
    sources = find_sources("parquet_images", {"train": train, "test": test, **columns}, fetch=True)
    assert sources is not None  # only CIFAR may be missing
    return _task(
        sources,
        Choice(train_size=train_size, valid_size=valid_size, test_size=test_size, subset=subset),
        model=model,
        size=size,
        augment=_augmentation(augment, padding, padding_mode),
        label_noise=label_noise,
        data_seed=data_seed,
    )


def image_folder(
    *,
    model: ModelBuilder,
    train: str,
    test: str,
    train_size: int = 0,
    valid_size: int = 1000,
    test_size: int = 0,
    size: int = 0,
    subset: str = "random",
    augment: str = "none",
    padding: int = 4,
    padding_mode: str = "zero",
    label_noise: float = 0.0,
    data_seed: int = 0,
) -> Task:
    """Classify images in folders named by their classes, `root/class/x.png`.

    Args:
        model: (shape of one input, outputs) to a network.
        train: folder of the training images' classes.
        test: folder of the test images' classes, each of them among the training classes.
        train_size: as for `cifar10`, and so are the arguments that follow.
        valid_size: validation images, taken from the training folder.
        test_size: test images; 0 takes all.
        size: side to resize to; 0 keeps the images' size, which must then be the same for all.
        subset: `random`; `first` takes the first in order of class, which is seldom what is wanted.
        augment: `none`, `crop_flip` or `randaugment`.
        padding: pixels around an image before it is cropped.
        padding_mode: `zero` or `reflect`.
        label_noise: probability that a training label is replaced.
        data_seed: fixes the training images drawn and the wrong labels.

    Returns:
        Images uint8 `[n, H, W, C]` as those of `parquet_images`.
    """
    sources = find_sources("image_folder", {"train": train, "test": test}, fetch=True)
    assert sources is not None  # only CIFAR may be missing
    return _task(
        sources,
        Choice(train_size=train_size, valid_size=valid_size, test_size=test_size, subset=subset),
        model=model,
        size=size,
        augment=_augmentation(augment, padding, padding_mode),
        label_noise=label_noise,
        data_seed=data_seed,
    )
