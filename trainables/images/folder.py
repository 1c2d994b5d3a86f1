"""Images in folders named by their classes, as `torchvision.datasets.ImageFolder` reads them: `root/class/x.png`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.images.sources import Encoded, Rows
from trainables.spec import SpecError

__all__ = ["FolderImages", "open_folder"]

ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"))
HASHED_BYTES = 1 << 30


@dataclass(frozen=True)
class FolderImages:
    """Image files, by class and then by path.

    Attributes:
        root: the folder of the classes' folders.
        names: each image's path below `root`; its first part is the class.
    """

    root: str
    names: tuple[str, ...]

    @property
    def what(self) -> str:
        """The folder."""
        return self.root

    @property
    def rows(self) -> int:
        """How many images."""
        return len(self.names)

    def labels(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Class folder of each image; none is missing."""
        return np.array([name.split("/", 1)[0] for name in self.names]), np.zeros(len(self.names), dtype=np.bool_)

    def encoded(self, rows: Rows) -> Iterator[Encoded]:
        """The images of these rows.

        Args:
            rows: any rows.

        Yields:
            Encoded images.
        """
        for row in rows.tolist():
            path = Path(self.root, self.names[row])
            try:
                content = path.read_bytes()
            except OSError:
                content = None
            yield Encoded(row, str(path), content)

    def files(self) -> list[dict[str, Any]]:
        """One entry for the whole folder: SHA-256 over paths and sizes, and over contents too up to 1 GiB in all."""
        paths = [Path(self.root, name) for name in self.names]
        sizes = [path.stat().st_size for path in paths]
        listing = hashlib.sha256("".join(f"{n}\t{s}\n" for n, s in zip(self.names, sizes, strict=True)).encode())
        facts = {"name": Path(self.root).name, "rows": len(paths), "bytes": sum(sizes)}
        facts["listing_sha256"] = listing.hexdigest()
        if sum(sizes) <= HASHED_BYTES:
            content = listing.copy()
            for path in paths:
                content.update(path.read_bytes())
            facts["sha256"] = content.hexdigest()
        return [facts]


@lru_cache(maxsize=16)
def open_folder(where: str) -> FolderImages:
    """List a folder's images; opens none of them.

    Args:
        where: a local folder that holds one folder for each class.

    Returns:
        The source.

    Raises:
        SpecError: no such folder, no classes in it, or classes without images.
    """
    root = Path(where).expanduser()
    if not root.is_dir():
        raise SpecError([f"there must be a folder of images at {where!r}, found none; give the folder of the classes"])
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise SpecError(
            [f"{where} must hold one folder for each class, found no folders; lay images out as CLASS/x.png"]
        )
    names, empty = [], []
    for folder in classes:
        found = sorted(
            str(path.relative_to(root).as_posix())
            for path in folder.rglob("*")
            if path.suffix.lower() in ENDINGS and path.is_file()
        )
        names += found
        empty += [] if found else [folder.name]
    if empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise SpecError(
            [f"every class folder of {where} must hold images, found none in {shown}; remove those folders"]
        )
    return FolderImages(str(root), tuple(names))
