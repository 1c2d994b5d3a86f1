"""Angles and barriers of many pairs of kept solutions, and the rows of the table `probes` that hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from analysis.estimates import finite_or_none
from analysis.landscape.angles import angles, compared_weights
from analysis.landscape.barriers import Barrier, Definition
from analysis.landscape.line import GRID, ROUNDS, Line, lines
from analysis.landscape.points import Points
from analysis.landscape.policy import PathNorms
from analysis.probing.kept import Key, Loaded, architecture, load
from analysis.probing.solutions import Start
from trainables.rows import ProbeRow

if TYPE_CHECKING:
    from trainables.checkpoint import Checkpoints

__all__ = ["SPLITS", "MeasuredPair", "SolutionFault", "measure_pairs", "pair_rows", "pair_table"]

SPLITS = ("train", "test")
_LOADED = 1 << 24
"""Weights of solutions in memory (64 MB in float32)."""
_JUDGED = 1 << 25
"""Losses and errors of samples in memory (128 MB in float32)."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPair:
    """What lies between two solutions.

    Attributes:
        position: the pair's row in the table.
        compared: `scale_invariant` or `trained`: the weights the angle is taken over.
        weights: how many these are.
        angle: in radians; NaN where a solution is 0.
        line: the straight line between them, on `SPLITS`.
    """

    position: int
    compared: str
    weights: int
    angle: float
    line: Line


@dataclass(frozen=True)
class SolutionFault:
    """A solution that cannot be used, and why: one sentence."""

    key: Key
    sentence: str


def pair_table(starts: Sequence[Start], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Every pair of solutions of one pre-training whose weights were kept.

    Args:
        starts: pre-trained networks with their solutions.
        pairs: names of the solutions that are compared.

    Returns:
        One row for each pair that a start has: `member_id, group` of the first solution, `other_member_id,
        other_group` of the second, `data_seed`, `pair` (both names), `unit` and `place`.
    """
    columns = ["member_id", "group", "other_member_id", "other_group", "data_seed", "pair", "unit", "place"]
    rows = []
    for start in starts:
        named = start.by_name
        for first, second in pairs:
            if first in named and second in named:
                a, b = named[first], named[second]
                rows.append((*a.key, *b.key, a.data_seed, f"{first}-{second}", start.unit, start.place))
    return pd.DataFrame(rows, columns=columns)


def measure_pairs(
    evaluator: Points,
    checkpoints: "Checkpoints",
    table: pd.DataFrame,
    *,
    radius: float | None,
    points: int = GRID,
    rounds: int = ROUNDS,
    norms: PathNorms = PathNorms.REESTIMATED,
) -> Iterator[MeasuredPair | SolutionFault]:
    """Measure pairs, as many at once as memory allows.

    Args:
        evaluator: judges weights.
        checkpoints: holds them.
        table: one row for each pair: `member_id, group, other_member_id, other_group, data_seed`.
        radius: norm of the scale-invariant weights; None leaves mixtures as they are.
        points: on each line before the maxima are refined, both ends included.
        rounds: halvings around each maximum.
        norms: the statistics of batch norms.

    Yields:
        Each pair whose solutions can be used, in the table's order, and each solution that cannot, once.
    """
    firsts: list[Key] = list(zip(table["member_id"], table["group"], strict=True))
    seconds: list[Key] = list(zip(table["other_member_id"], table["other_group"], strict=True))
    draws = [int(seed) for seed in table["data_seed"]]
    compared, names = compared_weights(evaluator)
    weights = sum(evaluator.shapes[name].numel() for name in names)
    said: set[Key] = set()
    start, at_once = 0, 1  # the first pair tells how many samples there are
    while start < len(table):
        chunk = range(start, min(start + at_once, len(table)))
        keys = [side[position] for position in chunk for side in (firsts, seconds)]
        seeds = {side[position]: draws[position] for position in chunk for side in (firsts, seconds)}
        loaded = load(checkpoints, keys, evaluator.shapes)
        faults = dict(loaded.faults)
        usable = [p for p in chunk if _comparable(checkpoints, firsts[p], seconds[p], loaded, faults)]
        yield from (SolutionFault(key, sentence) for key, sentence in faults.items() if key not in said)
        said |= set(faults)
        start = chunk.stop
        if not usable:
            continue
        pairs = [(loaded.rows[firsts[position]], loaded.rows[seconds[position]]) for position in usable]
        found = lines(
            evaluator,
            loaded.weights,
            pairs,
            data_seeds=[seeds[key] for key in loaded.rows],
            radius=radius,
            grid=points,
            rounds=rounds,
            splits=SPLITS,
            norms=norms,
        )
        turned = angles(loaded.weights, pairs, names)
        for position, angle, line in zip(usable, turned.tolist(), found, strict=True):
            yield MeasuredPair(position=position, compared=compared, weights=weights, angle=angle, line=line)
        at_once = _at_once(found, loaded)


def _comparable(checkpoints: "Checkpoints", a: Key, b: Key, loaded: Loaded, faults: dict[Key, str]) -> bool:
    if a not in loaded.rows or b not in loaded.rows:
        return False
    if architecture(checkpoints, a) == architecture(checkpoints, b):
        return True
    faults[b] = (
        f"weights {b[1]!r} of member {b[0]} were trained by another recipe than {a[1]!r} of member {a[0]}; "
        "only solutions of one task and model are compared"
    )
    return False


def _at_once(found: list[Line], loaded: Loaded) -> int:
    """How many pairs memory allows."""
    judged = max(2 * line.losses[split].size for line in found for split in SPLITS) * len(SPLITS)
    size = sum(tensor[0].numel() for tensor in loaded.weights.values())
    return max(1, min(_JUDGED // judged, _LOADED // (2 * size)))


def _barriers_of(line: Line) -> Iterator[tuple[str, str, Definition, Barrier]]:
    """Every barrier of a line, as (split, `error` or `loss`, definition, barrier)."""
    for split in SPLITS:
        for definition in Definition:
            yield split, "error", definition, line.error_barrier(split, definition)
            yield split, "loss", definition, line.loss_barrier(split, definition)


def pair_rows(
    evaluator: Points,
    checkpoints: "Checkpoints",
    table: pd.DataFrame,
    *,
    radius: float | None,
    points: int = GRID,
    rounds: int = ROUNDS,
    norms: PathNorms = PathNorms.REESTIMATED,
    attempt: int = 0,
) -> list[ProbeRow]:
    """Measure pairs of solutions as rows of the table `probes`.

    Args:
        evaluator: judges weights.
        checkpoints: holds them.
        table: as in `measure_pairs`.
        radius: norm of the scale-invariant weights; None leaves mixtures as they are.
        points: on each line before the maxima are refined, both ends included.
        rounds: halvings around each maximum.
        norms: the statistics of batch norms; other than re-estimated, they are part of the probe's name
            (`barrier@train_batch`).
        attempt: of the rows.

    Returns:
        Of each pair `angle` (radians; n: weights) and `barrier` by split: `error_chord`, `error_mean`, `error_worse`
        (fractions) and the same of `loss` (nats), each with `_se`; `error_at` and `loss_at` (share of the second
        solution at the chord's maximum); `error_first`, `error_second` and the same of `loss` (the solutions' own).
        Of each solution that cannot be used one row `fault`.
    """
    probe = "barrier" if norms is PathNorms.REESTIMATED else f"barrier@{norms}"
    rows = []
    for found in measure_pairs(evaluator, checkpoints, table, radius=radius, points=points, rounds=rounds, norms=norms):
        if isinstance(found, SolutionFault):
            rows.append(_fault(checkpoints, found, attempt))
            continue
        row = table.iloc[found.position]
        said = partial(
            ProbeRow,
            member_id=str(row["member_id"]),
            attempt=attempt,
            step=checkpoints.step((row["member_id"], row["group"])),
            group=f"{row['group']}~{row['other_group']}",
            other_member_id=str(row["other_member_id"]),
        )
        angle = finite_or_none(found.angle)
        rows.append(said(probe="angle", split="weights", key=found.compared, value=angle, n=found.weights))
        rows += [
            said(probe=probe, split=split, key=key, value=finite_or_none(value), n=n)
            for split, key, value, n in _values(found.line)
        ]
    return rows


def _values(line: Line) -> Iterator[tuple[str, str, float, int]]:
    """(split, key, value, n) of everything said about a line."""
    for split, kind, definition, found in _barriers_of(line):
        yield split, f"{kind}_{definition}", found.value, found.n
        yield split, f"{kind}_{definition}_se", found.standard_error, found.n
        if definition is Definition.CHORD:
            yield split, f"{kind}_at", found.at, found.n
            curve = line.error(split) if kind == "error" else line.loss(split)
            yield split, f"{kind}_first", float(curve[0]), found.n
            yield split, f"{kind}_second", float(curve[-1]), found.n


def _fault(checkpoints: "Checkpoints", fault: SolutionFault, attempt: int) -> ProbeRow:
    member, group = fault.key
    return ProbeRow(
        member_id=str(member),
        attempt=attempt,
        step=checkpoints.step(fault.key) if fault.key in checkpoints.entries() else 0,
        probe="fault",
        split="weights",
        group=group,
        key=fault.sentence,
        value=None,
        n=0,
    )
