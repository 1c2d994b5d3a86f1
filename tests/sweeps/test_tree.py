"""The prefix tree against its definition, on random schedules."""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.tree import Node, Tree, grow
from trainables.spec import Member, Phase, Recipe

RECIPE = Recipe(task="digits", model="mlp_si", batch_size=16)

# Few values, so that schedules often begin alike and part in the middle of a phase.
phases = st.builds(
    Phase,
    name=st.sampled_from(["warm", "main"]),
    steps=st.integers(1, 4),
    lr=st.sampled_from([0.1, 0.2]),
    weight_decay=st.sampled_from([0.0, 0.5]),
)
some_members = st.lists(
    st.builds(
        Member,
        recipe=st.just(RECIPE),
        seed=st.integers(0, 1),
        data_seed=st.just(0),
        momentum=st.sampled_from([0.0, 0.9]),
        phases=st.lists(phases, min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda member: member.member_id,
)


def unrolled(member: Member) -> list[tuple[float, float]]:
    """Hyperparameters of every single step: the schedule without phases."""
    return [(phase.lr, phase.weight_decay) for phase in member.phases for _ in range(phase.steps)]


def path(tree: Tree, node: Node) -> list[Node]:
    found = [node]
    while found[-1].parent is not None:
        found.append(tree.nodes[found[-1].parent])
    return found[::-1]


def paths(trees: Sequence[Tree]) -> dict[str, list[Node]]:
    """The nodes from the root to each member's end."""
    return {node.owner.member_id: path(tree, node) for tree in trees for node in tree.nodes if node.ends}


def kin(member: Member) -> tuple[object, ...]:
    return (member.recipe.recipe_id, member.seed, member.data_seed, member.momentum)


def two_phase(seeds: int) -> list[Member]:
    start = Phase(name="pretrain", steps=40, lr=0.1)
    ends = [Phase(name="finetune", steps=20, lr=lr) for lr in (0.01, 0.02)]
    return [
        Member(recipe=RECIPE, seed=seed, phases=schedule)
        for seed in range(seeds)
        for schedule in ((start,), (start, ends[0]), (start, ends[1]))
    ]


@settings(max_examples=100, deadline=None)
@given(some_members)
def test_paths_are_the_members_schedules(members: list[Member]) -> None:
    found = paths(grow(members))
    assert set(found) == {member.member_id for member in members}
    for member in members:
        walked = [
            (node.phase.lr, node.phase.weight_decay) for node in found[member.member_id] for _ in range(node.steps)
        ]
        assert walked == unrolled(member)
        starts = [node.start for node in found[member.member_id]]
        assert starts == [sum(node.steps for node in found[member.member_id][:i]) for i in range(len(starts))]


@settings(max_examples=100, deadline=None)
@given(some_members)
def test_what_is_shared_is_the_common_beginning(members: list[Member]) -> None:
    # Twins, which train alike to their ends, share all but their last part; see the test below.
    members = list({(kin(member), tuple(unrolled(member))): member for member in members}.values())
    trees = grow(members)
    found = paths(trees)
    for one in members:
        for other in members:
            shared = {n.segment_id: n.steps for n in found[one.member_id]}.keys() & {
                n.segment_id for n in found[other.member_id]
            }
            alike = sum(node.steps for node in found[one.member_id] if node.segment_id in shared)
            common = 0
            if kin(one) == kin(other):
                pairs = zip(unrolled(one), unrolled(other), strict=False)
                common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(one.steps, other.steps))
            assert alike == common
    prefixes = {(kin(m), tuple(unrolled(m)[: k + 1])) for m in members for k in range(m.steps)}
    assert sum(tree.member_steps for tree in trees) == len(prefixes)


@settings(max_examples=100, deadline=None)
@given(some_members, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(members: list[Member], shuffle: random.Random) -> None:
    mixed = members.copy()
    shuffle.shuffle(mixed)
    assert grow(mixed) == grow(members)


@settings(max_examples=100, deadline=None)
@given(some_members)
def test_owners_and_parents(members: list[Member]) -> None:
    trees = grow(members)
    linked = {node.owner.member_id: node.owner for tree in trees for node in tree.nodes if node.ends}
    lengths: dict[str, int] = {}  # by segment, of the shortest schedule that passes or ends there
    for member_id, nodes in paths(trees).items():
        for node in nodes:
            lengths[node.segment_id] = min(linked[member_id].steps, lengths.get(node.segment_id, 10**9))
    for tree in trees:
        for node in tree.nodes:
            assert node.owner.steps == lengths[node.segment_id]
            assert node.owner is linked[node.owner.member_id]
            bounds = [sum(phase.steps for phase in node.owner.phases[: i + 1]) for i in range(len(node.owner.phases))]
            assert node.phase_end == (node.start + node.steps in bounds)
            assert node.ends <= node.phase_end
    for member_id, nodes in paths(trees).items():
        member = linked[member_id]
        own = [node for node in nodes if node.owner.member_id == member_id]
        # Its own segments are one stretch that reaches to its end, and begin where it leaves its parent.
        assert own == nodes[-len(own) :]
        assert own[0].start == member.branch_step
        above = nodes[: -len(own)]
        assert member.parent_id == (above[-1].owner.member_id if above else None)
        # From parent to parent one comes to a root.
        seen = set()
        while member.parent_id is not None:
            assert member.member_id not in seen
            seen.add(member.member_id)
            member = linked[member.parent_id]
    assert sum(member.steps - member.branch_step for member in linked.values()) == sum(t.member_steps for t in trees)


@settings(max_examples=100, deadline=None)
@given(some_members)
def test_segments_have_ids_of_their_own(members: list[Member]) -> None:
    ids = [node.segment_id for tree in grow(members) for node in tree.nodes]
    assert len(set(ids)) == len(ids)


def test_pretrain_and_finetune() -> None:
    trees = grow(two_phase(seeds=3))
    assert len(trees) == 3
    for tree in trees:
        assert [(n.start, n.steps, n.parent, n.ends) for n in tree.nodes] == [
            (0, 40, None, True), (40, 20, 0, True), (40, 20, 0, True)
        ]  # fmt: skip
        root, low, high = (node.owner for node in tree.nodes)
        assert (root.parent_id, root.branch_step) == (None, 0)
        assert {(m.parent_id, m.branch_step) for m in (low, high)} == {(root.member_id, 40)}
        assert (tree.member_steps, tree.widest) == (80, 2)


def test_a_trunk_is_cut_where_decays_leave_it() -> None:
    def decay(at: int) -> Member:
        schedule = (Phase(name="constant", steps=at, lr=0.1), Phase(name="decay", steps=10, lr=0.01))
        return Member(recipe=RECIPE, seed=0, phases=schedule)

    members = [decay(at) for at in (100, 50, 200)]
    (tree,) = grow(members)
    assert sorted((node.start, node.steps) for node in tree.nodes) == [
        (0, 50), (50, 10), (50, 50), (100, 10), (100, 100), (200, 10)
    ]  # fmt: skip
    assert tree.member_steps == 200 + 3 * 10
    by_end = {node.owner.steps: node.owner for node in tree.nodes}
    assert (by_end[60].parent_id, by_end[60].branch_step) == (None, 0)
    assert (by_end[110].parent_id, by_end[110].branch_step) == (by_end[60].member_id, 50)
    assert (by_end[210].parent_id, by_end[210].branch_step) == (by_end[110].member_id, 100)


def test_equal_phases_in_a_row_are_one_stretch() -> None:
    short = Member(recipe=RECIPE, seed=0, phases=(Phase(name="a", steps=30, lr=0.1), Phase(name="b", steps=20, lr=0.1)))
    long = Member(recipe=RECIPE, seed=0, phases=(Phase(name="a", steps=70, lr=0.1),))
    (tree,) = grow([short, long])
    assert tree.member_steps == 70
    assert [node.phase.name for node in tree.nodes] == ["a", "b", "a"]


def test_twins_train_their_last_part_each() -> None:
    whole = Member(recipe=RECIPE, seed=0, phases=(Phase(name="a", steps=50, lr=0.1),))
    parts = Member(recipe=RECIPE, seed=0, phases=(Phase(name="a", steps=30, lr=0.1), Phase(name="b", steps=20, lr=0.1)))
    (tree,) = grow([whole, parts])
    assert [(node.start, node.steps) for node in tree.nodes] == [(0, 30), (30, 20), (30, 20)]
    assert {node.owner.member_id for node in tree.nodes if node.ends} == {whole.member_id, parts.member_id}
    assert len({node.segment_id for node in tree.nodes}) == 3
