"""What jobs have written, laid out by seed, initial learning rate and solution instead of by id."""

import pandas as pd

from analysis.arms import Arm, positions
from analysis.probing.solutions import names_of
from analysis.study import Study

__all__ = ["fault_frame", "pair_frame", "solution_frame"]

_PLACES = ["unit", "place", "lr", "data_seed", "seed"]


def solution_frame(study: Study, arm: Arm, probe: str) -> pd.DataFrame:
    """Numbers measured on single solutions.

    Args:
        study: the study.
        arm: one of its arms.
        probe: what was measured, such as `curvature`.

    Returns:
        One row for each solution, split and key: `unit, place, lr, data_seed, seed, solution, split, key, value, n`.
    """
    rows = _rows(study, arm, probe, "")
    return rows[[*_PLACES, "solution", "split", "key", "value", "n"]].reset_index(drop=True)


def pair_frame(study: Study, arm: Arm, probe: str) -> pd.DataFrame:
    """Numbers measured on pairs of solutions of one pre-training.

    Args:
        study: the study.
        arm: one of its arms.
        probe: what was measured: `angle`, `barrier` or `cka`.

    Returns:
        One row for each pair, split and key: `unit, place, lr, data_seed, seed, pair, split, key, value, n`, where pair
        is such as `low-high`.
    """
    rows = _rows(study, arm, probe, "~")
    if rows.empty:
        return pd.DataFrame(columns=[*_PLACES, "pair", "split", "key", "value", "n"])
    other = rows["other_member_id"].astype("object").fillna(rows["member_id"].astype("object"))
    quality = arm.members.set_index("member_id")["quality"]
    second = _named(arm, quality.reindex(other).to_numpy(), rows["group"].str.partition("~")[2].to_numpy())
    rows = rows.assign(pair=[f"{a}-{b}" for a, b in zip(rows["solution"], second, strict=True)])
    return rows[[*_PLACES, "pair", "split", "key", "value", "n"]].reset_index(drop=True)


def fault_frame(study: Study, arm: Arm) -> pd.DataFrame:
    """What could not be measured.

    Args:
        study: the study.
        arm: one of its arms.

    Returns:
        One row for each solution and reason: `lr, data_seed, seed, solution, key`, the last being the sentence.
    """
    rows = _rows(study, arm, "fault", "")
    return rows[["lr", "data_seed", "seed", "solution", "key"]].drop_duplicates(ignore_index=True)


def _rows(study: Study, arm: Arm, probe: str, mark: str) -> pd.DataFrame:
    """Rows of one probe with the place of their (first) member; those of pairs have the mark in their group."""
    probes = study.tables.probes
    probes = probes[(probes["probe"] == probe).to_numpy()]
    place = positions(probes, arm.members)
    rows, members = probes[place >= 0], arm.members.iloc[place[place >= 0]]
    groups = rows["group"].astype(str)
    own = groups.str.split("~").str[0] if mark else groups  # `partition` makes no columns of no rows
    rows = rows.assign(
        unit=members["unit"].to_numpy(),
        place=members["place"].to_numpy(),
        lr=arm.lrs[members["place"].to_numpy()],
        data_seed=arm.data_seeds[members["unit"].to_numpy()],
        seed=arm.seeds[members["unit"].to_numpy()],
        group=groups,
        key=rows["key"].astype(str),
        split=rows["split"].astype(str),
        solution=_named(arm, members["quality"].to_numpy(), own.to_numpy()),
    )
    rows = rows[rows["group"].str.contains("~", regex=False) == bool(mark)]
    return rows.sort_values(["unit", "place", "solution", "split"], kind="stable")  # keys as they were written


def _named(arm: Arm, qualities: object, groups: object) -> list[str]:
    """Solutions' names; those without one are called by quality and group."""
    names = {place: name for name, place in names_of(arm).items()}
    return [
        names.get((quality, group), group if group.startswith("step@") else f"{quality}:{group}")
        for quality, group in zip(qualities, groups, strict=True)  # type: ignore[call-overload]
    ]
