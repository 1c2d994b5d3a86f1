"""Which weights are kept: all that analyses may want, or, where that is over budget, fewer, in a stated order.

Decided when the plan is made and written into its segments, so that every run of the plan keeps the same. Numbers are
always measured; only weights are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from itertools import accumulate

from sweeps.words import size
from trainables.spec import Pack, Segment, SpecError

__all__ = ["Kept", "keep_within"]


class _Worth(IntEnum):
    """How soon weights are left out: the lowest first."""

    SMALLER_AVERAGE = 1
    STEP = 2
    BETWEEN = 3
    LAST = 4


_LEFT_OUT = {
    _Worth.SMALLER_AVERAGE: "averages of weights, except over each phase's largest window",
    _Worth.STEP: "weights at the steps of measure.keep",
    _Worth.BETWEEN: "fine-tuned weights between the lowest and the highest learning rate",
}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept.

    Attributes:
        packs: with it written into their segments.
        bytes: of all kept weights.
        all_bytes: the same without a budget.
        note: what is left out, as a sentence without its full stop; empty where nothing is.
    """

    packs: tuple[Pack, ...]
    bytes: int
    all_bytes: int
    note: str = ""


def keep_within(packs: Sequence[Pack], weight_bytes: Mapping[str, float], budget: int | None) -> Kept:
    """Decide which weights are kept.

    Left out one kind after the other until the rest fits: averages of weights, except over each phase's largest
    window; weights at the steps of `measure.keep`; of the members that continue one parent, those between the lowest
    and the highest learning rate; all but the first seeds, as many of which are kept as fit.

    Args:
        packs: of a sweep.
        weight_bytes: of one network, by recipe id.
        budget: most bytes; None for no limit.

    Returns:
        What is kept.

    Raises:
        SpecError: not even the weights of one seed fit.
    """
    worths = [_worths(pack) for pack in packs]
    one = [weight_bytes[pack.recipe.recipe_id] for pack in packs]
    by_worth = dict.fromkeys(_Worth, 0.0)
    for each, found in zip(one, worths, strict=True):
        for groups in found:
            for worth in groups.values():
                by_worth[worth] += each
    whole = sum(by_worth.values())
    if budget is None or whole <= budget:
        return Kept(packs=tuple(packs), bytes=round(whole), all_bytes=round(whole))
    least, total, said = _Worth.SMALLER_AVERAGE, whole, []
    while least < _Worth.LAST and total > budget:
        total -= by_worth[least]
        if by_worth[least]:
            said.append(_LEFT_OUT[least])
        least = _Worth(least + 1)
    # Units are the pairs of seeds, in the order in which analyses count them.
    units = sorted({_unit(segment) for pack in packs for segment in pack.segments})
    first: Sequence[tuple[int, int]] = units
    if total > budget:
        first, total = _first_units(packs, one, worths, units, budget, whole)
        said.append(f"the weights of all but the first {len(first)} of {len(units)} seeds")
    chosen = frozenset(first)
    thinned = tuple(
        replace(
            pack,
            segments=tuple(
                replace(s, kept=_names(groups, least if _unit(s) in chosen else None))
                for s, groups in zip(pack.segments, found, strict=True)
            ),
        )
        for pack, found in zip(packs, worths, strict=True)
    )
    note = (
        f"all weights would take {size(whole)} and run.checkpoint_budget is {size(budget)}, so these are measured but "
        f"not kept: {'; '.join(said)}"
    )
    return Kept(packs=thinned, bytes=round(total), all_bytes=round(whole), note=note)


def _worths(pack: Pack) -> list[dict[str, _Worth]]:
    """For each segment the weights it can leave, named as in `checkpoints/`, and what they are worth."""
    between = _between(pack)

    @cache  # members of many seeds: few different answers
    def groups_of(start: int, steps: int, phase: str, phase_end: bool, ends: bool, inner: bool) -> dict[str, _Worth]:
        stop = start + steps
        groups = {f"step@{step}": _Worth.STEP for step in pack.measure.keep if start < step <= stop}
        swa = pack.measure.swa.get(phase) if phase_end else None
        if swa:
            groups |= {f"swa@{window}": _Worth.SMALLER_AVERAGE for window in swa.windows}
            groups[f"swa@{max(swa.windows)}"] = _Worth.LAST
        if ends:
            groups["end"] = _Worth.BETWEEN if inner else _Worth.LAST
        return groups

    return [
        groups_of(s.start, s.steps, s.phase.name, s.phase_end, s.ends, index in between)
        for index, s in enumerate(pack.segments)
    ]


def _between(pack: Pack) -> set[int]:
    """Members' ends that continue a parent neither at the lowest nor at the highest learning rate of their phase."""
    families: dict[tuple[int, str], list[int]] = {}
    for index, segment in enumerate(pack.segments):
        if segment.ends and segment.parent is not None:
            families.setdefault((segment.parent, segment.phase.name), []).append(index)
    inner: set[int] = set()
    for indices in families.values():
        rates = [pack.segments[index].phase.lr for index in indices]
        inner |= {index for index, lr in zip(indices, rates, strict=True) if min(rates) < lr < max(rates)}
    return inner


def _unit(segment: Segment) -> tuple[int, int]:
    return segment.owner.data_seed, segment.owner.seed


def _names(groups: Mapping[str, _Worth], least: _Worth | None) -> tuple[str, ...]:
    return tuple(group for group, worth in groups.items() if least is not None and worth >= least)


def _first_units(
    packs: Sequence[Pack],
    one: Sequence[float],
    worths: Sequence[list[dict[str, _Worth]]],
    units: Sequence[tuple[int, int]],
    budget: int,
    whole: float,
) -> tuple[Sequence[tuple[int, int]], float]:
    """As many of the first seeds as fit, and what their weights take."""
    each = dict.fromkeys(units, 0.0)
    for pack, size_of, found in zip(packs, one, worths, strict=True):
        for segment, groups in zip(pack.segments, found, strict=True):
            each[_unit(segment)] += size_of * sum(worth is _Worth.LAST for worth in groups.values())
    fitting = [total for total in accumulate(each[unit] for unit in units) if total <= budget]
    if not fitting:
        raise SpecError(
            [
                f"run.checkpoint_budget must hold at least the weights of one seed, which take {size(each[units[0]])} "
                f"(those of all members {size(whole)}), found {size(budget)}; give more, or null for no limit"
            ]
        )
    return units[: len(fitting)], fitting[-1]
