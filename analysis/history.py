"""Whole histories: what a member measured itself, after what its ancestors measured up to where it left them.

A beginning that several members share is trained once, and its rows belong to one of them. Whoever looks at a course
over time needs them for all.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["history"]

Ints = npt.NDArray[np.int64]

_END = np.iinfo(np.int64).max
_START = -1


def history(rows: pd.DataFrame, members: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """Collect the whole history of some members.

    Args:
        rows: `epochs` or `probes`: at least `member_id` (categorical or text) and `step`.
        members: the table `members`: at least `member_id`; without `parent_id` and `branch_step` nobody has ancestors.
        wanted: ids of members; one that is named twice is collected once.

    Returns:
        Every wanted member's rows, its own after its branch step and each ancestor's up to where the line left it, all
        under the wanted member's id (categorical, in the order wanted), by rising step; rows of the same step keep
        their order. Other columns, `attempt` included, are those of `rows`.

    Raises:
        ValueError: a wanted member is not in `members`, or the ancestors run in a circle.
    """
    names = list(dict.fromkeys(wanted))
    source = rows["member_id"].astype("category")
    pieces = _pieces(members, names, pd.Index(source.cat.categories))
    steps = rows["step"].to_numpy(dtype=np.int64)
    codes = source.cat.codes.to_numpy().astype(np.int64)
    order = np.lexsort((steps, codes))  # stable: rows of the same step stay in their order
    span = np.int64(steps.max(initial=0) + 2)
    keys = codes[order] * span + steps[order] + 1  # a step's place within its member, which begins at 0
    low, high = (np.clip(pieces[:, column], _START, span - 2) + 1 for column in (2, 3))
    start = np.searchsorted(keys, pieces[:, 1] * span + low, side="right")
    count = np.maximum(np.searchsorted(keys, pieces[:, 1] * span + high, side="right") - start, 0)
    ends = np.cumsum(count)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    taken: pd.DataFrame = rows.iloc[order[np.repeat(start, count) + within]].reset_index(drop=True)
    labels = pd.Categorical(names, categories=names).take(np.repeat(pieces[:, 0], count))
    taken["member_id"] = labels
    return taken


def _pieces(members: pd.DataFrame, names: Sequence[str], sources: pd.Index) -> Ints:
    """[pieces, 4]: wanted member, code of the member whose rows are taken, after which step, up to which step.

    A member's pieces stand together, the oldest ancestor's first, so that they join to a rising course.
    """
    ids = pd.Index(members["member_id"])
    place = ids.get_indexer(pd.Series(names, dtype=object))
    if (place < 0).any():
        unknown = [name for name, where in zip(names, place, strict=True) if where < 0]
        raise ValueError(f"members has no row for {', '.join(map(repr, unknown[:3]))}")
    known = {"parent_id", "branch_step"} <= set(members)
    parent_ids = members["parent_id"].astype(object) if known else pd.Series(None, index=members.index, dtype=object)
    parent = ids.get_indexer(parent_ids.where(parent_ids.notna(), None))
    code = sources.get_indexer(ids)
    branch = members["branch_step"].to_numpy(dtype=np.int64) if known else np.zeros(len(ids), dtype=np.int64)
    found: list[Ints] = []
    line, who, limit = np.arange(len(names)), place, np.full(len(names), _END)
    for _ in range(len(ids) + 1):
        after = np.where(parent[who] < 0, _START, branch[who])
        has_rows = code[who] >= 0
        found.append(np.stack([line, code[who], after, limit], axis=1)[has_rows])
        on = parent[who] >= 0
        if not on.any():
            pieces = np.concatenate(found[::-1])
            ordered: Ints = pieces[np.argsort(pieces[:, 0], kind="stable")]
            return ordered
        limit, line, who = np.minimum(limit, after)[on], line[on], parent[who[on]]
    raise ValueError("members has ancestors that run in a circle")
