"""Small packs, made by hand: no planner, no sweep file."""

from collections.abc import Sequence
from pathlib import Path

from trainables.loop import Report, train
from trainables.rows import EpochRow, ProbeRow
from trainables.spec import Measure, Member, Pack, Phase, Recipe, Segment, Swa

DIGITS = {"train_size": 64, "test_size": 100, "label_noise": 0.2}
SMALL = {"width": 8, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}


def recipe(**changes: object) -> Recipe:
    """A small recipe on digits; keyword arguments replace its fields."""
    fields = {
        "task": "digits",
        "task_args": DIGITS,
        "model": "mlp_si",
        "model_args": SMALL,
        "batch_size": 16,
        "sphere_radius": 1.0,
    }
    return Recipe(**{**fields, **changes})  # type: ignore[arg-type]


def two_phase(
    of: Recipe,
    *,
    lrs: Sequence[float],
    finetune_lrs: Sequence[float] = (),
    seeds: Sequence[int] = (0,),
    steps: int = 24,
    finetune_steps: int = 12,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    data_seed: int | None = None,
) -> list[Member]:
    """Members of the two-phase protocol, pre-trained ones first; the data seed follows the seed."""
    first = []
    for lr in lrs:
        for seed in seeds:
            phase = Phase(name="pretrain", steps=steps, lr=lr, weight_decay=weight_decay)
            data = seed if data_seed is None else data_seed
            first.append(Member(recipe=of, seed=seed, data_seed=data, momentum=momentum, phases=(phase,)))
    second = [
        Member(
            recipe=of,
            seed=parent.seed,
            data_seed=parent.data_seed,
            momentum=momentum,
            phases=(*parent.phases, Phase(name="finetune", steps=finetune_steps, lr=lr)),
            parent_id=parent.member_id,
            branch_step=steps,
        )
        for parent in first
        for lr in finetune_lrs
    ]
    return [*first, *second]


def shared_pack(members: Sequence[Member], *, width: int = 64, measure: Measure | None = None) -> Pack:
    """Each member's last phase is a segment; it continues its parent's."""
    index = {member.member_id: position for position, member in enumerate(members)}
    segments = tuple(
        Segment(
            segment_id=member.member_id,
            parent=None if member.parent_id is None else index[member.parent_id],
            start=member.branch_step,
            steps=member.phases[-1].steps,
            phase=member.phases[-1],
            phase_start=member.branch_step,
            phase_end=True,
            owner=member,
            ends=True,
        )
        for member in members
    )
    return Pack(
        pack_id="pack",
        recipe=members[0].recipe,
        measure=measure or Measure(report_every=8),
        segments=segments,
        width=width,
    )


def separate_pack(member: Member, *, measure: Measure | None = None) -> Pack:
    """One member alone, every phase trained for itself from the very beginning."""
    segments, start = [], 0
    for position, phase in enumerate(member.phases):
        segments.append(
            Segment(
                segment_id=f"{member.member_id}-{position}",
                parent=position - 1 if position else None,
                start=start,
                steps=phase.steps,
                phase=phase,
                phase_start=start,
                phase_end=True,
                owner=member,
                ends=position == len(member.phases) - 1,
            )
        )
        start += phase.steps
    return Pack(
        pack_id=f"solo-{member.member_id}",
        recipe=member.recipe,
        measure=measure or Measure(report_every=8),
        segments=tuple(segments),
        width=1,
    )


def run(pack: Pack, folder: Path, **options: object) -> list[Report]:
    """All reports of a pack; stacked unless a test says otherwise: `auto` goes by time, and rounding by executor."""
    return list(train(pack, folder=folder, **{"attempt": 0, "executor": "stacked", **options}))  # type: ignore[arg-type]


def facts(reports: Sequence[Report]) -> dict[str, dict[object, object]]:
    """Everything measured, by member: rows without `attempt` and `seconds`."""
    found: dict[str, dict[object, object]] = {}
    for report in reports:
        for row in (*report.epochs, *report.probes):
            names = [name for name in row.__slots__ if name not in ("attempt", "seconds", "member_id", "parent_id")]
            values = {name: getattr(row, name) for name in names}
            key = (row.step,) if isinstance(row, EpochRow) else (row.step, row.probe, row.split, row.group, row.key)
            assert isinstance(row, (EpochRow, ProbeRow))
            found.setdefault(row.member_id, {})[key] = values
    return found


SWA = {"pretrain": Swa(every=2, windows=(2, 4))}
