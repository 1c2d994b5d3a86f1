"""`answer.json` of an invariance study: verdicts and the numbers behind them."""

from typing import Any

from analysis.invariance.cells import cells_of, seeds_by_cell
from analysis.invariance.find import InvarianceFindings, NetworkFindings
from analysis.invariance.words import network_sentence, sentence

__all__ = ["invariance_answer"]


def invariance_answer(found: InvarianceFindings) -> dict[str, Any]:
    """The whole study's answer.

    Args:
        found: the findings.

    Returns:
        `verdict` and `tests` of the headline's network, `arms` with every network's, the control's p-value.
    """
    study = found.study
    data: dict[str, Any] = {
        "name": study.sweep.get("name"),
        "question": study.sweep.get("question"),
        "sentence": sentence(found),
        **_of_network(found.headline),
        "control_p": found.control_p,
        "member_steps": study.member_steps,
        "by_status": study.by_status,
        "confidence": study.settings.confidence,
    }
    if len(found.networks) > 1:
        data["arm"] = dict(found.headline.network.axes)
        data["arms"] = [
            {"arm": dict(each.network.axes), "sentence": network_sentence(each), **_of_network(each)}
            for each in found.networks
        ]
    return data


def _of_network(found: NetworkFindings) -> dict[str, Any]:
    table = found.runs.table
    return {
        "verdict": str(found.verdict.verdict) if found.verdict else None,
        "reason": found.verdict.reason if found.verdict else "the negative control",
        "tests": {test.key: test.as_json() for test in found.tests},
        "confounders": [each.as_json() for each in found.confounders],
        "n_seeds": min(seeds_by_cell(table), default=0),
        "runs": len(table),
        "runs_too_short": len(found.runs.short),
        "runs_lost": found.runs.lost,
        "cells": _cells(found),
    }


def _cells(found: NetworkFindings) -> list[dict[str, Any]]:
    """Means of every cell."""
    table, confidence = found.runs.table, found.network.study.settings.confidence
    metrics = [name for name in table.columns if name in ("loss", "error") or ":" in name]
    return [
        {
            "intrinsic_lr": cell.intrinsic_lr,
            "ratio": cell.ratio,
            "start_scale": cell.start_scale,
            "lr": cell.lr,
            "weight_decay": cell.weight_decay,
            **{name: estimate.as_json() for name, estimate in cell.means.items()},
        }
        for cell in cells_of(table, metrics, confidence)
    ]
