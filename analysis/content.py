"""What a report consists of, whatever kind of study it is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Content"]


@dataclass(frozen=True, kw_only=True)
class Content:
    """A report that has been made and not yet written.

    Attributes:
        sentence: the answer in words.
        data: `answer.json`; no number in it is infinite or not a number.
        html: `index.html`, with nothing outside it.
        files: everything beside the page by file name: figures and tables.
    """

    sentence: str
    data: Mapping[str, Any]
    html: str
    files: Mapping[str, bytes]
