"""Pictures in files, made for tests."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


def pictures(count: int, side: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, `[count, side, side, 3]`."""
    return np.random.default_rng([seed, 9]).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def encoded(image: NDArray[np.uint8]) -> bytes:
    """A PNG file's content."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def write_parquet(
    path: Path,
    images: NDArray[np.uint8] | Sequence[bytes | None],
    labels: object,
    *,
    label: str = "label",
    group: int = 1000,
    more: Mapping[str, pa.Array] | None = None,
) -> None:
    """A Parquet file of the Hugging Face layout."""
    content = [encoded(image) if isinstance(image, np.ndarray) else image for image in images]
    structs = pa.array([{"bytes": one, "path": f"{index}.png"} for index, one in enumerate(content)])
    pq.write_table(pa.table({"img": structs, **(more or {}), label: pa.array(labels)}), path, row_group_size=group)


def write_folder(root: Path, classes: Mapping[str, NDArray[np.uint8]]) -> None:
    """A folder of images, one folder for each class."""
    for name, images in classes.items():
        (root / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{index:03d}.png")
