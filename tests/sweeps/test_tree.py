"""The prefix tree against its definition, on random schedules."""

import random
from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.tree import Node, Tree, grow
from trainables.curves import factor
from trainables.rates import rates
from trainables.spec import Curve, Member, Phase, Recipe, Segment

RECIPE = Recipe(task="digits", model="mlp_si", batch_size=16)

# Few values, so that schedules often begin alike and part in the middle of a phase.
phases = st.builds(
    Phase,
    name=st.sampled_from(["warm", "main"]),
    steps=st.integers(1, 4),
    lr=st.sampled_from([0.1, 0.2]),
    weight_decay=st.sampled_from([0.0, 0.5]),
    grad_noise=st.sampled_from([0.0, 0.0, 0.0, 0.3]),
    fresh_optimizer=st.sampled_from([False, False, False, True]),
)


@st.composite
def curved(draw: st.DrawFn) -> Phase:
    """A phase whose rate changes, or one that meets the rates that such phases pass."""
    steps, lr = draw(st.integers(1, 6)), draw(st.sampled_from([0.1, 0.2, 0.1 * 0.5]))
    warmup = draw(st.integers(0, min(3, steps)))
    kind = draw(st.sampled_from(["constant", "linear", "cosine", "steps", "loss"]))
    if kind in ("linear", "cosine") and warmup < steps:
        decay = draw(st.none() | st.integers(1, steps - warmup))
        curve = Curve(kind=kind, warmup=warmup, decay_steps=decay, end=draw(st.sampled_from([0.0, 0.5])))
    elif kind == "steps" and warmup < steps:
        curve = Curve(kind=kind, warmup=warmup, milestones=(draw(st.integers(warmup, steps - 1)),), times=0.5)
    elif kind == "loss":
        curve = Curve(kind=kind, warmup=warmup, below=0.1, check_every=1)
    else:
        curve = Curve(warmup=warmup)
    fresh = draw(st.sampled_from([False, False, True]))
    return Phase(name="curved", steps=steps, lr=lr, curve=curve, fresh_optimizer=fresh)


def lists_of_members(phases: st.SearchStrategy[Phase]) -> st.SearchStrategy[list[Member]]:
    return st.lists(
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


some_members = lists_of_members(phases)
curved_members = lists_of_members(st.one_of(curved(), phases))


def does(phase: Phase, t: int, start: int) -> tuple[object, ...]:
    """Everything that update t of a phase depends on, the phase beginning at schedule step `start`."""
    curve = phase.curve
    rate = phase.lr * factor(curve, phase.steps, t)
    waits = (curve, phase.steps, start) if curve.waits else None  # its rate depends on the member's losses too
    return (rate, waits, phase.weight_decay, phase.grad_noise, phase.fresh_optimizer and t == 0 and start > 0)


def unrolled(member: Member) -> list[tuple[object, ...]]:
    """Hyperparameters of every single step: the schedule without phases."""
    starts = [sum(phase.steps for phase in member.phases[:i]) for i in range(len(member.phases))]
    return [
        does(phase, t, start) for phase, start in zip(member.phases, starts, strict=True) for t in range(phase.steps)
    ]


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


@settings(max_examples=200, deadline=None)
@given(st.one_of(some_members, curved_members))
def test_paths_are_the_members_schedules(members: list[Member]) -> None:
    found = paths(grow(members))
    assert set(found) == {member.member_id for member in members}
    for member in members:
        walked = [
            does(node.phase, step - node.phase_start, node.phase_start)
            for node in found[member.member_id]
            for step in range(node.start, node.start + node.steps)
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
@given(curved_members, st.randoms(use_true_random=False))
def test_the_order_of_members_does_not_matter(members: list[Member], shuffle: random.Random) -> None:
    mixed = members.copy()
    shuffle.shuffle(mixed)
    assert grow(mixed) == grow(members)


@settings(max_examples=100, deadline=None)
@given(st.one_of(some_members, curved_members))
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
            assert node.phase_start in [0, *bounds]
            assert node.phase is node.owner.phases[[0, *bounds].index(node.phase_start)]
            assert node.phase_start <= node.start < node.phase_start + node.phase.steps
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
@given(st.one_of(some_members, curved_members))
def test_segments_have_ids_of_their_own(members: list[Member]) -> None:
    ids = [node.segment_id for tree in grow(members) for node in tree.nodes]
    assert len(set(ids)) == len(ids)


@settings(max_examples=100, deadline=None)
@given(curved_members, st.randoms(use_true_random=False))
def test_a_prefix_has_one_id_whoever_shares_it(members: list[Member], shuffle: random.Random) -> None:
    whole = paths(grow(members))
    some = [member for member in members if shuffle.random() < 0.5]
    if len({(kin(member), tuple(unrolled(member))) for member in members}) == len(members):  # no twins
        for member_id, nodes in paths(grow(some)).items():
            assert nodes[-1].segment_id == whole[member_id][-1].segment_id


ADAM = Recipe(task="digits", model="mlp_si", batch_size=16, optimizer="adam")  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(curved_members)
def test_trained_rates_are_those_of_a_member_alone(members: list[Member]) -> None:
    """Bit for bit, from the very numbers that the training loop asks for, Adam's corrections included."""
    members = [Member(recipe=ADAM, seed=member.seed, phases=member.phases) for member in members]
    members = list({member.member_id: member for member in members}.values())

    def trained(nodes: list[Node]) -> list[tuple[float, ...]]:
        steps = []
        for node in nodes:
            segment = Segment(
                segment_id="", parent=None, start=node.start, steps=node.steps, phase=node.phase,
                phase_start=node.phase_start, phase_end=node.phase_end, owner=node.owner, ends=node.ends,
            )  # fmt: skip
            made = rates([segment], ADAM, node.start, node.start + node.steps, torch.float64, "cpu")
            assert made.root is not None
            steps += [(lr, *pair) for (lr,), (pair,) in zip(made.lr.tolist(), made.root.tolist(), strict=True)]
        return steps

    found = paths(grow(members))
    for member in members:
        (alone,) = paths(grow([member])).values()
        assert trained(found[member.member_id]) == trained(alone)


def test_lengths_of_warmup_stable_decay_share_their_trunk() -> None:
    def member(steps: int) -> Member:
        curve = Curve(kind="linear", warmup=10, decay_steps=20)
        return Member(recipe=RECIPE, seed=0, phases=(Phase(name="a", steps=steps, lr=0.1, curve=curve),))

    (tree,) = grow([member(100), member(60)])
    # The decay's first update is still at the full rate: step 40 is shared.
    assert [(node.start, node.steps, node.phase_start) for node in tree.nodes] == [(0, 41, 0), (41, 19, 0), (41, 59, 0)]
    assert tree.member_steps == 41 + 19 + 59


def test_one_curve_alone_is_not_cut() -> None:
    curve = Curve(kind="steps", milestones=(30, 60), warmup=5)
    tail = Phase(name="b", steps=10, lr=0.01)
    whole = (Phase(name="a", steps=90, lr=0.1, curve=curve), tail)
    (tree,) = grow([Member(recipe=RECIPE, seed=0, phases=whole[: i + 1]) for i in range(2)])
    assert [(node.start, node.steps, node.phase_start) for node in tree.nodes] == [(0, 90, 0), (90, 10, 90)]
    # A plain phase at the dropped rate is the same as the stretch behind the drop.
    parts = (
        Phase(name="x", steps=30, lr=0.1, curve=Curve(warmup=5)),
        Phase(name="y", steps=30, lr=0.1 * 0.1),
        Phase(name="z", steps=10, lr=0.5),
    )
    (tree,) = grow([Member(recipe=RECIPE, seed=0, phases=phases) for phases in (whole, parts)])
    assert tree.member_steps == 100 + 10


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
