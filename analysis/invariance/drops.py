"""One drop of the learning rate or of the weight decay, run by run, as the test of drops takes it."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.courses import Course, Network
from analysis.invariance.drop import LR, WEIGHT_DECAY

__all__ = ["drops_of"]

Floats = npt.NDArray[np.float64]

_SAME = 1e-9
_MEASURED = {"elr": "effective_lr", "angle": "angle", "noise": "unit_grad_norm_sq"}


def drops_of(network: Network) -> pd.DataFrame:
    """Runs with exactly one drop, of one of the two.

    Args:
        network: one of the study's.

    Returns:
        One row per run: `arm, factor, seed, loss_end`, and for each layer L `elr_before:L, elr_after:L, elr_end:L,
        angle_before:L, angle_end:L, noise_before:L, noise_end:L`: means over the last 30 % before the drop, over the
        first recorded interval after it, and over the last 30 % of the schedule.
    """
    epochs, trace = network.epochs, network.trace
    trace = trace[trace["key"].isin(_MEASURED.values()) & trace["group"].isin(network.layers)]
    losses = {str(key): group for key, group in epochs.groupby("member_id", observed=True)}
    courses = dict(iter(trace.groupby(["member_id", "group", "key"], observed=True)))
    rows = []
    for course in network.courses:
        kind = _kind(course)
        if kind is None or course.status != "completed" or course.member_id not in losses:
            continue
        arm, factor = kind
        before, after = course.schedule.levels
        own = losses[course.member_id]
        row: dict[str, object] = {
            "arm": arm,
            "factor": factor,
            "seed": course.unit,
            "loss_end": own.loc[own["step"] > after.tail, "train_loss"].mean(),
        }
        for layer in network.layers:
            for name, key in _MEASURED.items():
                rows_of = courses.get((course.member_id, layer, key))
                step, value = _arrays(rows_of)
                row[f"{name}_before:{layer}"] = _mean(value[(step > before.tail) & (step <= before.stop)], name)
                row[f"{name}_end:{layer}"] = _mean(value[step > after.tail], name)
                if name == "elr":
                    row[f"elr_after:{layer}"] = _mean(value[step > after.start][:1], name)
        rows.append(row)
    return pd.DataFrame(rows)


def _kind(course: Course) -> tuple[str, float] | None:
    """Which of the two drops, and by which factor; None for any other schedule."""
    decays, levels = course.schedule.decays, course.schedule.levels
    if len(decays) != 1 or len(levels) != 2 or levels[1].kick != 1 or levels[0].weight_decay <= 0:
        return None
    (decay,) = decays
    if abs(decay.wd_factor - 1) <= _SAME:
        return LR, decay.lr_factor
    if abs(decay.lr_factor - 1) <= _SAME and decay.wd_factor > 0:
        return WEIGHT_DECAY, decay.wd_factor
    return None


def _arrays(rows: pd.DataFrame | None) -> tuple[Floats, Floats]:
    if rows is None:
        return np.empty(0), np.empty(0)
    return rows["step"].to_numpy(dtype=np.float64), rows["value"].to_numpy(dtype=np.float64)


def _mean(values: Floats, name: str) -> float:
    """The mean; of angles the root mean square. NaN of nothing."""
    if not len(values):
        return float("nan")
    return float(np.sqrt((values**2).mean()) if name == "angle" else values.mean())
