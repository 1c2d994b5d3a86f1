"""The tasks that ship with the project."""

from collections.abc import Mapping

from trainables.parameters import Builtin, Parameter

__all__ = ["CIFAR", "IMAGE_TASKS", "TASKS"]

CIFAR = ("cifar10", "cifar100")
IMAGE_TASKS = (*CIFAR, "parquet_images", "image_folder")

SHAPES = ("tick", "circles", "sectors", "stripe", "diamond", "peaks", "cross", "union_jack")


def _images(valid_size: int) -> dict[str, Parameter]:
    """Arguments of every task made of images."""
    return {
        "train_size": Parameter(kind=int, default=0, low=0),
        "valid_size": Parameter(kind=int, default=valid_size, low=0),
        "test_size": Parameter(kind=int, default=0, low=0),
        "size": Parameter(kind=int, default=0, low=0, high=1024),
        "subset": Parameter(kind=str, default="random", choices=("random", "first")),
        "augment": Parameter(kind=str, default="none", choices=("none", "crop_flip", "randaugment")),
        "padding": Parameter(kind=int, default=4, low=0, high=64),
        "padding_mode": Parameter(kind=str, default="zero", choices=("zero", "reflect")),
        "label_noise": Parameter(kind=float, default=0.0, low=0.0, high=1.0),
    }


TASKS: Mapping[str, Builtin] = {
    "digits": Builtin(
        name="digits",
        target="trainables.tasks.digits:digits",
        summary="scikit-learn's 8x8 digits, a random subset for each data seed, labels wrong at a chosen rate",
        parameters={
            "train_size": Parameter(kind=int, default=300, low=10, high=1787),
            "test_size": Parameter(kind=int, default=1200, low=10, high=1787),
            "label_noise": Parameter(kind=float, default=0.0, low=0.0, high=1.0),
        },
    ),
    "tick_features": Builtin(
        name="tick_features",
        target="trainables.tasks.features:tick_features",
        summary="2-D features, each alone enough to tell two classes apart (Sadrtdinov et al., NeurIPS 2024)",
        parameters={
            "features": Parameter(kind=int, default=16, low=1, high=1024),
            "train_size": Parameter(kind=int, default=512, low=2),
            "test_size": Parameter(kind=int, default=2000, low=2),
            "probe_size": Parameter(kind=int, default=1000, low=2),
            "shape": Parameter(kind=str, default="tick", choices=SHAPES),
            "margin": Parameter(kind=float, default=0.1, low=0.0, high=0.2),
            "label_noise": Parameter(kind=float, default=0.0, low=0.0, high=1.0),
        },
    ),
    "cifar10": Builtin(
        name="cifar10",
        target="trainables.tasks.images:cifar10",
        summary="CIFAR-10: 60,000 colour images of 32x32 pixels in ten classes",
        parameters=_images(5000),
    ),
    "cifar100": Builtin(
        name="cifar100",
        target="trainables.tasks.images:cifar100",
        summary="CIFAR-100: the same kind of images in a hundred classes",
        parameters=_images(5000),
    ),
    "parquet_images": Builtin(
        name="parquet_images",
        target="trainables.tasks.images:parquet_images",
        summary="any labelled images in Parquet files of the Hugging Face layout, here or behind a URL",
        parameters={
            "train": Parameter(kind=str, default=""),
            "test": Parameter(kind=str, default=""),
            "image_column": Parameter(kind=str, default="auto"),
            "label_column": Parameter(kind=str, default="auto"),
            **_images(1000),
        },
    ),
    "image_folder": Builtin(
        name="image_folder",
        target="trainables.tasks.images:image_folder",
        summary="any labelled images in folders named by their classes",
        parameters={
            "train": Parameter(kind=str, default=""),
            "test": Parameter(kind=str, default=""),
            **_images(1000),
        },
    ),
}
