"""What can be said about an image task without training it: faults, sizes, classes, and which images it uses.

Reads footers, labels and the first image; decodes nothing else and loads no torch (unless CIFAR must be downloaded).
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.builtin_tasks import CIFAR, IMAGE_TASKS, TASKS
from trainables.images import cifar
from trainables.images.headers import Header, layout
from trainables.images.locate import choice_of, find_sources
from trainables.images.sources import Source, classes_of
from trainables.images.subsets import Choice, evaluation_rows, training_rows
from trainables.spec import SpecError

__all__ = ["ImageFacts", "image_facts", "image_faults", "images_used"]

SIZES = ("train_size", "valid_size", "test_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """Sizes of an image task.

    Attributes:
        shape: of one network input: channels, height, width.
        classes: how many.
        train: training images.
        valid: validation images.
        test: test images.
        kept_bytes: pixels in memory for one data seed, shared by all packs of a process: those decoded, the copies
            that a random subset makes of them, and the padded copies of an augmentation.
    """

    shape: tuple[int, int, int]
    classes: int
    train: int
    valid: int
    test: int
    kept_bytes: int


def _full(name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    return {key: parameter.default for key, parameter in TASKS[name].parameters.items()} | dict(args)


def _label_faults(train: Source, test: Source, choice: Choice | None) -> list[str]:
    try:
        classes = classes_of(train, test)
    except SpecError as error:
        return error.faults
    if choice is None or choice.subset != "first":
        return []
    used = np.unique(classes.train[training_rows(classes.train, choice, 0)[0]])
    if len(used) > 1:
        return []
    return [
        f"the images must be of at least two classes, found only {classes.names[used[0]]!r} in the first "
        f"{choice.train_size} of {train.what}; take more, or subset random"
    ]


def _shape_faults(train: Source, test: Source, args: Mapping[str, Any]) -> list[str]:
    faults = []
    shapes: list[Header] = []
    for source in (train, test):
        try:
            shapes.append(layout(source, source)[0])
        except SpecError as error:
            faults += error.faults
    if faults or args["size"]:
        return faults
    sides = [f"{shape.width}x{shape.height}" for shape in shapes]
    if sides[0] != sides[1]:
        faults.append(
            f"all images must have one size, found {sides[0]} in {train.what} and {sides[1]} in {test.what}; "
            "give task size to resize them all"
        )
    return faults


def _augment_faults(args: Mapping[str, Any], header: Header | None) -> list[str]:
    side = int(args["size"]) or (min(header.height, header.width) if header else 0)
    if args["augment"] == "none" or args["padding_mode"] != "reflect" or not side or args["padding"] < side:
        return []
    return [
        f"task padding must be smaller than the image where it is reflected, found {args['padding']} for a side of "
        f"{side} pixels; take less, or padding_mode zero"
    ]


def image_faults(name: str, args: Mapping[str, Any], wrong: Set[str] = frozenset()) -> list[str]:
    """Everything wrong with an image task that can be seen without decoding its images.

    A CIFAR that is not there yet is no fault (it is downloaded on first use); its sizes are known.

    Args:
        name: one of `trainables.builtin_tasks.IMAGE_TASKS`.
        args: its arguments, each legal by itself, without those in `wrong`.
        wrong: arguments found wrong already, about which nothing more is said.

    Returns:
        One sentence for each fault.
    """
    args = _full(name, args)
    choice = choice_of(args) if not wrong & {*SIZES, "subset"} else None
    try:
        sources = find_sources(name, args, fetch=False)
    except SpecError as error:
        return error.faults
    if sources is None:
        rows = (cifar.ROWS["train"], cifar.ROWS["test"], f"{name}'s training set", f"{name}'s test set")
        sizes = choice.faults_of_rows(*rows) if choice else []
        return sizes + _augment_faults(args, Header(32, 32, 3))
    train, test = sources
    sizes = choice.faults(train, test) if choice else []
    labels = _label_faults(train, test, None if sizes else choice)
    shapes = _shape_faults(train, test, args) if "size" not in wrong else []
    crops = [] if shapes or wrong else _augment_faults(args, layout(train, test)[0])
    return sizes + labels + shapes + crops


def image_facts(name: str, args: Mapping[str, Any]) -> ImageFacts | None:
    """Sizes of an image task.

    Args:
        name: a built-in task's name.
        args: its arguments; the rest takes its defaults.

    Returns:
        Exact sizes; None for any other task.

    Raises:
        SpecError: the images cannot be found or read.
    """
    if name not in IMAGE_TASKS:
        return None
    args = _full(name, args)
    choice, sources = choice_of(args), find_sources(name, args, fetch=False)
    if sources is None:
        header, rows, classes = Header(32, 32, 3), (cifar.ROWS["train"], cifar.ROWS["test"]), cifar.CLASSES[name]
    else:
        header, rows = layout(*sources)[0], (sources[0].rows, sources[1].rows)
        classes = cifar.CLASSES[name] if name in CIFAR else len(classes_of(*sources).names)
    height, width = (int(args["size"]),) * 2 if args["size"] else (header.height, header.width)
    train, test = choice.train_size or rows[0] - choice.valid_size, choice.test_size or rows[1]
    drawn = choice.subset == "random"
    kept = (train + choice.valid_size) * (2 if drawn and (choice.valid_size or choice.train_size) else 1)
    kept = (kept + test * (2 if drawn and choice.test_size else 1)) * height * width * header.channels
    if args["augment"] == "crop_flip":
        edge = 2 * int(args["padding"])
        kept += 2 * train * (height + edge) * (width + edge) * header.channels
    return ImageFacts(
        shape=(header.channels, height, width),
        classes=classes,
        train=train,
        valid=choice.valid_size,
        test=test,
        kept_bytes=kept,
    )


def images_used(name: str, args: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which images a task uses, for the manifest; has CIFAR downloaded if need be, so it belongs before the first run.

    Args:
        name: any task's name.
        args: its arguments; the rest takes its defaults.

    Returns:
        For the training and the test file each: `rows`, and `files` with name, bytes and SHA-256 (of the content, of
        the footer of a Parquet file elsewhere or above 2 GiB, of the listing of folders above 1 GiB); the images `used`
        of each split, and the `first_rows` of each that a data seed of 0 takes; None for a task without image files.

    Raises:
        SpecError: the images are not there; every fault at once.
    """
    if name not in IMAGE_TASKS:
        return None
    args = _full(name, args)
    sources = find_sources(name, args, fetch=True)
    assert sources is not None  # fetched
    train, test = sources
    classes, choice = classes_of(train, test), choice_of(args)
    if faults := choice.faults(train, test):
        raise SpecError(faults)
    chosen, valid = training_rows(classes.train, choice, 0)
    held_out = evaluation_rows(classes.test, choice)
    splits = {"train": chosen, "valid": valid, "test": held_out}
    return {
        "task": name,
        "classes": len(classes.names),
        "train": {"rows": train.rows, "files": train.files()},
        "test": {"rows": test.rows, "files": test.files()},
        "used": {split: len(rows) for split, rows in splits.items()},
        "first_rows": {split: rows[:5].tolist() for split, rows in splits.items()},
    }
