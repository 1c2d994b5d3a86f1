"""From stored images to pixels: each image is decoded at most once per process, when it is first wanted."""

import hashlib
import io
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from weakref import WeakValueDictionary

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from trainables.images.headers import Header, layout
from trainables.images.sources import Encoded, Rows, Source
from trainables.spec import SpecError

__all__ = ["PixelStore", "pixel_store", "resized"]

CHUNK = 512
SHOWN = 10


def _pixels(image: Encoded, channels: int) -> Tensor:
    """uint8 `[H, W, channels]`.

    Raises:
        ValueError: this is no image that can be read; the sentence's end says why.
    """
    if image.content is None:
        raise ValueError("is missing")
    if isinstance(image.content, np.ndarray):
        return torch.from_numpy(image.content)
    try:
        with Image.open(io.BytesIO(image.content)) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError("has more than 8 bits per channel; convert it to 8 bits")
            wanted = "RGB" if channels == 3 else "L"
            pixels = np.array(opened if opened.mode == wanted else opened.convert(wanted))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be decoded ({len(image.content)} bytes: {type(error).__name__})") from None
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels)


def resized(images: Tensor, size: int) -> Tensor:
    """Images as squares.

    Where `size` divides both sides, each new pixel is the average of the block it replaces, rounded; elsewhere
    torchvision's antialiased bilinear interpolation is used. The aspect ratio is not kept.

    Args:
        images: uint8 `[n, H, W, C]`.
        size: new side; 0 leaves the images as they are.

    Returns:
        uint8 `[n, size, size, C]`.
    """
    n, height, width, channels = images.shape
    if size == 0 or (height, width) == (size, size):
        return images
    if height % size == 0 and width % size == 0:
        blocks = images.reshape(n, size, height // size, size, width // size, channels).to(torch.float32)
        return blocks.mean(dim=(2, 4)).round_().to(torch.uint8)
    planes: Tensor = F.resize(images.permute(0, 3, 1, 2), [size, size], antialias=True)
    return planes.permute(0, 2, 3, 1).contiguous()


class PixelStore:
    """A source's pixels, decoded as they are asked for.

    Room for all images is reserved at once but the system hands out only the pages that are written to (torch's room,
    not numpy's: numpy asks for huge pages, of which a random choice of images would fill nearly all).

    Args:
        source: the images.
        header: height, width and channels that every image must have; height and width are those after resizing.
        size: side to resize to; 0 leaves images as they are.
        first: how messages name the image that set height and width.
    """

    def __init__(self, source: Source, header: Header, size: int, first: str) -> None:
        self._source, self._header, self._size, self._first = source, header, size, first
        shape = (source.rows, header.height, header.width, header.channels)
        self._pixels = torch.empty(shape, dtype=torch.uint8)
        self._decoded = np.zeros(source.rows, dtype=np.bool_)
        self._taken: WeakValueDictionary[bytes, Tensor] = WeakValueDictionary()
        self._lock = Lock()

    def take(self, rows: Rows) -> Tensor:
        """Pixels of some rows; the same tensor for the same rows as long as anyone holds it.

        Args:
            rows: ascending. Consecutive rows are not copied.

        Returns:
            uint8 `[len(rows), H, W, C]`; not to be written to.

        Raises:
            SpecError: images that cannot be decoded or have another size, each with its place.
        """
        key = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).digest()
        with self._lock:
            found = self._taken.get(key)
            if found is None:
                self._decode(rows[~self._decoded[rows]])
                if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
                    found = self._pixels[int(rows[0]) : int(rows[-1]) + 1]
                else:
                    found = self._pixels[torch.from_numpy(rows)]
                self._taken[key] = found
            return found

    def _decode(self, rows: Rows) -> None:
        faults: list[str] = []
        chunk: list[Encoded] = []
        for image in self._source.encoded(rows) if len(rows) else ():
            chunk.append(image)
            if len(chunk) == CHUNK:
                faults += self._store(chunk)
                chunk = []
        faults += self._store(chunk)
        if len(faults) > SHOWN:
            faults = [*faults[:SHOWN], f"and {len(faults) - SHOWN} more images like these"]
        if faults:
            raise SpecError(faults)

    def _store(self, chunk: Sequence[Encoded]) -> list[str]:
        """Decode, resize and keep; faults instead of images that cannot be."""
        faults = []
        by_shape: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
        want = (self._header.height, self._header.width)
        for image in chunk:
            try:
                pixels = _pixels(image, self._header.channels)
            except ValueError as error:
                faults.append(f"every image must be readable, but {image.where} {error}")
                continue
            if self._size == 0 and tuple(pixels.shape[:2]) != want:
                found, first = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{want[1]}x{want[0]}"
                faults.append(
                    f"all images must have one size, found {found} in {image.where} and {first} in {self._first}; "
                    "give task size to resize them all"
                )
                continue
            by_shape.setdefault(tuple(pixels.shape), []).append((image.row, pixels))
        for group in by_shape.values():
            rows = [row for row, _ in group]
            self._pixels[rows] = resized(torch.stack([pixels for _, pixels in group]), self._size)
            self._decoded[rows] = True
        return faults


@lru_cache(maxsize=8)
def _store(source: Source, header: Header, size: int, first: str) -> PixelStore:
    return PixelStore(source, header, size, first)


def pixel_store(source: Source, train: Source, test: Source, size: int) -> PixelStore:
    """The store of one of a task's two sources: the same one for every task that reads it the same way.

    Args:
        source: `train` or `test`.
        train: the training source, whose first image sets height and width.
        test: the test source; both together decide between grey and colour.
        size: side to resize to; 0 leaves images as they are.

    Returns:
        The store.
    """
    header, first = layout(train, test)
    if size:
        header = Header(size, size, header.channels)
    return _store(source, header, size, first)
