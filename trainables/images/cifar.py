"""CIFAR-10 and CIFAR-100: the Parquet files of the data folder, else torchvision's download.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009: 50,000 training and 10,000 test images,
32x32 pixels in colour, as many of each class.
"""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.images.fingerprint import file_sha256
from trainables.images.parquet import AUTO, open_parquet
from trainables.images.sources import Encoded, Rows, Source, data_folder, sentence_of
from trainables.spec import SpecError

__all__ = ["CLASSES", "ROWS", "STATISTICS", "CifarBatches", "cifar_sources", "stored_cifar"]

CLASSES = {"cifar10": 10, "cifar100": 100}
ROWS = {"train": 50_000, "test": 10_000}
STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
"""Mean and standard deviation of red, green and blue in [0, 1], the published studies' for both data sets."""
_UNPACKED = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_FILES = {
    ("cifar10", "train"): tuple(f"data_batch_{number}" for number in range(1, 6)),
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train",),
    ("cifar100", "test"): ("test",),
}


@dataclass(frozen=True)
class CifarBatches:
    """One half of a CIFAR set as torchvision unpacks it.

    Attributes:
        name: `cifar10` or `cifar100`.
        part: `train` or `test`.
        folder: where it lies.
    """

    name: str
    part: str
    folder: str

    @property
    def what(self) -> str:
        """Set, part and folder."""
        return f"{self.name} {self.part} in {self.folder}"

    @property
    def rows(self) -> int:
        """How many images."""
        return ROWS[self.part]

    def labels(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Class number of each image; none is missing."""
        labels = _loaded(self)[1]
        return labels, np.zeros(len(labels), dtype=np.bool_)

    def encoded(self, rows: Rows) -> Iterator[Encoded]:
        """The images of these rows; they are stored as plain pixels.

        Args:
            rows: any rows.

        Yields:
            Pixels.
        """
        pixels = _loaded(self)[0]
        for row in rows.tolist():
            yield Encoded(row, f"{self.what} row {row}", pixels[row])

    def files(self) -> list[dict[str, Any]]:
        """Name, size and checksum of each file."""
        paths = [Path(self.folder, _UNPACKED[self.name], name) for name in _FILES[self.name, self.part]]
        return [{"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in paths]


@lru_cache(maxsize=2)
def _loaded(source: CifarBatches) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from torchvision import datasets

    kind = datasets.CIFAR10 if source.name == "cifar10" else datasets.CIFAR100
    loaded = kind(source.folder, train=source.part == "train")
    return loaded.data, np.array(loaded.targets, dtype=np.int64)


def stored_cifar(name: str) -> tuple[Source, Source] | None:
    """Training and test images of the data folder's Parquet files; reads only their footers.

    Args:
        name: `cifar10` or `cifar100`.

    Returns:
        Both sources; None unless both files are there.
    """
    paths = [data_folder() / f"{name}-{part}.parquet" for part in ("train", "test")]
    if not all(path.is_file() for path in paths):
        return None
    label = AUTO if name == "cifar10" else "fine_label"
    sources = []
    for path in paths:
        try:
            sources.append(open_parquet(str(path), AUTO, label))
        except SpecError:
            sources.append(open_parquet(str(path)))  # the fine labels may well be called `label`
    return sources[0], sources[1]


def cifar_sources(name: str) -> tuple[Source, Source]:
    """Training and test images; downloads them on first use.

    Args:
        name: `cifar10` or `cifar100`.

    Returns:
        Both sources.

    Raises:
        SpecError: they are not there and cannot be downloaded.
    """
    found = stored_cifar(name)
    if found is None:
        folder = data_folder()
        _download(name, folder)
        found = CifarBatches(name, "train", str(folder)), CifarBatches(name, "test", str(folder))
    return found


def _download(name: str, folder: Path) -> None:
    """Have the unpacked set in `folder`, checked by torchvision's checksums; one process at a time."""
    from torchvision import datasets

    kind = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kind(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise SpecError(
            [
                f"{name} must be in the data folder or downloadable: looked in {folder} for {name}-train.parquet and "
                f"{name}-test.parquet (columns img and label) and for {_UNPACKED[name]}/, found neither, and the "
                f"download failed ({sentence_of(error)}); put the files there, name another folder by LRATLAS_DATA, "
                "or run once on a machine with network access and copy that folder"
            ]
        ) from None
