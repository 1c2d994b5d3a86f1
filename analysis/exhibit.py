"""A figure as the report shows it, and the files it becomes."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from analysis.figures.style import Drawing

__all__ = ["Exhibit", "csv_bytes", "exhibit_files"]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure with its data.

    Attributes:
        name: file name without ending.
        title: heading.
        caption: how to read it: every number of seeds and every rule needed for that.
        drawing: the picture.
        table: what is drawn, as data; errors are fractions.
    """

    name: str
    title: str
    caption: str
    drawing: Drawing
    table: pd.DataFrame


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV, numbers to 8 digits."""
    text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    return text.encode()


def exhibit_files(shown: Iterable[Exhibit]) -> dict[str, bytes]:
    """Exhibits as files: each figure as PNG and SVG, its data as CSV.

    Args:
        shown: the exhibits.

    Returns:
        Content by file name.
    """
    files = {}
    for exhibit in shown:
        files[f"{exhibit.name}.png"] = exhibit.drawing.png
        files[f"{exhibit.name}.svg"] = exhibit.drawing.svg
        files[f"{exhibit.name}.csv"] = csv_bytes(exhibit.table)
    return files
