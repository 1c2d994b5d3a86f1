"""How long the weights need to reach equilibrium at the initial rates, and whether the schedules wait for it."""

import pandas as pd

from analysis.arms import lr_text
from analysis.decay.runs import DecayArm
from analysis.laws import function_steps, intrinsic_lr

__all__ = ["waits_table"]


def waits_table(arm: DecayArm, members: pd.DataFrame) -> pd.DataFrame:
    """One row for each initial learning rate and weight decay.

    Args:
        arm: its schedules are looked at.
        members: the table `members`: sizes of the training set and of batches, where they are known.

    Returns:
        Text: `initial LR, WD, intrinsic LR, steps, passes, first change`; empty where no weight decays at first.
    """
    per_epoch = _per_epoch(members)
    found: dict[tuple[float, float, float], list[int]] = {}
    for run in arm.runs:
        first = run.schedule.levels[0]
        if first.constant and first.weight_decay > 0:
            found.setdefault((first.lr, first.weight_decay, run.schedule.momentum), []).append(first.steps)
    rows = []
    for (lr, decay, momentum), lengths in sorted(found.items()):
        rate = intrinsic_lr(lr, decay, momentum)
        steps = function_steps(rate)[1]
        waiting = sum(length >= steps for length in lengths)
        rows.append(
            {
                "initial LR": lr_text(lr),
                "WD": lr_text(decay),
                "intrinsic LR": lr_text(rate),
                "steps": f"{steps:,.0f}",
                "passes": f"{steps / per_epoch:,.0f}" if per_epoch else "\N{EN DASH}",
                "first change": f"{_steps(lengths)}; {waiting} of {len(lengths)} runs wait",
            }
        )
    return pd.DataFrame(rows)


def _steps(lengths: list[int]) -> str:
    least, most = min(lengths), max(lengths)
    return f"step {least:,}" if least == most else f"steps {least:,} to {most:,}"


def _per_epoch(members: pd.DataFrame) -> float:
    """Steps in one pass; 0 where it is not known or differs."""
    if not {"train_size", "batch_size"} <= set(members):
        return 0.0
    each = (members["train_size"] // members["batch_size"]).dropna().unique()
    return float(each[0]) if len(each) == 1 else 0.0
