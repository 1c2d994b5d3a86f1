"""What a set of labelled images is, wherever it lies. Loads neither torch nor pyarrow."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.spec import SpecError

__all__ = ["Classes", "Encoded", "Source", "classes_of", "data_folder", "sentence_of"]

Rows = NDArray[np.int64]
NO_CLASS = "must be a class number from 0 up or a class name"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One image as it is stored.

    Attributes:
        row: its number in the source, from 0.
        where: how messages name it.
        content: an encoded file's bytes, or pixels uint8 `[H, W, 3]`; None where it is missing.
    """

    row: int
    where: str
    content: bytes | NDArray[np.uint8] | None


class Source(Protocol):
    """Labelled images in a fixed order. Hashable by what it names, so that work on it can be cached."""

    def __hash__(self) -> int: ...

    @property
    def what(self) -> str:
        """How messages name it."""
        ...

    @property
    def rows(self) -> int:
        """How many images."""
        ...

    def labels(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Label of each image as stored, and where there is none; `[rows]` both."""
        ...

    def encoded(self, rows: Rows) -> Iterator[Encoded]:
        """The images of these rows, in the order that reads fastest."""
        ...

    def files(self) -> list[dict[str, Any]]:
        """Name, size and checksum of each file, for the manifest."""
        ...


@dataclass(frozen=True)
class Classes:
    """The labels of a training and a test source as class numbers.

    Attributes:
        names: stored label of each class.
        train: `[rows of the training source]`, int64.
        test: `[rows of the test source]`, int64.
    """

    names: tuple[Any, ...]
    train: Rows
    test: Rows


def data_folder() -> Path:
    """The folder of data sets: `LRATLAS_DATA`, or `~/.cache/lratlas` without it.

    Returns:
        Its path; it need not exist.
    """
    return Path(os.environ.get("LRATLAS_DATA") or Path.home() / ".cache" / "lratlas")


def sentence_of(error: BaseException) -> str:
    """An error of another library, short enough to stand inside a sentence.

    Args:
        error: what was raised.

    Returns:
        Its first line, or its type where it says nothing.
    """
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _label_faults(source: Source) -> list[str]:
    values, missing = source.labels()
    faults = []
    if missing.any():
        faults.append(
            f"every image must have a label, found {int(missing.sum())} of {len(values)} without one in {source.what}, "
            f"the first in row {int(missing.argmax())} counted from 0; leave those rows out of the files"
        )
    present = values[~missing]
    if present.dtype.kind not in "iubUOS":
        return [*faults, f"a label {NO_CLASS}, found numbers with decimals in {source.what}; name another label column"]
    if present.dtype.kind == "i" and len(present) and present.min() < 0:
        faults.append(
            f"a label {NO_CLASS}, found {int(present.min())} in {source.what} ({int((present < 0).sum())} images below "
            "0; public test sets often hide their labels so); give images with labels"
        )
    if len(present) == 0:
        faults.append(f"there must be images with labels, found none in {source.what}")
    return faults


@lru_cache(maxsize=16)
def classes_of(train: Source, test: Source) -> Classes:
    """Number the classes: the training images' labels in ascending order, so that 0, 1, 2, ... keep their numbers.

    Args:
        train: the training source.
        test: the test source.

    Returns:
        Class numbers of both.

    Raises:
        SpecError: labels are missing, are no classes, are all one class, or the test images have classes of their own.
    """
    if faults := [fault for source in dict.fromkeys((train, test)) for fault in _label_faults(source)]:
        raise SpecError(faults)
    stored, held_out = train.labels()[0], test.labels()[0]
    names, codes = np.unique(stored, return_inverse=True)
    if len(names) < 2:
        only = names.tolist()[0]
        raise SpecError([f"the images must be of at least two classes, found only {only!r} in {train.what}"])
    foreign = [name for name in np.unique(held_out).tolist() if name not in set(names.tolist())]
    if foreign:
        shown = ", ".join(repr(name) for name in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise SpecError(
            [
                f"every class of the test images must be among the training images, found {shown} only in {test.what}; "
                "check that both have the same label column"
            ]
        )
    return Classes(tuple(names.tolist()), codes.astype(np.int64), np.searchsorted(names, held_out).astype(np.int64))
