"""Pages made of sections: for studies that are judged test by test, or event by event, and not by a band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.exhibit import Exhibit, csv_bytes, exhibit_files
from analysis.page import Remark, inline, render, shown
from analysis.study import Study

__all__ = ["PageTable", "Section", "section_files", "sections_page"]


@dataclass(frozen=True, kw_only=True)
class PageTable:
    """A table as people read it, with its numbers beside it.

    Attributes:
        name: file name of the numbers, without ending.
        title: heading.
        caption: how to read it.
        frame: what is shown: text, cell by cell; the column names are the heads.
        data: the numbers, as the CSV holds them; None where the text is all there is.
        words: columns of `frame` that hold sentences: set left and wrapped.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    data: pd.DataFrame | None = None
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        absent = [name for name in self.words if name not in self.frame]
        if absent:
            raise ValueError(f"the table {self.name!r} has no columns {absent}")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page.

    Attributes:
        title: heading.
        sentence: what it comes to; may be empty.
        tables: shown first.
        exhibits: figures, after the tables.
        notes: what could not be shown and why, one paragraph each.
    """

    title: str
    sentence: str
    tables: tuple[PageTable, ...] = field(default=())
    exhibits: tuple[Exhibit, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())


def sections_page(
    study: Study,
    *,
    sentence: str,
    warnings: Sequence[Remark],
    facts: Sequence[Remark],
    sections: Sequence[Section],
    method_paragraphs: Sequence[Remark],
    data: Mapping[str, Any],
) -> str:
    """The whole page, with nothing outside it.

    Args:
        study: the study.
        sentence: the answer in words.
        warnings: what a reader must know before believing it, each a bold beginning and the rest; members that have
            not finished are told of anyway.
        facts: numbers that stand out, each with what it counts.
        sections: in reading order.
        method_paragraphs: how the numbers were made, each a bold beginning and the rest.
        data: `answer.json`.

    Returns:
        HTML.
    """
    return render(
        "laws.html.j2",
        study,
        sentence=sentence,
        warnings=warnings,
        facts=facts,
        data=data,
        sections=[
            {
                "title": section.title,
                "sentence": section.sentence,
                "tables": [_laid_out(table) for table in section.tables],
                "exhibits": [shown(exhibit) for exhibit in section.exhibits],
                "notes": section.notes,
            }
            for section in sections
        ],
        method=method_paragraphs,
    )


def section_files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Figures and tables of sections as files.

    Args:
        sections: those of the page.

    Returns:
        Content by file name.

    Raises:
        ValueError: two of them have the same name.
    """
    exhibits = [exhibit for section in sections for exhibit in section.exhibits]
    tables = [table for section in sections for table in section.tables if table.data is not None]
    names = [exhibit.name for exhibit in exhibits] + [table.name for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"exhibits and tables share the file names {twice}")
    return exhibit_files(exhibits) | {
        f"{table.name}.csv": csv_bytes(table.data) for table in tables if table.data is not None
    }


def _laid_out(table: PageTable) -> dict[str, Any]:
    """A table as the template needs it: heads and cells, each with its class."""
    looks = ["words" if name in table.words else "" for name in table.frame]
    return {
        "name": table.name,
        "title": table.title,
        "caption": table.caption,
        "heads": list(zip(looks, map(str, table.frame), strict=True)),
        "rows": [list(zip(looks, row, strict=True)) for row in table.frame.itertuples(index=False, name=None)],
        "csv": "" if table.data is None else inline(csv_bytes(table.data)),
    }
