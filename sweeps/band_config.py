"""From an answer to settings: what an engineer puts into their own training script."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["advice", "recommended", "snippet"]

_SAME = 0.01
"""Rates in an answer's names are written with three digits."""


def recommended(sweep: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings that led to the best final solution.

    Args:
        sweep: the resolved sweep, as the manifest holds it.
        answer: content of answer.json.

    Returns:
        Settings by name, and the whole sweep; None where no solution was finished.
    """
    best, quality = answer.get("optimum_lr"), str(answer.get("quality"))
    if best is None:
        return None
    first, *later = sweep["phases"]
    train = sweep["train"]
    at, _, rate = quality.partition("@")
    finetuned = next((phase for phase in later if phase["name"] == at), None)
    swa = first.get("swa") or {}
    row = next(row for row in answer["table"] if math.isclose(row["lr"], best, rel_tol=1e-9))
    config: dict[str, Any] = {
        "optimizer": train.get("optimizer", "sgd"),
        "initial_lr": best,
        "initial_lr_band": answer["band"],
        "decay_at_step": first["steps"] if finetuned else None,
        "decayed_lr": _exact(float(rate), sweep, at, finetuned) if finetuned else None,
        "total_steps": first["steps"] + (finetuned["steps"] if finetuned else 0),
        "average_last": {"weights": int(rate), "every": swa["every"]} if at == "swa" else None,
        "weight_decay": train.get("weight_decay", 0.0),
        "batch_size": train.get("batch_size"),
        "error": row["error"][quality]["value"],
        "quality": quality,
    }
    if config["optimizer"] == "sgd":
        config["momentum"] = train.get("momentum", 0.0)
    return {**config, "sweep": dict(sweep)}


def snippet(config: Mapping[str, Any]) -> list[str]:
    """The settings as lines of Python and words.

    Args:
        config: what `recommended` returned.

    Returns:
        Lines to print.
    """
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[config["optimizer"]]
    momentum = f", momentum={config['momentum']:g}" if config.get("momentum") else ""
    lr, decay = config["initial_lr"], config["weight_decay"]
    lines = [f"optimizer = torch.optim.{kind}(model.parameters(), lr={lr:.3g}{momentum}, weight_decay={decay:g})"]
    if config["decay_at_step"] is not None:
        steps, rest = config["decay_at_step"], config["total_steps"] - config["decay_at_step"]
        lines.append(
            f"{steps:,} steps in batches of {config['batch_size']}, then lr = {config['decayed_lr']:.3g} for "
            f"{rest:,} more"
        )
    else:
        lines.append(f"{config['total_steps']:,} steps in batches of {config['batch_size']}, the rate held constant")
    if config["average_last"]:
        kept = config["average_last"]
        lines.append(
            f"average the last {kept['weights']} weights, one every {kept['every']} steps "
            "(torch.optim.swa_utils), and re-estimate the norm statistics"
        )
    low, high = config["initial_lr_band"]
    lines.append(f"any initial rate from {low:.3g} to {high:.3g} is nearly as good")
    return lines


def advice(answer: Mapping[str, Any]) -> Iterator[str]:
    """What to do next where the answer is not the last word.

    Args:
        answer: content of answer.json.

    Yields:
        One sentence each.
    """
    best, lrs = answer.get("optimum_lr"), [row["lr"] for row in answer.get("table", ())]
    if best is None or not lrs:
        return
    if best == lrs[0]:
        yield f"the best rate is the lowest of the grid; look further down: --lr-low {lrs[0] / 10:.3g}"
    if best == lrs[-1]:
        yield f"the best rate is the highest of the grid; look further up: --lr-high {lrs[-1] * 10:.3g}"
    if answer.get("convergence_threshold") == 0:
        yield (
            "no rate converged in this time (train loss below the sweep's analysis.converged_loss), so nothing can be "
            "said about a gain over converging rates; give more --steps if your own training has more"
        )
    if answer.get("gain_verdict") == "unknown" and answer.get("n_seeds", 0) < 3:
        yield f"{answer.get('n_seeds')} seeds are too few for intervals; give a larger --budget or --seeds 3"
    if answer.get("chosen_on") == "test":
        yield "rates were chosen on the test split; give the task a validation split to keep the test split clean"


def _exact(rate: float, sweep: Mapping[str, Any], name: str, phase: Mapping[str, Any]) -> float:
    """A small rate as the sweep has it, from its name in the answer."""
    axis = sweep["axes"].get(f"{name}_lr") or {}
    legal = [phase["lr"]] if phase.get("lr") else axis.get("values") or []
    return next((float(lr) for lr in legal if math.isclose(lr, rate, rel_tol=_SAME)), rate)
