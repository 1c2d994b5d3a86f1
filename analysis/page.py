"""The report's page: findings as the words and cells that the template lays out."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import lr_text
from analysis.estimates import Estimate
from analysis.exhibits import Exhibit
from analysis.findings import Findings
from analysis.regimes import Regime
from analysis.study import Study
from analysis.words import gain_words, margin_words, percent, sentence

__all__ = ["csv_bytes", "page", "section"]

_NONE = "\N{EN DASH}"


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV, numbers to 8 digits."""
    text: str = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    return text.encode()


def section(found: Findings, shown: Sequence[Exhibit], note: str) -> dict[str, Any]:
    """One arm's part of the page.

    Args:
        found: the arm's findings.
        shown: its exhibits.
        note: a sentence on what could not be shown; may be empty.

    Returns:
        What the template needs.
    """
    return {
        "title": found.arm.label or "Results",
        "sentence": sentence(found),
        "names": found.qualities.names,
        "metric": found.metric,
        "features": bool(found.feature_rows),
        "rows": _rows(found),
        "groups": _groups(found),
        "gains": _gains(found),
        "note": note,
        "exhibits": [
            {
                "name": exhibit.name,
                "title": exhibit.title,
                "caption": exhibit.caption,
                "image": _inline(exhibit.drawing.svg),
                "csv": _inline(csv_bytes(exhibit.table)),
            }
            for exhibit in shown
        ],
    }


def page(study: Study, headline: Findings, sections: list[dict[str, Any]], data: Mapping[str, Any]) -> str:
    """The whole page, with nothing outside it.

    Args:
        study: the study.
        headline: findings of the arm that gives the answer.
        sections: from `section`, the headline's first.
        data: `answer.json`.

    Returns:
        HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    manifest = study.tables.manifest
    environment = Environment(
        loader=PackageLoader("analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        name=study.sweep.get("name") or study.directory.name,
        question=study.sweep.get("question") or "",
        source=study.sweep.get("source") or "",
        sentence=data["sentence"],
        headline=headline,
        sections=sections,
        member_steps=study.member_steps,
        members=len(study.tables.members),
        by_status=study.by_status,
        unfinished=study.by_status.get("running", 0) + study.by_status.get("failed", 0),
        settings=study.settings,
        margin=margin_words(study.settings.margin),
        chosen_on=headline.qualities.chosen_on,
        unit="data draws" if headline.clusters < headline.seeds else "seeds",
        facts=_facts(manifest),
        command=_command(manifest.get("command_line")),
        answer=_inline(json.dumps(data, indent=1, allow_nan=False).encode()),
    )


def _rows(found: Findings) -> list[dict[str, Any]]:
    """The table of learning rates."""
    rows = []
    features = {row.lr: row for row in found.feature_rows}
    band = found.band
    for place, lr in enumerate(map(float, found.arm.lrs)):
        codes = found.codes[:, place]
        known = codes[codes != Regime.UNKNOWN]
        losses = found.end.loss[:, place]
        losses = losses[np.isfinite(losses)]
        row = features.get(lr)
        rows.append(
            {
                "lr": lr_text(lr),
                "in_band": band is not None and band.low <= lr <= band.high,
                "is_optimum": band is not None and band.optimum_lr == lr,
                "regime": "/".join(str(int(regime) + 1) for regime in np.unique(known)) or _NONE,
                "converged": f"{int((known == Regime.CONVERGENCE).sum())}/{len(known)}",
                "loss": f"{losses.mean():.2g}" if len(losses) else _NONE,
                "accuracy": [percent(_accuracy(found.curves[name][place])) for name in found.qualities.names],
                "locked": percent(row.locked, 0) if row else _NONE,
                "given": (percent(row.accuracy_locked), percent(row.accuracy_free)) if row else (_NONE, _NONE),
                "n_eff": f"{row.n_eff.value:.1f}" if row else _NONE,
            }
        )
    return rows


def _gains(found: Findings) -> list[dict[str, Any]]:
    """The table of gains."""
    return [
        {
            "quality": name,
            "rival": lr_text(gain.rival_lr),
            "base": f"{found.qualities.names[gain.base_quality]} from {lr_text(gain.base_lr)}",
            "words": gain_words(gain, found.seeds),
            "naive": f"{100 * gain.naive:+.1f}",
            "is_metric": name == found.metric,
        }
        for name, gain in found.gains.items()
    ]


def _groups(found: Findings) -> list[dict[str, str]]:
    """Learning rates at which the metric's outcomes fall into two groups."""
    return [
        {
            "lr": lr_text(float(found.arm.lrs[place])),
            "high": f"{100 * mixture.high:.1f}",
            "low": f"{100 * mixture.low:.1f}",
            "share": f"{100 * mixture.share_high:.0f}",
            "n": str(mixture.n),
        }
        for place, mixture in found.mixtures.items()
        if mixture.bimodal
    ]


def _accuracy(error: Estimate) -> Estimate:
    return Estimate(1 - error.value, 1 - error.high, 1 - error.low, error.n, error.confidence)


def _facts(manifest: Mapping[str, Any]) -> list[str]:
    """Provenance, one short statement each."""
    single = [("created", "created"), ("executor", "executor"), ("git_commit", "commit")]
    facts = [f"{word} {manifest[key]}" for key, word in single if manifest.get(key)]
    for key in ("versions", "device"):
        several = manifest.get(key) or {}
        facts += [f"{name} {value}" for name, value in several.items() if value is not None]
    return facts


def _command(line: object) -> str:
    return " ".join(map(str, line)) if isinstance(line, list) else str(line or "")


def _inline(content: bytes) -> str:
    return base64.b64encode(content).decode()
