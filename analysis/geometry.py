"""How far apart the solutions of one pre-training lie: angles and barriers on the straight line between them.

From each pre-trained network come a solution fine-tuned at the lowest rate, one at the highest, and an average of
weights. The error barrier of a pair is the largest excess of the error over the chord, max over alpha of E((1 -
alpha) A + alpha B) - (1 - alpha) E(A) - alpha E(B) on 11 points, cut at 0; the loss barrier likewise. Where training
was held to a sphere each mixture is scaled back to it, and norm statistics are re-estimated where the model has any.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import FINAL, Arm
from trainables.spec import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.checkpoint import Checkpoints
    from trainables.evaluate import Evaluation
    from trainables.spec import Recipe

__all__ = ["PointEvaluator", "geometry", "pairs_of", "solutions_of"]

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, "Tensor"]

POINTS = 11
_ELEMENTS = 1 << 24
"""Weights mixed at once: bounds the memory that a batch of mixtures takes (64 MB in float32)."""


class PointEvaluator(Protocol):
    """What geometry needs of `trainables.evaluate.Evaluator`."""

    @property
    def scale_invariant(self) -> tuple[str, ...]:
        """Names of the scale-invariant parameters."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the trained parameters."""

    def __call__(self, weights: Weights, data_seeds: list[int], split: str) -> "Evaluation":
        """Loss and error of each row of `weights`."""

    def reestimate_norms(self, weights: Weights, data_seeds: list[int]) -> None:
        """Recompute norm statistics in place."""

    def seconds_per_solution(self, weights: Weights, data_seed: int) -> float:
        """About how long one solution takes on the training and test splits."""


def solutions_of(arm: Arm) -> dict[str, tuple[str, str]]:
    """The solutions to compare.

    Args:
        arm: an arm of a study.

    Returns:
        `low`, `high`, `swa` (the largest window) and, without a later phase, `end`, each as (quality of the member
        that holds it, group of weights).
    """
    tuned = [name for name in arm.qualities if name != FINAL and not name.startswith("swa@")]
    averages = [name for name in arm.qualities if name.startswith("swa@")]
    found = {"low": (tuned[0], "end")} if tuned else {"end": (FINAL, "end")}
    if len(tuned) > 1:
        found["high"] = (tuned[-1], "end")
    if averages:
        found["swa"] = (FINAL, averages[-1])
    return found


def pairs_of(arm: Arm) -> list[str]:
    """Names of the pairs compared, such as `low-high`."""
    return [f"{a}-{b}" for a, b in combinations(solutions_of(arm), 2)]


def geometry(
    arm: Arm, checkpoints: "Checkpoints", *, seeds_per_rate: int | None = None, seconds: float | None = None
) -> pd.DataFrame | None:
    """Measure an arm's solutions from its checkpoints.

    Args:
        arm: an arm of a study.
        checkpoints: of its results folder.
        seeds_per_rate: compare at most this many seeds at each learning rate; None compares all.
        seconds: time it may take; where all would take longer, fewer seeds, then only the first pair, are measured.

    Returns:
        One row for each pre-trained member and pair, with the columns `member_id, lr, data_seed, seed, unit, place,
        pair, angle` (radians) and `train_error, train_loss, test_error, test_loss` (barriers; errors as fractions).
        None where no member has two solutions with weights.

    Raises:
        SpecError: not even one seed can be measured in that time.
    """
    table = _keys(arm, checkpoints, seeds_per_rate)
    if table.empty:
        return None
    first = (table.iloc[0]["key_0"], table.iloc[0]["group_0"])
    evaluator = _evaluator(checkpoints.recipe(first), arm)
    radius = checkpoints.recipe(first).sphere_radius
    one = checkpoints.weights([first])
    if seconds is not None:
        each = POINTS * evaluator.seconds_per_solution(one, int(table.iloc[0]["data_seed"]))
        table = _affordable(table, each, seconds)
    size = sum(tensor.numel() for tensor in one.values())
    chunk = max(1, _ELEMENTS // (size * (POINTS - 2)))
    parts = [
        measure(evaluator, checkpoints, table.iloc[start : start + chunk], radius)
        for start in range(0, len(table), chunk)
    ]
    return pd.concat(parts, ignore_index=True)


def _affordable(table: pd.DataFrame, each: float, seconds: float) -> pd.DataFrame:
    """As many seeds as can be measured in time, `each` seconds a pair; with one pair only where all take too long."""
    units = sorted(set(table["unit"]), reverse=True)
    for part in (table, table[table["pair"] == table["pair"].iloc[0]]):
        for last in units:
            chosen = part[part["unit"] <= last]
            if len(chosen) * each <= seconds:
                return chosen  # type: ignore[no-any-return]
    raise SpecError(
        [
            f"one seed takes about {len(chosen) * each / 60:,.0f} minutes here, more than a report waits for; "
            "`python -m analysis geometry DIR` measures all of them"
        ]
    )


def measure(
    evaluator: PointEvaluator, checkpoints: "Checkpoints", table: pd.DataFrame, radius: float | None
) -> pd.DataFrame:
    """Angles and barriers of a batch of pairs.

    Args:
        evaluator: evaluates stacked weights.
        checkpoints: holds the weights.
        table: one row for each pair: `key_0, group_0, key_1, group_1, data_seed` and whatever else shall be kept.
        radius: norm of the scale-invariant weights; None leaves mixtures as they are.

    Returns:
        `table` with angles and barriers.
    """
    seeds = [int(seed) for seed in table["data_seed"]]
    ends = [
        checkpoints.weights(list(zip(table[f"key_{side}"], table[f"group_{side}"], strict=True))) for side in (0, 1)
    ]
    alphas = np.linspace(0, 1, POINTS)
    inner = [_mix(ends[0], ends[1], float(alpha), evaluator.scale_invariant, radius) for alpha in alphas[1:-1]]
    stacked = _concatenate([ends[0], *inner, ends[1]])
    evaluator.reestimate_norms(stacked, seeds * POINTS)
    columns: dict[str, Floats] = {"angle": _angles(ends[0], ends[1], evaluator.scale_invariant or evaluator.trained)}
    for split in ("train", "test"):
        found = evaluator(stacked, seeds * POINTS, split)
        for kind, values in (("error", found.error), ("loss", found.loss)):
            curve = values.double().numpy().reshape(POINTS, len(table))
            columns[f"{split}_{kind}"] = barrier(curve, alphas)
    kept = table.drop(columns=["key_0", "key_1", "group_0", "group_1"])
    return kept.assign(**columns)


def barrier(curve: Floats, alphas: Floats) -> Floats:
    """Largest excess over the chord.

    Args:
        curve: [points, n] values along n lines.
        alphas: [points] from 0 to 1.

    Returns:
        [n] barriers, at least 0.
    """
    chord = (1 - alphas[:, None]) * curve[0] + alphas[:, None] * curve[-1]
    height: Floats = np.maximum((curve - chord).max(axis=0), 0.0)
    return height


def _evaluator(recipe: "Recipe", arm: Arm) -> PointEvaluator:
    from trainables.evaluate import Evaluator

    return Evaluator(recipe, sorted({int(seed) for seed in arm.data_seeds}))


def _keys(arm: Arm, checkpoints: "Checkpoints", seeds_per_rate: int | None) -> pd.DataFrame:
    """One row for each pair of solutions whose weights were kept."""
    kept = set(checkpoints.entries())
    members = arm.members[arm.members["status"] == "completed"]
    ids = {
        (quality, unit, place): member
        for quality, unit, place, member in zip(
            members["quality"], members["unit"], members["place"], members["member_id"], strict=True
        )
    }
    rows = []
    for unit, place, member in zip(arm.pretrain["unit"], arm.pretrain["place"], arm.pretrain["member_id"], strict=True):
        if seeds_per_rate is not None and unit >= seeds_per_rate:
            continue
        keys = {name: (ids.get((quality, unit, place)), group) for name, (quality, group) in solutions_of(arm).items()}
        common = {
            "member_id": member,
            "lr": arm.lrs[place],
            "data_seed": arm.data_seeds[unit],
            "seed": arm.seeds[unit],
            "unit": unit,
            "place": place,
        }
        for a, b in combinations(keys, 2):
            if keys[a] in kept and keys[b] in kept:
                sides = {"key_0": keys[a][0], "group_0": keys[a][1], "key_1": keys[b][0], "group_1": keys[b][1]}
                rows.append({**common, "pair": f"{a}-{b}", **sides})
    return pd.DataFrame(rows)


def _mix(a: Weights, b: Weights, alpha: float, names: tuple[str, ...], radius: float | None) -> dict[str, "Tensor"]:
    """(1 - alpha) A + alpha B, back on the sphere; counters are A's."""
    import torch

    mixed = {name: torch.lerp(t, b[name], alpha) if t.is_floating_point() else t.clone() for name, t in a.items()}
    if radius is None or not names:
        return mixed
    norm = torch.sqrt(sum((mixed[name].flatten(1) ** 2).sum(1) for name in names))  # type: ignore[arg-type]
    for name in names:
        mixed[name] = mixed[name] * (radius / norm).view(-1, *[1] * (mixed[name].dim() - 1))
    return mixed


def _angles(a: Weights, b: Weights, names: tuple[str, ...]) -> Floats:
    """Angle between two flattened weight vectors, in radians, [n].

    From the chord between the unit vectors, because the arc cosine of a cosine near 1 loses half the digits.
    """
    import torch

    u, v = (torch.cat([side[name].double().reshape(len(side[name]), -1) for name in names], dim=1) for side in (a, b))
    u, v = u / u.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True)
    angle: Floats = (2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))).numpy()
    return angle


def _concatenate(parts: list[Weights] | list[dict[str, "Tensor"]]) -> dict[str, "Tensor"]:
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
