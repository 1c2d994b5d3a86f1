"""The report: one self-contained page, figures as PNG and SVG, tables as CSV, and `answer.json`, in DIR/report."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.band_report import band_content
from analysis.content import Content
from analysis.decay.report import decay_content
from analysis.invariance.report import invariance_content
from analysis.study import Study, load_study
from trainables.spec import SpecError

__all__ = ["CONTENTS", "Answer", "write_report"]

CONTENTS: Mapping[str, Callable[[Study], Content]] = {
    "band": band_content,
    "invariance": invariance_content,
    "decay": decay_content,
}
"""What makes the report of each kind of study; the kind is the sweep file's `analysis.kind`."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study says.

    Attributes:
        sentence: the answer in words.
        data: `answer.json`.
        page: where the report is.
    """

    sentence: str
    data: dict[str, Any]
    page: Path


def write_report(directory: Path) -> Answer:
    """Analyse a results folder, finished or not, and write DIR/report.

    The new report is written beside and takes the old one's place when it is whole.

    Args:
        directory: the results folder.

    Returns:
        The answer.

    Raises:
        SpecError: the folder cannot be read or written, or its kind of study is not known.
    """
    study = load_study(Path(directory))
    make = CONTENTS.get(study.kind)
    if make is None:
        raise SpecError([f"analysis.kind must be one of {', '.join(CONTENTS)}; the sweep has {study.kind!r}"])
    content = make(study)
    beside = study.directory / f".report.{os.getpid()}"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        _write(beside, content)
        _swap(beside, study.directory / "report")
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        place = str(study.directory)
        fault = f"the report is written into the results folder; {place!r} refused it ({error}): space, write access?"
        raise SpecError([fault]) from None
    return Answer(sentence=content.sentence, data=dict(content.data), page=study.directory / "report" / "index.html")


def _write(folder: Path, content: Content) -> None:
    for name, held in content.files.items():
        (folder / name).write_bytes(held)
    (folder / "answer.json").write_text(json.dumps(content.data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(content.html, encoding="utf-8")


def _swap(new: Path, place: Path) -> None:
    """Put a finished folder in another's place."""
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        place.replace(old)
    new.replace(place)
    shutil.rmtree(old, ignore_errors=True)
