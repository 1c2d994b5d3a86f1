"""Which solutions a study has, and which of them are compared with each other."""

from collections.abc import Collection, Mapping
from itertools import combinations

import pandas as pd

from analysis.arms import FINAL, Arm

__all__ = ["all_solutions", "pair_table", "pairs_of", "solutions_of"]

Kept = Collection[tuple[str, str]]
Solutions = Mapping[str, tuple[str, str]]


def all_solutions(arm: Arm) -> dict[str, tuple[str, str]]:
    """Every solution of each pre-training.

    Args:
        arm: an arm of a study.

    Returns:
        `low` and `high` (lowest and highest rate of the later phase), `swa` (the largest window of averaged weights),
        `swa@W` (each smaller window, ascending) and `final` (the end of the first phase), as far as the study has
        them, each as (quality of the member that holds it, group of weights).
    """
    tuned = [name for name in arm.qualities if name != FINAL and not name.startswith("swa@")]
    averages = [name for name in arm.qualities if name.startswith("swa@")]
    found = {"low": (tuned[0], "end")} if tuned else {}
    if len(tuned) > 1:
        found["high"] = (tuned[-1], "end")
    if averages:
        found["swa"] = (FINAL, averages[-1])
    found |= {name: (FINAL, name) for name in averages[:-1]}
    return found | {"final": (FINAL, "end")}


def solutions_of(arm: Arm) -> dict[str, tuple[str, str]]:
    """The solutions that the published study compares.

    Args:
        arm: an arm of a study.

    Returns:
        `low`, `high`, `swa` as in `all_solutions`; without a later phase `end` (of the first one) and `swa`.
    """
    found = all_solutions(arm)
    chosen = {name: key for name, key in found.items() if name in ("low", "high", "swa")}
    return chosen if "low" in chosen else {"end": found["final"], **chosen}


def pairs_of(arm: Arm) -> list[str]:
    """Names of the pairs that the published study compares, such as `low-high`."""
    return [f"{a}-{b}" for a, b in combinations(solutions_of(arm), 2)]


def pair_table(arm: Arm, kept: Kept, solutions: Solutions, *, seeds_per_rate: int | None = None) -> pd.DataFrame:
    """Every pair of solutions of one pre-training whose weights were kept.

    Averages of one run over different windows share weights and are not compared with each other.

    Args:
        arm: an arm of a study.
        kept: (member id, group) of the weights that are there.
        solutions: name to (quality, group); all pairs of these, in their order.
        seeds_per_rate: compare at most this many seeds at each learning rate; None compares all.

    Returns:
        One row for each pair: `member_id, group` (of the first solution), `other_member_id, other_group` (of the
        second), `pair` (both names), and of their pre-training `pretrain_id, lr, data_seed, seed, unit, place`; empty
        where there is none.
    """
    members = arm.members[arm.members["status"] == "completed"]
    ids = {
        (quality, unit, place): member
        for quality, unit, place, member in zip(
            members["quality"], members["unit"], members["place"], members["member_id"], strict=True
        )
    }
    compared = [
        (a, b)
        for a, b in combinations(solutions, 2)
        if not all(solutions[name][1].startswith("swa@") for name in (a, b))
    ]
    rows = []
    for unit, place, member in zip(arm.pretrain["unit"], arm.pretrain["place"], arm.pretrain["member_id"], strict=True):
        if seeds_per_rate is not None and unit >= seeds_per_rate:
            continue
        keys = {name: (ids.get((quality, unit, place)), group) for name, (quality, group) in solutions.items()}
        common = {
            "pretrain_id": member,
            "lr": arm.lrs[place],
            "data_seed": arm.data_seeds[unit],
            "seed": arm.seeds[unit],
            "unit": unit,
            "place": place,
        }
        for a, b in compared:
            if keys[a] in kept and keys[b] in kept:
                sides = {"member_id": keys[a][0], "group": keys[a][1]}
                sides |= {"other_member_id": keys[b][0], "other_group": keys[b][1]}
                rows.append({**common, "pair": f"{a}-{b}", **sides})
    return pd.DataFrame(rows)
