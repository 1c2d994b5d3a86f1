"""Histories against a slow collection that follows the contract word by word."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.history import history


def _members(lines):
    return pd.DataFrame(lines, columns=["member_id", "parent_id", "branch_step"])


def _rows(member_id, steps, value):
    return pd.DataFrame({"member_id": member_id, "step": steps, "value": [f"{value}{step}" for step in steps]})


def _slow(rows, members, member_id, limit=np.inf):
    """Own rows after the branch step, and the parent's up to there."""
    member = members[members["member_id"] == member_id].iloc[0]
    has_parent = isinstance(member["parent_id"], str)
    after = member["branch_step"] if has_parent else -1
    own = [
        (row.step, row.value) for row in rows.itertuples() if row.member_id == member_id and after < row.step <= limit
    ]
    own.sort(key=lambda row: row[0])
    older = _slow(rows, members, member["parent_id"], min(limit, after)) if has_parent else []
    return older + own


@st.composite
def _trees(draw):
    """A few members in a random tree with rows at random steps, in random order, some at the same step."""
    count = draw(st.integers(1, 7))
    lines, frames = [], []
    for number in range(count):
        parent = draw(st.one_of(st.none(), st.integers(0, number - 1))) if number else None
        branch = draw(st.integers(0, 12)) if parent is not None else 0
        lines.append((f"m{number}", None if parent is None else f"m{parent}", branch))
        frames.append(_rows(f"m{number}", draw(st.lists(st.integers(0, 20), max_size=8)), f"{number}-"))
    rows = pd.concat(frames, ignore_index=True)
    rows["value"] += [f"#{place}" for place in range(len(rows))]
    order = draw(st.permutations(range(len(rows))))
    return _members(lines), rows.iloc[list(order)].reset_index(drop=True)


@given(tree=_trees(), categorical=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_slow_collection(tree, categorical, data):
    members, rows = tree
    wanted = data.draw(st.lists(st.sampled_from(list(members["member_id"])), unique=True))
    given_rows = rows.assign(member_id=rows["member_id"].astype("category")) if categorical else rows
    found = history(given_rows, members, wanted)
    assert list(found["member_id"].cat.categories) == wanted
    expected = [(name, *row) for name in wanted for row in _slow(rows, members, name)]
    assert list(zip(found["member_id"], found["step"], found["value"], strict=True)) == expected


def test_a_trunk_is_shared_by_all_its_tails():
    members = _members([("trunk", None, 0), ("early", "trunk", 20), ("late", "trunk", 30), ("twice", "late", 40)])
    rows = pd.concat(
        [
            _rows("trunk", [0, 10, 20, 30, 40], "T"),
            _rows("early", [30, 40], "E"),
            _rows("late", [40, 50], "L"),
            _rows("twice", [50], "W"),
        ]
    )
    found = history(rows, members, ["twice", "early", "twice"])
    by_member = found.groupby("member_id", observed=True)["value"].apply(list)
    assert by_member["twice"] == ["T0", "T10", "T20", "T30", "L40", "W50"]
    assert by_member["early"] == ["T0", "T10", "T20", "E30", "E40"]


def test_members_without_ancestors_rows_or_columns():
    rows = _rows("a", [10, 0], "A")
    found = history(rows, pd.DataFrame({"member_id": ["a", "b"]}), ["b", "a"])
    assert list(found["value"]) == ["A0", "A10"]
    assert history(rows.iloc[:0], _members([("a", None, 0)]), ["a"]).empty
    assert history(rows, _members([("a", None, 0)]), []).empty


def test_a_parent_that_is_not_in_the_table_leaves_a_member_its_own_rows():
    found = history(_rows("a", [5, 10], "A"), _members([("a", "gone", 7)]), ["a"])
    assert list(found["value"]) == ["A5", "A10"]


def test_what_cannot_be_followed_is_refused():
    rows = _rows("a", [1], "A")
    with pytest.raises(ValueError, match="no row for 'b'"):
        history(rows, _members([("a", None, 0)]), ["b"])
    with pytest.raises(ValueError, match="circle"):
        history(rows, _members([("a", "b", 1), ("b", "a", 1)]), ["a"])


def test_thousands_of_members_take_no_time():
    trunks, tails, length = 200, 20, 100
    lines = [(f"t{number}", None, 0) for number in range(trunks)]
    lines += [(f"t{number}-{tail}", f"t{number}", 50) for number in range(trunks) for tail in range(tails)]
    members = _members(lines)
    ids = np.repeat(members["member_id"].to_numpy(), length)
    rows = pd.DataFrame(
        {"member_id": pd.Categorical(ids), "step": np.tile(np.arange(1, length + 1), len(members)), "value": 1.0}
    )
    begun = time.perf_counter()
    found = history(rows, members, list(members["member_id"]))
    assert time.perf_counter() - begun < 2
    assert len(found) == len(members) * length
