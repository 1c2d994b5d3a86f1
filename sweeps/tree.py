"""The prefix tree: members whose schedules begin alike share a trunk, which is trained once and cut where they part.

Members of one trunk agree in recipe, seeds and momentum; what they share is counted in steps at equal hyperparameters,
so that two phases at one learning rate and a single long one begin alike, and so do two of different lengths that warm
up, stay, and decay at their ends. A trunk is also cut at every phase's end.
"""

import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from sweeps.schedules import Key, Schedule, phase_key
from trainables.ids import once_for_each_object
from trainables.spec import Member, Phase, Recipe

__all__ = ["Node", "Tree", "grow"]


class Node(NamedTuple):
    """A segment before its pack is known. A tuple: plans make 100,000, and these are made fastest.

    Attributes:
        segment_id: hash of the whole prefix up to its end.
        parent: index in the tree, None at the root.
        depth: nodes above it.
        start: schedule steps done before it.
        steps: its own length.
        phase: the owner's phase it is part of.
        phase_start: schedule steps done before that phase.
        phase_end: True where the owner's phase ends with it.
        owner: the member whose rows it writes.
        ends: True where the owner's schedule ends with it.
    """

    segment_id: str
    parent: int | None
    depth: int
    start: int
    steps: int
    phase: Phase
    phase_start: int
    phase_end: bool
    owner: Member
    ends: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """Members that share their first steps.

    Attributes:
        recipe: shared by all.
        nodes: root first, generation by generation.
        member_steps: steps to train, shared ones once.
        widest: size of the largest generation.
    """

    recipe: Recipe
    nodes: tuple[Node, ...]
    member_steps: int
    widest: int


@dataclass(frozen=True, slots=True)
class _Cut:
    """A node of a shape: the part of a tree that depends on schedules only."""

    parent: int | None
    depth: int
    start: int
    end: int
    prefix: str
    owner: int  # index into the shape's schedules; -1 until it is known
    ends: bool
    phase: int = 0  # index into the owner's phases
    phase_start: int = 0
    phase_end: bool = False


@dataclass(frozen=True, slots=True)
class _Shape:
    """Trees of one set of schedules, with each schedule's parent among them and where it branches off."""

    trees: tuple[tuple[_Cut, ...], ...]
    parents: tuple[tuple[int | None, int], ...]


def grow(members: Iterable[Member]) -> list[Tree]:
    """Merge common beginnings.

    Args:
        members: of different ids, in any order.

    Returns:
        Trees by recipe, data seed, seed, momentum and schedule: the same for every order of `members`. Their members
        know their parents: the owner of the last segment of the prefix that they do not own themselves.
    """
    kin: dict[tuple[str, int, int, float], list[tuple[Key, Member]]] = {}
    schedule = once_for_each_object(_schedule_key)
    for member in members:
        group = (member.recipe.recipe_id, member.data_seed, member.seed, float(member.momentum))
        kin.setdefault(group, []).append((schedule(member.phases), member))
    trees = []
    for group in sorted(kin):
        ranked = sorted(kin[group], key=lambda pair: pair[0])
        shape = _shape(tuple(key for key, _ in ranked))
        trees += _plant(shape, [member for _, member in ranked], repr(group))
    return trees


def _schedule_key(phases: tuple[Phase, ...]) -> Key:
    return tuple(map(phase_key, phases))


def _plant(shape: _Shape, members: Sequence[Member], group: str) -> list[Tree]:
    """Fill a shape with members."""
    linked = [
        _with_parent(member, None if parent is None else members[parent].member_id, branch)
        for member, (parent, branch) in zip(members, shape.parents, strict=True)
    ]
    trees = []
    for cuts in shape.trees:
        nodes = tuple(_node(cut, linked[cut.owner], group) for cut in cuts)
        generations = [0] * (cuts[-1].depth + 1)
        for cut in cuts:
            generations[cut.depth] += 1
        steps = sum(cut.end - cut.start for cut in cuts)
        trees.append(Tree(members[0].recipe, nodes, steps, max(generations)))
    return trees


def _node(cut: _Cut, owner: Member, group: str) -> Node:
    return Node(
        hashlib.sha256((group + cut.prefix).encode()).hexdigest()[:16],
        cut.parent,
        cut.depth,
        cut.start,
        cut.end - cut.start,
        owner.phases[cut.phase],
        cut.phase_start,
        cut.phase_end,
        owner,
        cut.ends,
    )


def _with_parent(member: Member, parent_id: str | None, branch_step: int) -> Member:
    """The member with its place in the tree.

    A copy of the attributes, and not `dataclasses.replace`: that would check and hash each of 100,000 members again.
    """
    if (member.parent_id, member.branch_step) == (parent_id, branch_step):
        return member
    linked = object.__new__(Member)
    linked.__dict__.update(member.__dict__, parent_id=parent_id, branch_step=branch_step)
    return linked


@lru_cache(maxsize=4096)
def _shape(keys: tuple[Key, ...]) -> _Shape:
    """Cut the trunks of a set of sorted schedules."""
    schedules = [Schedule(key) for key in keys]
    bounds = [schedule.bounds for schedule in schedules]
    trees: list[list[_Cut]] = []
    # What is still to be cut: the trunk's tree and node (none at the root), where it ends, who goes on, the prefix.
    parts: deque[tuple[list[_Cut] | None, int, int, list[int], str]] = deque([(None, 0, 0, [*range(len(bounds))], "")])
    while parts:
        tree, parent, start, passing, prefix = parts.popleft()
        for group in _alike(schedules, passing, start):
            end, text = _trunk([schedules[index] for index in group], start, prefix)
            ending = [index for index in group if bounds[index][-1] == end]
            going = [index for index in group if bounds[index][-1] > end]
            # Schedules of different phases may train alike to the end: each such twin trains its last part itself.
            for twin, owner in enumerate(ending or [-1]):
                if tree is None:
                    home: list[_Cut] = []
                    trees.append(home)
                    cut = _Cut(None, 0, start, end, text + "'" * twin, owner, bool(ending))
                else:
                    home = tree
                    cut = _Cut(parent, tree[parent].depth + 1, start, end, text + "'" * twin, owner, bool(ending))
                home.append(cut)
                if going and not twin:
                    parts.append((home, len(home) - 1, end, going, text))
    return _owned(trees, bounds)


def _alike(schedules: list[Schedule], passing: list[int], start: int) -> list[list[int]]:
    """Those that do the step after `start` in the same way, together."""
    alike: dict[tuple[str, str], list[int]] = {}
    for index in passing:
        schedule = schedules[index]
        how = (schedule.begins.get(start, ""), schedule.texts[schedule.place(start)])
        alike.setdefault(how, []).append(index)
    return list(alike.values())


def _trunk(group: list[Schedule], start: int, prefix: str) -> tuple[int, str]:
    """How far schedules that begin alike stay together (not beyond a phase's end), and the prefix up to there."""
    begins = group[0].begins.get(start)
    text = f"{prefix}|{begins}@{start}" if begins else prefix
    places = [schedule.place(start) for schedule in group]
    while True:
        how = group[0].texts[places[0]]
        end = min(schedule.stops[place] for schedule, place in zip(group, places, strict=True))
        text = _extended(text, how, end)
        if any(end in schedule.bounds for schedule in group):
            return end, text
        places = [schedule.place(end) for schedule in group]
        if len({schedule.texts[place] for schedule, place in zip(group, places, strict=True)}) > 1:
            return end, text


def _extended(prefix: str, how: str, end: int) -> str:
    """A prefix in words: hyperparameters and the step at which they end, equal ones in a row written once."""
    stretch = f"|{how}:"
    head, mark, _ = prefix.rpartition(stretch)
    continues = mark and "|" not in prefix[len(head) + 1 :]
    return f"{head if continues else prefix}{stretch}{end}"


def _owned(trees: list[list[_Cut]], bounds: list[list[int]]) -> _Shape:
    """Give every cut its owner: who ends there, else who ends first of those that pass.

    What a schedule owns is then one stretch that reaches to its end, so that parents never form a circle.
    """
    parents: list[tuple[int | None, int]] = [(None, 0)] * len(bounds)
    owned = []
    for cuts in trees:
        owners = [cut.owner for cut in cuts]
        for index in range(len(cuts) - 1, 0, -1):  # children stand after their parents
            parent = cuts[index].parent or 0
            if not cuts[parent].ends:
                rivals = [rival for rival in (owners[parent], owners[index]) if rival >= 0]
                owners[parent] = min(rivals, key=lambda rival: (bounds[rival][-1], rival))
        for cut, owner in zip(cuts, owners, strict=True):
            if cut.parent is not None and owners[cut.parent] != owner:
                parents[owner] = (owners[cut.parent], cut.start)
        owned.append(
            tuple(
                replace(
                    cut,
                    owner=owner,
                    phase=(phase := bisect_right(bounds[owner], cut.start)),
                    phase_start=bounds[owner][phase - 1] if phase else 0,
                    phase_end=cut.end in bounds[owner],
                )
                for cut, owner in zip(cuts, owners, strict=True)
            )
        )
    return _Shape(tuple(owned), tuple(parents))
