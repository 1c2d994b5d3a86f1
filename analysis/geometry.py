"""How far apart the solutions of one pre-training lie: angles and barriers on the straight line between them.

From each pre-trained network come a solution fine-tuned at the lowest rate, one at the highest, and an average of
weights. The barrier of a pair is the largest excess over the chord, max over alpha of E((1 - alpha) A + alpha B) -
(1 - alpha) E(A) - alpha E(B) (`analysis.landscape.barriers`). Where training was held to a sphere each mixture is
scaled back to it, and norm statistics are re-estimated at every point where the model has any.
"""

from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from analysis.arms import Arm
from analysis.kept import architecture, load
from analysis.landscape.barriers import Definition
from analysis.landscape.line import GRID, ROUNDS
from analysis.landscape.points import PathNorms, PointEvaluator, Points
from analysis.pair_rows import MeasuredPair, SolutionFault, barriers_of, measure_pairs
from analysis.pairs import pair_table, solutions_of
from trainables.spec import SpecError

if TYPE_CHECKING:
    from trainables.checkpoint import Checkpoints
    from trainables.spec import Recipe

__all__ = ["geometry", "measure"]

_POINTS = GRID + 3 * ROUNDS
"""Points judged of a pair, refinement included: what is typical, for estimates of time."""


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
        pair` and those of `measure`. None where no member has two solutions with weights.

    Raises:
        SpecError: not even one seed can be measured in that time, or no solution can be used.
    """
    table = pair_table(arm, checkpoints.entries(), solutions_of(arm), seeds_per_rate=seeds_per_rate)
    if table.empty:
        return None
    recipe = _usual_recipe(checkpoints, table)
    evaluator = _evaluator(recipe, arm)
    if seconds is not None:
        each = _POINTS * _seconds_per_point(evaluator, checkpoints, table)
        table = _affordable(table, each, seconds)
    measured, faults = measure(evaluator, checkpoints, table, recipe.sphere_radius)
    if measured.empty:
        raise SpecError([faults[0].sentence])
    kept = measured.drop(columns=["member_id", "group", "other_member_id", "other_group"])
    return kept.rename(columns={"pretrain_id": "member_id"})


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
    evaluator: Points,
    checkpoints: "Checkpoints",
    table: pd.DataFrame,
    radius: float | None,
    *,
    points: int = GRID,
    rounds: int = ROUNDS,
    norms: PathNorms = PathNorms.REESTIMATED,
) -> tuple[pd.DataFrame, list[SolutionFault]]:
    """Angles and barriers of pairs.

    Args:
        evaluator: judges weights.
        checkpoints: holds them.
        table: one row for each pair: `member_id, group, other_member_id, other_group, data_seed` and whatever else
            shall be kept.
        radius: norm of the scale-invariant weights; None leaves mixtures as they are.
        points: on each line before the maxima are refined, both ends included.
        rounds: halvings around each maximum.
        norms: the statistics of batch norms.

    Returns:
        The rows whose solutions can be used, with the columns `angle` (radians) and `train_error, train_loss,
        test_error, test_loss` (chord barriers; fractions and nats), each also with `_se` (standard error over samples),
        `_at` (share of the second solution at the maximum), `_mean` and `_worse` (the other definitions); and the
        solutions that cannot be used.
    """
    faults: list[SolutionFault] = []
    positions, columns = [], []
    for found in measure_pairs(evaluator, checkpoints, table, radius=radius, points=points, rounds=rounds, norms=norms):
        if isinstance(found, SolutionFault):
            faults.append(found)
        else:
            positions.append(found.position)
            columns.append(_columns(found))
    values = pd.DataFrame(columns, index=table.index[positions])
    return table.iloc[positions].join(values).reset_index(drop=True), faults


def _columns(found: MeasuredPair) -> dict[str, float]:
    columns = {"angle": found.angle}
    for split, kind, definition, barrier in barriers_of(found.line):
        name = f"{split}_{kind}"
        if definition is Definition.CHORD:
            columns |= {name: barrier.value, f"{name}_se": barrier.standard_error, f"{name}_at": barrier.at}
        else:
            columns[f"{name}_{definition}"] = barrier.value
    return columns


def _usual_recipe(checkpoints: "Checkpoints", table: pd.DataFrame) -> "Recipe":
    """The recipe that most solutions come from: a foreign one among them must not decide."""
    keys = list(zip(table["member_id"], table["group"], strict=True))
    counts = Counter(architecture(checkpoints, key) for key in keys)
    usual = counts.most_common(1)[0][0]
    return checkpoints.recipe(next(key for key in keys if architecture(checkpoints, key) == usual))


def _seconds_per_point(evaluator: PointEvaluator, checkpoints: "Checkpoints", table: pd.DataFrame) -> float:
    """Of the first solution that can be used; 0 where none can."""
    for member, group, draw in zip(table["member_id"], table["group"], table["data_seed"], strict=True):
        loaded = load(checkpoints, [(member, group)], evaluator.shapes)
        if loaded.rows:
            return evaluator.seconds_per_solution(loaded.weights, int(draw))
    return 0.0


def _evaluator(recipe: "Recipe", arm: Arm) -> PointEvaluator:
    from trainables.evaluate import Evaluator

    return Evaluator(recipe, sorted({int(seed) for seed in arm.data_seeds}))
