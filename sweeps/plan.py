"""From a sweep to packs: members, the tree of their common beginnings, and who trains with whom."""

import gc
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from sweeps.cost import WORKER_BYTES, CostModel, disk_bytes, total_memory, wall_seconds
from sweeps.equilibrium import Equilibrium, equilibrium_of
from sweeps.kept import keep_within
from sweeps.probe_plan import probe_notes, probed_solutions
from sweeps.resources import Resources
from sweeps.schema import Sweep
from sweeps.sizes import Sizes
from sweeps.space import members
from sweeps.tree import Tree, grow
from trainables.spec import Measure, Member, Pack, Recipe, Segment, SpecError

__all__ = ["Plan", "plan"]

CPU_ROWS = 160
"""Most rows of a pack on a CPU core: beyond, a step's data leaves the caches and a row gets no cheaper."""
GPU_ROWS = 1024
"""The same on a GPU."""
FILL_ROWS = 32
"""Rows below which a step's fixed cost dominates: a pack of few trunks trains that many branches at once."""
MODULE_ROWS = 32
"""Most rows of ordinary modules on a CPU core, which gain nothing by company: many packs keep all cores busy longer."""
SMALL_GPU_BYTES = 16_000_000_000
"""What a GPU of unknown size is taken to have."""
GPU_PROCESS_BYTES = 1_500_000_000
"""Of it, what a process takes for itself."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep amounts to.

    Attributes:
        members: every member, linked to its parent, in the sweep's order.
        packs: who trains together; no pack depends on another.
        segments: nodes of the prefix tree.
        member_steps: steps to train, shared beginnings once.
        member_steps_without_sharing: the same if every member trained alone.
        estimated_seconds: wall time on these resources.
        estimated_memory_bytes: all processes together.
        estimated_memory_bytes_per_member: a pack at work, beyond an idle process, for each of its rows; of the pack
            where that is most.
        estimated_disk_bytes: the results folder when it is fullest.
        kept_weights_bytes: of it, the weights in `checkpoints/`.
        checkpoint_budget_bytes: most that these may take; None for no limit.
        probed_solutions: solutions whose geometry and features are measured after training; 0 without probes.
        equilibrium: time in which weights forget how they began; None where nothing decays weights of free norm.
        steps_per_epoch: steps in one pass over the training set; None where recipes differ.
        resources: what the plan is made for.
        notes: what a reader should know about it.
    """

    members: tuple[Member, ...]
    packs: tuple[Pack, ...]
    segments: int
    member_steps: int
    member_steps_without_sharing: int
    estimated_seconds: float
    estimated_memory_bytes: int
    estimated_memory_bytes_per_member: int
    estimated_disk_bytes: int
    kept_weights_bytes: int
    checkpoint_budget_bytes: int | None
    probed_solutions: int
    equilibrium: Equilibrium | None
    steps_per_epoch: int | None
    resources: Resources
    notes: tuple[str, ...] = ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes, each once."""
        return tuple({pack.recipe.recipe_id: pack.recipe for pack in self.packs}.values())

    def as_json(self) -> dict[str, int | float | list[float] | None]:
        """The numbers for `lratlas plan --json`."""
        return {
            "members": len(self.members),
            "segments": self.segments,
            "packs": len(self.packs),
            "member_steps": self.member_steps,
            "member_steps_without_sharing": self.member_steps_without_sharing,
            "estimated_seconds": round(self.estimated_seconds, 1),
            "estimated_memory_bytes": self.estimated_memory_bytes,
            "estimated_memory_bytes_per_member": self.estimated_memory_bytes_per_member,
            "estimated_disk_bytes": self.estimated_disk_bytes,
            "kept_weights_bytes": self.kept_weights_bytes,
            "checkpoint_budget_bytes": self.checkpoint_budget_bytes,
            "probed_solutions": self.probed_solutions,
            "equilibrium_steps": [self.equilibrium.shortest, self.equilibrium.longest] if self.equilibrium else None,
            "steps_per_epoch": self.steps_per_epoch,
        }


def plan(sweep: Sweep, *, cores: int, gpus: int = 0, memory_bytes: int, gpu_memory_bytes: int = 0) -> Plan:
    """Plan a sweep.

    Args:
        sweep: a checked sweep.
        cores: CPU cores to train on.
        gpus: GPUs to train on, where the sweep asks for them.
        memory_bytes: memory for all packs at work.
        gpu_memory_bytes: memory of each GPU; 0 where it is not known.

    Returns:
        The plan; the same members, packs and kept weights for the same arguments.

    Raises:
        SpecError: two combinations of the axes make the same member, a trunk is cut inside a window of averages, or
            the budget for checkpoints is too small for the weights of one seed.
    """
    resources = Resources(cores=cores, gpus=gpus, memory_bytes=memory_bytes, gpu_memory_bytes=gpu_memory_bytes)
    with _without_collection():
        return _plan(sweep, resources)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for circular garbage: there is none, and walking 100,000 members for it takes a third."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _plan(sweep: Sweep, resources: Resources) -> Plan:
    found = members(sweep)
    groups = _groups(sweep, found)
    on_gpu = sweep.run.gpus_per_pack > 0
    lanes = max(1, math.floor(resources.gpus / sweep.run.gpus_per_pack) if on_gpu else resources.cores)
    costs: dict[str, CostModel] = {}
    for group, some in groups.items():
        part = sweep.parts[group.variant]
        _check_averages(part, some)
        # Variants of one recipe cost alike, but for their averages: the most that any takes.
        averages = max((len(phase.swa.windows) for phase in part.phases if phase.swa), default=0)
        earlier = costs.get(group.recipe_id)
        costs[group.recipe_id] = CostModel(
            (recipe := some[0].recipe),
            Sizes.of(recipe, part),
            max(averages, earlier.averages if earlier else 0),
            on_gpu,
            sweep.run.executor,
            any(node.owner.momentum > 0 for tree in some for node in tree.nodes),
        )
    memory = _memory_of_a_pack(sweep, resources, lanes)
    room = {group: _room(sweep, costs[group.recipe_id], some, memory) for group, some in groups.items()}
    counts = {group: math.ceil(len(some) / room[group]) for group, some in groups.items()}
    if sweep.run.members_per_pack == "auto":
        _fill_lanes(counts, groups, lanes)
    measures = {name: part.measured() for name, part in sweep.parts.items()}
    packs = [
        pack
        for group, some in groups.items()
        for pack in _packs(some, counts[group], room[group], measures[group.variant])
    ]
    weights = {recipe_id: cost.memory.weight_bytes for recipe_id, cost in costs.items()}
    kept = keep_within(packs, weights, sweep.run.checkpoint_bytes)
    epochs = {cost.sizes.train // cost.recipe.batch_size for cost in costs.values()}
    linked = {node.owner.member_id: node.owner for some in groups.values() for tree in some for node in tree.nodes}
    return Plan(
        members=tuple(linked[member.member_id] for member in found),
        packs=kept.packs,
        segments=sum(len(pack.segments) for pack in packs),
        member_steps=sum(pack.member_steps for pack in packs),
        member_steps_without_sharing=_steps(found),
        estimated_seconds=wall_seconds(packs, costs, lanes),
        estimated_memory_bytes=round(total_memory(packs, costs, lanes)),
        estimated_memory_bytes_per_member=round(
            max(costs[pack.recipe.recipe_id].pack_bytes(pack) / pack.width for pack in packs)
        ),
        estimated_disk_bytes=round(disk_bytes(packs, costs, kept.bytes, lanes)),
        kept_weights_bytes=kept.bytes,
        checkpoint_budget_bytes=sweep.run.checkpoint_bytes,
        probed_solutions=probed_solutions(sweep, list(linked.values())),
        equilibrium=equilibrium_of(found),
        steps_per_epoch=epochs.pop() if len(epochs) == 1 else None,
        resources=resources,
        notes=(
            *_notes(sweep, resources.gpus, costs),
            *([kept.note] if kept.note else []),
            *probe_notes(sweep, list(linked.values())),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Members that may share packs and beginnings: of one recipe, and of variants that measure alike.

    Attributes:
        variant: the first of these variants.
        recipe_id: of the recipe.
    """

    variant: str
    recipe_id: str


def _groups(sweep: Sweep, found: Sequence[Member]) -> dict[_Group, list[Tree]]:
    """The trees of each group."""
    measures = {name: part.measured() for name, part in sweep.parts.items()}
    first = {name: next(other for other in measures if measures[other] == measures[name]) for name in measures}
    groups: dict[_Group, list[Tree]] = {}
    for name in dict.fromkeys(first.values()):
        some = [member for member in found if first[str(member.axes["variant"])] == name] if name else found
        for tree in grow(some):
            groups.setdefault(_Group(name, tree.recipe.recipe_id), []).append(tree)
    return groups


def _check_averages(sweep: Sweep, trees: Sequence[Tree]) -> None:
    """Averages are taken over the weights of one segment: a trunk must not be cut inside a window."""
    reach = {p.name: (max(p.swa.windows) - 1) * p.swa.every for p in sweep.phases if p.swa}
    if not reach:
        return
    short = {
        (node.phase.name, node.start, node.start + node.steps)
        for tree in trees
        for node in tree.nodes
        if node.phase_end and node.steps <= reach.get(node.phase.name, -1)
    }
    faults = [
        f"phase {name!r}: averages of weights must not reach back across a step at which members part, found "
        f"a reach of {reach[name]} steps from step {end} and members that part at {start}; take smaller windows"
        for name, start, end in sorted(short)
    ]
    if faults:
        raise SpecError(faults)


def _memory_of_a_pack(sweep: Sweep, resources: Resources, lanes: int) -> float:
    """What one pack may take beyond an idle process, on the device where it trains."""
    if sweep.run.gpus_per_pack <= 0:
        return resources.memory_bytes / lanes - WORKER_BYTES
    whole = (resources.gpu_memory_bytes or SMALL_GPU_BYTES) * 0.9
    return (
        whole * max(1.0, sweep.run.gpus_per_pack) / max(1, math.floor(1 / sweep.run.gpus_per_pack)) - GPU_PROCESS_BYTES
    )


def _room(sweep: Sweep, cost: CostModel, trees: Sequence[Tree], memory: float) -> int:
    """The most trees in a pack of a recipe."""
    if sweep.run.members_per_pack != "auto":
        return sweep.run.members_per_pack
    draws = len({tree.nodes[0].owner.data_seed for tree in trees})
    most = GPU_ROWS if cost.gpu else CPU_ROWS if cost.stacked else MODULE_ROWS
    return cost.memory.room(memory, most, draws / len(trees))


def _fill_lanes(counts: dict[_Group, int], groups: Mapping[_Group, list[Tree]], lanes: int) -> None:
    """Raise the numbers of packs, those of the longest packs first, until no core or GPU is idle in the last round."""
    work = {group: sum(tree.member_steps for tree in some) for group, some in groups.items()}
    while sum(counts.values()) % lanes:
        growing = [group for group, some in groups.items() if counts[group] < len(some)]
        if not growing:
            return
        counts[max(growing, key=lambda group: work[group] / counts[group])] += 1


def _packs(trees: Sequence[Tree], count: int, room: int, measure: Measure) -> Iterator[Pack]:
    """Deal a recipe's trees out; all packs get the same width, because each width is compiled anew."""
    edges = [round(index * len(trees) / count) for index in range(count + 1)]
    dealt = [trees[low:high] for low, high in pairwise(edges)]
    roots = max(len(some) for some in dealt)
    branches = max(sum(tree.widest for tree in some) for some in dealt)
    width = max(roots, min(branches, FILL_ROWS, room))
    for some in dealt:
        segments = _segments(some)
        text = ",".join(segment.segment_id for segment in segments)
        pack_id = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield Pack(pack_id=pack_id, recipe=some[0].recipe, measure=measure, segments=segments, width=width)


def _segments(trees: Sequence[Tree]) -> tuple[Segment, ...]:
    """All nodes of all trees, generation by generation."""
    generations: dict[int, list[tuple[int, int]]] = {}
    for place, tree in enumerate(trees):
        for index, node in enumerate(tree.nodes):
            generations.setdefault(node.depth, []).append((place, index))
    order = [where for depth in sorted(generations) for where in generations[depth]]
    number = {where: position for position, where in enumerate(order)}
    segments = []
    for place, index in order:
        node = trees[place].nodes[index]
        segments.append(
            Segment(
                segment_id=node.segment_id,
                parent=None if node.parent is None else number[place, node.parent],
                start=node.start,
                steps=node.steps,
                phase=node.phase,
                phase_start=node.phase_start,
                phase_end=node.phase_end,
                owner=node.owner,
                ends=node.ends,
            )
        )
    return tuple(segments)


def _steps(found: Sequence[Member]) -> int:
    """Steps of all members together; they share their schedules, which are looked at once each."""
    schedules = {id(member.phases): member.steps for member in {id(m.phases): m for m in found}.values()}
    return sum(schedules[id(member.phases)] for member in found)


def _notes(sweep: Sweep, gpus: int, costs: Mapping[str, CostModel]) -> Iterator[str]:
    guesses = dict.fromkeys(cost.sizes.guess for cost in costs.values() if cost.sizes.guess)
    for reason in guesses:
        yield f"time, memory and disk are rough guesses: the network could not be measured ({reason.rstrip('.')})"
    if sweep.run.gpus_per_pack > gpus:
        yield f"the sweep asks for {sweep.run.gpus_per_pack:g} GPU per pack and this machine has {gpus}"
    if sweep.run.gpus_per_pack > 0:
        yield "times on GPUs are guesses, from multiply-adds and memory traffic of a large GPU of a data centre"
