"""Height, width and channels of images, read from their first bytes. Loads no torch."""

import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from trainables.images.sources import Encoded, Source
from trainables.spec import SpecError

__all__ = ["Header", "layout"]

_GREY = ("1", "L", "LA", "La")


class Header(NamedTuple):
    """Shape of one image, in pixels.

    Attributes:
        height: rows of pixels.
        width: columns of pixels.
        channels: 1 for grey, 3 for colour.
    """

    height: int
    width: int
    channels: int


def _header(image: Encoded) -> Header:
    from PIL import Image

    if image.content is None:
        raise SpecError([f"every image must be readable, but {image.where} is missing"])
    if isinstance(image.content, np.ndarray):
        return Header(*image.content.shape)
    try:
        with Image.open(io.BytesIO(image.content)) as opened:
            return Header(opened.height, opened.width, 1 if opened.mode in _GREY else 3)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        why = f"({len(image.content)} bytes: {type(error).__name__})"
        raise SpecError([f"every image must be readable, but {image.where} cannot be decoded {why}"]) from None


@lru_cache(maxsize=16)
def layout(train: Source, test: Source) -> tuple[Header, str]:
    """Shape of a task's images as stored: that of the first training image.

    If that image is in colour, all are read in colour. If it is grey the rest is looked at too: images stay grey only
    if every one of them is.

    Args:
        train: training source.
        test: test source.

    Returns:
        Shape, and how messages name the image it is of.

    Raises:
        SpecError: the first image of either source cannot be read.
    """
    firsts, faults = [], []
    for source in dict.fromkeys((train, test)):
        try:
            image = next(source.encoded(np.zeros(1, dtype=np.int64)))
            firsts.append((_header(image), image.where))
        except SpecError as error:
            faults += error.faults
    if faults:
        raise SpecError(faults)
    header, where = firsts[0]
    if header.channels == 1 and not (_all_grey(train) and _all_grey(test)):
        header = header._replace(channels=3)
    return header, where


@lru_cache(maxsize=16)
def _all_grey(source: Source) -> bool:
    for image in source.encoded(np.arange(source.rows)):
        try:
            if _header(image).channels != 1:
                return False
        except SpecError:
            continue  # told, with its place, if it is ever decoded
    return True
