"""The page of a band study: findings as the words and cells that the template lays out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.arms import lr_text
from analysis.estimates import Estimate
from analysis.exhibit import Exhibit
from analysis.findings import Findings
from analysis.page import Remark, render, shown
from analysis.regimes import Regime
from analysis.study import Study
from analysis.words import gain_words, margin_words, percent, sentence

__all__ = ["page", "section"]

_NONE = "\N{EN DASH}"


def section(found: Findings, exhibits: Sequence[Exhibit], notes: Sequence[str]) -> dict[str, Any]:
    """One arm's part of the page.

    Args:
        found: the arm's findings.
        exhibits: its figures.
        notes: what could not be shown and why, one sentence each.

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
        "notes": notes,
        "exhibits": [shown(exhibit) for exhibit in exhibits],
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
    return render(
        "report.html.j2",
        study,
        sentence=data["sentence"],
        warnings=_few_seeds(headline.seeds),
        facts=_facts(study, headline),
        data=data,
        headline=headline,
        sections=sections,
        settings=study.settings,
        margin=margin_words(study.settings.margin),
        chosen_on=headline.qualities.chosen_on,
        unit="data draws" if headline.clusters < headline.seeds else "seeds",
    )


def _few_seeds(seeds: int) -> list[Remark]:
    if seeds > 5:
        return []
    text = "intervals of means are Student's and wide for that reason; look at the points, not at the curves."
    return [(f"{seeds} seed{'s' if seeds != 1 else ''} only:", text)]


def _facts(study: Study, headline: Findings) -> list[Remark]:
    draws = f" on {headline.clusters} data draws" if headline.clusters < headline.seeds else ""
    return [
        (f"{headline.seeds}{draws}", "seeds, each at every learning rate"),
        (f"{headline.arm.budget:,}", "steps of the first phase: the budget the regimes belong to"),
        (f"{len(study.tables.members):,}", "trained networks"),
        (f"{study.member_steps:,}", "member-steps, the cost"),
        (f"{100 * study.settings.confidence:g} %", "coverage of every interval over seeds"),
    ]


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
                "n_eff": _number(row.n_eff) if row else _NONE,
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


def _number(estimate: Estimate) -> str:
    """A number with its interval, to one digit."""
    if not np.isfinite(estimate.value):
        return _NONE
    interval = f" [{estimate.low:.1f}, {estimate.high:.1f}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:.1f}{interval}"


def _accuracy(error: Estimate) -> Estimate:
    return Estimate(1 - error.value, 1 - error.high, 1 - error.low, error.n, error.confidence)
