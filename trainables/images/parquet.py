"""Images in Parquet files of the Hugging Face layout: a column of encoded images and a column of labels.

Files may lie anywhere that fsspec reaches: a local path, `s3://`, `gs://`, `hf://`, `https://`, `memory://` and so on.
Only the footers and the label column are read until images are wanted, and then only the row groups that hold them.
"""

import hashlib
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.images.fingerprint import file_sha256
from trainables.images.sources import Encoded, Rows, sentence_of
from trainables.spec import SpecError

__all__ = ["AUTO", "ParquetImages", "open_parquet"]

AUTO = "auto"
IMAGE_NAMES = ("img", "image", "images")
LABEL_NAMES = ("label", "labels", "fine_label")
HASHED_BYTES = 2 << 30  # larger files are identified by their footer: hashing them would take longer than reading them


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    import fsspec
    import pyarrow.parquet as pq

    system, path = fsspec.core.url_to_fs(url)
    with system.open(path, "rb") as file:
        yield pq.ParquetFile(file)


@dataclass(frozen=True)
class ParquetImages:
    """Rows of one or many Parquet files, in the order of the files.

    Attributes:
        urls: the files.
        sizes: rows of each.
        image_column: holds the encoded images, as bytes or as `struct<bytes, path>`.
        label_column: holds the labels.
    """

    urls: tuple[str, ...]
    sizes: tuple[int, ...]
    image_column: str
    label_column: str

    @property
    def what(self) -> str:
        """The files' names, the first few of many."""
        more = f" and {len(self.urls) - 2} more" if len(self.urls) > 2 else ""
        return ", ".join(self.urls[:2]) + more

    @property
    def rows(self) -> int:
        """How many images."""
        return sum(self.sizes)

    def labels(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Label of each row as stored, and where there is none; `[rows]` both."""
        return _labels(self)

    def encoded(self, rows: Rows) -> Iterator[Encoded]:
        """The images of these rows, file by file.

        Args:
            rows: any rows, each once.

        Yields:
            Encoded images in ascending order of rows.
        """
        wanted, start = np.sort(rows), 0
        for url, size in zip(self.urls, self.sizes, strict=True):
            here = wanted[(wanted >= start) & (wanted < start + size)] - start
            if len(here):
                for row, content in _images(url, self.image_column, here):
                    yield Encoded(start + row, f"{url} row {row}", content)
            start += size

    def files(self) -> list[dict[str, Any]]:
        """Name, size, rows and checksum of each file; of files on other machines the checksum of the footer."""
        return [_file(url, size) for url, size in zip(self.urls, self.sizes, strict=True)]


def _images(url: str, column: str, rows: Rows) -> Iterator[tuple[int, bytes | None]]:
    import pyarrow.compute as pc

    with _opened(url) as file:
        start = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            here = rows[(rows >= start) & (rows < start + size)]
            if len(here):
                images = file.read_row_group(group, columns=[column]).column(0).take(here - start)
                if hasattr(images.type, "fields"):
                    images = pc.struct_field(images, "bytes")
                yield from zip(here.tolist(), images.to_pylist(), strict=True)
            start += size


@lru_cache(maxsize=32)
def _labels(source: ParquetImages) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for url in source.urls:
        with _opened(url) as file:
            part = file.read(columns=[source.label_column]).column(0)
        parts += (part.dictionary_decode() if pa.types.is_dictionary(part.type) else part).chunks
    column = pa.chunked_array(parts)
    missing = column.is_null().to_numpy()
    if missing.any():  # any label does there: these rows are a fault, but the others are still to be looked at
        filler = pc.drop_null(column)
        column = column.fill_null(filler[0]) if len(filler) else pa.chunked_array([pa.array([0] * len(missing))])
    values = column.to_numpy()
    return (values.astype(str) if values.dtype.kind == "O" else values), missing


def _file(url: str, rows: int) -> dict[str, Any]:
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    size = int(system.size(path))
    facts: dict[str, Any] = {"name": url, "rows": rows, "bytes": size}
    if "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)):
        facts["name"] = posixpath.basename(path)
        if size <= HASHED_BYTES:
            return {**facts, "sha256": file_sha256(Path(path))}
    footer = system.tail(path, 8)
    length = int.from_bytes(footer[:4], "little")
    return {**facts, "footer_sha256": hashlib.sha256(system.tail(path, length + 8)).hexdigest()}


def _expanded(text: str) -> tuple[list[str], list[str]]:
    """Every file that a comma-separated list of files, folders and patterns names; faults beside it."""
    import fsspec

    urls: list[str] = []
    faults = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            system, path = fsspec.core.url_to_fs(part)
            if any(sign in path for sign in "*?["):
                found = sorted(system.glob(path))
            elif system.isdir(path):
                found = sorted(system.glob(f"{path.rstrip('/')}/*.parquet"))
            else:
                found = [path] if system.exists(path) else []
            local = "://" not in part
            urls += [name if local else system.unstrip_protocol(name) for name in found]
        except (OSError, ValueError, ImportError) as error:
            faults.append(f"{part!r} cannot be reached: {sentence_of(error)}")
            continue
        if not found:
            faults.append(f"there must be Parquet files at {part!r}, found none; give files, a folder or a pattern")
    return urls, faults


def _column(kind: str, asked: str, usual: tuple[str, ...], legal: list[str], url: str, names: list[str]) -> str:
    """The column meant by `asked`, among those whose type fits."""
    if asked != AUTO:
        if asked in legal:
            return asked
        wrong = f", which has another type ({kind}s cannot be read from it)" if asked in names else ""
        listed = ", ".join(legal) or f"none of {', '.join(names)} can hold {kind}s"
        raise SpecError([f"task {kind}_column must be a column of {url}, found {asked!r}{wrong}; legal: {listed}"])
    for name in usual:
        if name in legal:
            return name
    if len(legal) == 1 and kind == "image":
        return legal[0]
    raise SpecError(
        [
            f"{url} must have a column of {kind}s named {' or '.join(usual)}, found columns {', '.join(names)}; "
            f"say which by task {kind}_column"
        ]
    )


def _columns(schema: Any, url: str, image: str, label: str) -> tuple[tuple[str, str] | None, list[str]]:
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    def holds_classes(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        texts = (types.is_string, types.is_large_string, types.is_string_view)
        return types.is_integer(kind) or types.is_boolean(kind) or any(of(kind) for of in texts)

    names = list(schema.names)
    images = [field.name for field in schema if holds_bytes(field.type)]
    labels = [field.name for field in schema if holds_classes(field.type)]
    found, faults = [], []
    for arguments in (("image", image, IMAGE_NAMES, images), ("label", label, LABEL_NAMES, labels)):
        try:
            found.append(_column(*arguments, url, names))
        except SpecError as error:
            faults += error.faults
    return ((found[0], found[1]) if not faults else None), faults


@lru_cache(maxsize=32)
def open_parquet(text: str, image_column: str = AUTO, label_column: str = AUTO) -> ParquetImages:
    """Find the files and columns; reads nothing but the files' footers.

    Args:
        text: files, folders and patterns, separated by commas: local paths or any URL that fsspec knows.
        image_column: name, or `auto`: `img` or `image`, else the only column that can hold images.
        label_column: name, or `auto`: `label`, `labels` or `fine_label`.

    Returns:
        The source.

    Raises:
        SpecError: no such files, files that are no Parquet, or no such columns; every fault at once.
    """
    import pyarrow as pa

    urls, faults = _expanded(text)
    sizes = []
    columns: dict[tuple[str, str], str] = {}
    for url in urls:
        try:
            with _opened(url) as file:
                sizes.append(file.metadata.num_rows)
                found, wrong = _columns(file.schema_arrow, url, image_column, label_column)
        except (OSError, ValueError, ImportError, pa.ArrowException) as error:
            faults.append(f"{url} must be a Parquet file, but it cannot be read: {sentence_of(error)}")
            continue
        faults += wrong
        if found:
            columns.setdefault(found, url)
    if len(columns) > 1:
        shown = "; ".join(f"{' and '.join(names)} in {url}" for names, url in columns.items())
        faults.append(f"all files must have the same columns, found {shown}; name them by image_column, label_column")
    if not faults and not sum(sizes):
        faults.append(f"there must be images in {text!r}, found no rows")
    if faults:
        raise SpecError(faults)
    ((image, label),) = columns
    return ParquetImages(tuple(urls), tuple(sizes), image, label)
