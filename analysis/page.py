"""What all pages share: question, answer, warnings, facts and where the numbers came from."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.exhibit import Exhibit, csv_bytes
from analysis.study import Study

__all__ = ["Remark", "inline", "render", "shown"]

Remark = tuple[str, str]
"""A few words or a number that stand out, and the text that goes with them."""


def render(
    template: str,
    study: Study,
    *,
    sentence: str,
    warnings: Sequence[Remark],
    facts: Sequence[Remark],
    data: Mapping[str, Any],
    **own: Any,
) -> str:
    """A page, with nothing outside it.

    Args:
        template: file in `analysis/templates`; it extends `base.html.j2`.
        study: the study.
        sentence: the answer in words.
        warnings: what a reader must know before believing it; members that have not finished are told of anyway.
        facts: numbers that stand out, each with what it counts.
        data: `answer.json`.
        own: what the template needs beside these.

    Returns:
        HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    manifest = study.tables.manifest
    return environment.get_template(template).render(
        name=study.sweep.get("name") or study.directory.name,
        question=study.sweep.get("question") or "",
        source=study.sweep.get("source") or "",
        sentence=sentence,
        warnings=[*_unfinished(study), *warnings],
        facts=facts,
        command=_command(manifest.get("command_line")),
        provenance=_provenance(manifest),
        answer=inline(json.dumps(data, indent=1, allow_nan=False).encode()),
        **own,
    )


def shown(exhibit: Exhibit) -> dict[str, str]:
    """An exhibit as the templates lay it out."""
    return {
        "name": exhibit.name,
        "title": exhibit.title,
        "caption": exhibit.caption,
        "image": inline(exhibit.drawing.svg),
        "csv": inline(csv_bytes(exhibit.table)),
    }


def inline(content: bytes) -> str:
    """Bytes as a data address holds them."""
    return base64.b64encode(content).decode()


def _unfinished(study: Study) -> list[Remark]:
    if not any(study.by_status.get(status) for status in ("running", "failed")):
        return []
    counts = ", ".join(f"{count} {status}" for status, count in study.by_status.items())
    members = len(study.tables.members)
    return [("Not finished:", f"{counts} of {members} members. Every number below is from what is there so far.")]


def _provenance(manifest: Mapping[str, Any]) -> list[str]:
    """Where the numbers came from, one short statement each."""
    single = [("created", "created"), ("executor", "executor"), ("git_commit", "commit")]
    facts = [f"{word} {manifest[key]}" for key, word in single if manifest.get(key)]
    for key in ("versions", "device"):
        several = manifest.get(key) or {}
        facts += [f"{name} {value}" for name, value in several.items() if value is not None]
    return facts


def _command(line: object) -> str:
    return " ".join(map(str, line)) if isinstance(line, list) else str(line or "")
