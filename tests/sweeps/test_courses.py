"""Decays, random schedules, the law's axes and variants: from sweep file to members."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.courses import decay_steps, decayed, names_of_pieces, random_pieces
from sweeps.plan import Plan, plan
from sweeps.space import members
from sweeps.sweep import sweep_from_mapping
from trainables.spec import Member, SpecError

BASE: Mapping[str, Any] = {
    "name": "courses",
    "task": {"name": "digits", "train_size": 64, "test_size": 100},
    "model": {"name": "mlp_si", "width": 8},
    "train": {"batch_size": 16},
    "phases": [{"name": "train", "steps": 100}],
    "axes": {"lr": {"values": [0.4]}, "seed": {"range": 2}},
    "measure": {"report_every": 10},
    "analysis": {"kind": "decay"},
}


def content(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps({**BASE, **changes}))  # type: ignore[no-any-return]


def made(**changes: Any) -> list[Member]:
    return members(sweep_from_mapping(content(**changes)))


def planned(**changes: Any) -> Plan:
    return plan(sweep_from_mapping(content(**changes)), cores=2, memory_bytes=2**33)


def faults(**changes: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        sweep_from_mapping(content(**changes))
    return caught.value.faults


def courses(found: list[Member]) -> list[list[tuple[str, int, float, float]]]:
    rounded = [[(p.name, p.steps, round(p.lr, 12), round(p.weight_decay, 12)) for p in m.phases] for m in found]
    return [course for place, course in enumerate(rounded) if found[place].seed == 0]


def test_decay_times_are_steps_or_fractions_one_or_several_or_never() -> None:
    found = made(axes={**BASE["axes"], "decay_at": {"values": [0.5, 30, [0.5, 0.75], "never"]}})
    assert courses(found) == [
        [("train_1", 50, 0.4, 0.0), ("train", 50, 0.04, 0.0)],
        [("train_1", 30, 0.4, 0.0), ("train", 70, 0.04, 0.0)],
        [("train_1", 50, 0.4, 0.0), ("train_2", 25, 0.04, 0.0), ("train", 25, 0.004, 0.0)],
        [("train", 100, 0.4, 0.0)],
    ]


def test_decay_factor_final_rate_and_weight_decay() -> None:
    train = {"batch_size": 16, "weight_decay": 0.1}
    phase = {"name": "train", "steps": 100, "decay_at": "0.5, 0.75"}
    by_factor = made(train=train, phases=[{**phase, "decay_factor": 0.5, "wd_decay": 0.1}])
    assert courses(by_factor) == [[("train_1", 50, 0.4, 0.1), ("train_2", 25, 0.2, 0.01), ("train", 25, 0.1, 0.001)]]
    to_rate = made(train=train, phases=[{**phase, "final_lr": 0.1}])
    assert courses(to_rate) == [[("train_1", 50, 0.4, 0.1), ("train_2", 25, 0.2, 0.1), ("train", 25, 0.1, 0.1)]]


def test_a_trunk_is_trained_once_for_all_its_decay_times() -> None:
    times = [10, 30, 50, 70, 90]
    found = planned(axes={**BASE["axes"], "decay_at": {"values": times}})
    assert found.member_steps_without_sharing == 2 * 5 * 100
    assert found.member_steps == 2 * (90 + sum(100 - time for time in times))


@given(
    steps=st.integers(40, 10_000),
    pieces=st.integers(1, 8),
    draw=st.integers(0, 2**31 - 1),
    low=st.floats(1e-4, 1e-2),
    high=st.floats(1e-2, 1.0),
)
def test_random_schedules_fill_the_phase_and_keep_their_ranges(
    steps: int, pieces: int, draw: int, low: float, high: float
) -> None:
    found = list(random_pieces(steps, pieces, (low, high), (low / 10, high / 10), draw))
    assert len(found) == pieces
    assert sum(piece.steps for piece in found) == steps
    assert min(piece.steps for piece in found) >= 1
    assert all(low * 0.999 <= piece.lr <= high * 1.001 for piece in found)
    assert all(low / 10 * 0.999 <= piece.weight_decay <= high / 10 * 1.001 for piece in found)
    assert found == list(random_pieces(steps, pieces, (low, high), (low / 10, high / 10), draw))


@given(steps=st.integers(2, 1000), times=st.lists(st.integers(1, 999), max_size=4, unique=True))
def test_decays_cut_a_phase_without_loss(steps: int, times: list[int]) -> None:
    inside = sorted(time for time in times if time < steps)
    at = decay_steps(", ".join(map(str, inside)) or None, steps)
    found = list(decayed(steps, 1.0, 0.5, at=at, factor=0.1, final_lr=None, wd=0.5))
    assert sum(piece.steps for piece in found) == steps
    assert len(found) == len(inside) + 1 == len(names_of_pieces("train", len(found)))
    assert found[-1].lr == pytest.approx(0.1 ** len(inside))


def test_random_schedules_end_in_an_equal_phase() -> None:
    random = {"pieces": 3, "lr": [0.1, 1.0], "weight_decay": [1e-3, 1e-2]}
    phases = [
        {"name": "wander", "steps": 60, "random": random},
        {"name": "equal", "steps": 40, "lr": 0.2, "weight_decay": 5e-3},
    ]
    found = made(phases=phases, axes={"wander_schedule": {"range": 4}, "seed": {"range": 1}})
    ends = [member for member in found if member.phases[-1].name == "equal"]
    assert len(ends) == 4
    assert {(p.lr, p.weight_decay) for member in ends for p in member.phases[-1:]} == {(0.2, 5e-3)}
    assert len({tuple(p.lr for p in member.phases) for member in ends}) == 4
    assert [p.name for p in ends[0].phases] == ["wander_1", "wander_2", "wander", "equal"]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_laws_axes_give_rate_and_weight_decay(momentum: float) -> None:
    found = made(
        train={"batch_size": 16, "momentum": momentum},
        axes={"intrinsic_lr": {"values": [1e-3, 2e-3]}, "ratio": {"values": [1.0, 100.0]}, "seed": {"range": 1}},
    )
    assert len(found) == 4
    for member in found:
        (phase,) = member.phases
        assert phase.lr * phase.weight_decay / (1 - momentum) == pytest.approx(member.axes["intrinsic_lr"], rel=1e-12)
        assert phase.lr / phase.weight_decay == pytest.approx(member.axes["ratio"], rel=1e-12)


def test_later_phases_may_relate_both_to_an_earlier_one() -> None:
    phases = [
        {"name": "train", "steps": 60},
        {
            "name": "after",
            "steps": 40,
            "kick": 1.3,
            "lr": {"of": "train", "times": 0.1},
            "weight_decay": {"of": "train", "times": 0.5},
        },
    ]
    axes = {"intrinsic_lr": {"values": [1e-2]}, "ratio": {"values": [4.0]}, "seed": {"range": 1}}
    first, after = made(phases=phases, axes=axes)[-1].phases
    assert (first.lr, first.weight_decay) == pytest.approx((0.2, 0.05))
    assert (after.lr, after.weight_decay, after.kick) == pytest.approx((0.02, 0.025, 1.3))


def test_initial_scale_is_a_kick_of_the_first_phase_and_tells_members_apart() -> None:
    found = planned(axes={**BASE["axes"], "init_scale": {"values": [1.0, 3.0]}})
    assert sorted({member.phases[0].kick for member in found.members}) == [1.0, 3.0]
    assert found.member_steps == found.member_steps_without_sharing == 400
    plain = {member.member_id for member in made()}
    assert plain == {member.member_id for member in found.members if member.phases[0].kick == 1.0}


VARIANTS = {
    "headline": {"variant": "main"},
    "variants": {
        "main": {},
        "wide": {"model": {"width": 16}, "axes": {"seed": {"range": 1}}},
        "other": {"model": {"name": "mlp", "norm": "layer"}, "measure": {"report_every": 20}},
    },
}


def test_variants_are_sweeps_of_their_own_with_what_they_change() -> None:
    found = made(**VARIANTS)
    by_variant: dict[object, list[Member]] = {}
    for member in found:
        by_variant.setdefault(member.axes["variant"], []).append(member)
    assert {name: len(some) for name, some in by_variant.items()} == {"main": 2, "wide": 1, "other": 2}
    assert by_variant["wide"][0].recipe.model_args["width"] == 16
    assert by_variant["other"][0].recipe.model == "mlp"
    assert "head_norm" not in by_variant["other"][0].recipe.model_args
    packs = planned(**VARIANTS).packs
    assert {pack.measure.report_every for pack in packs if pack.recipe.model == "mlp"} == {20}
    assert {pack.measure.report_every for pack in packs if pack.recipe.model == "mlp_si"} == {10}


def test_a_resolved_sweep_with_variants_reads_back_to_the_same_members() -> None:
    sweep = sweep_from_mapping(content(**VARIANTS))
    again = sweep_from_mapping(json.loads(json.dumps(sweep.model_dump(mode="json"))))
    assert [m.member_id for m in members(again)] == [m.member_id for m in members(sweep)]
    assert again.model_dump() == sweep.model_dump()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axes": {**BASE["axes"], "decay_at": {"values": [1.5]}}}, ("decay_at", "1.5")),
        ({"axes": {**BASE["axes"], "decay_at": {"values": [[0.75, 0.5]]}}}, ("rise", "0.75, 0.5")),
        ({"axes": {**BASE["axes"], "decay_at": {"values": [100]}}}, ("100 steps", "found 100")),
        ({"axes": {**BASE["axes"], "decay_at": {"values": ["soon"]}}}, ("never", "soon")),
        ({"phases": [{"name": "train", "steps": 100, "decay_factor": 0.1}]}, ("decay_factor", "no decay_at")),
        (
            {"phases": [{"name": "train", "steps": 100, "decay_at": 0.5, "decay_factor": 0.1, "final_lr": 0.1}]},
            ("both",),
        ),
        (
            {"phases": [{"name": "train", "steps": 100, "decay_at": 0.5, "curve": {"kind": "cosine"}}]},
            ("constant rate", "curve"),
        ),
        ({"axes": {"intrinsic_lr": {"values": [1e-3]}}}, ("ratio", "found none")),
        (
            {"axes": {**BASE["axes"], "intrinsic_lr": {"values": [1e-3]}, "ratio": {"values": [1.0]}}},
            ("intrinsic_lr and ratio", "axes.lr"),
        ),
        (
            {
                "train": {"batch_size": 16, "sphere_radius": 1.0},
                "axes": {"intrinsic_lr": {"values": [1e-3]}, "ratio": {"values": [1.0]}},
            },
            ("sphere_radius",),
        ),
        ({"axes": {**BASE["axes"], "schedule": {"range": 2}}}, ("random",)),
        (
            {"phases": [{"name": "train", "steps": 100, "random": {"lr": [1.0, 0.1], "weight_decay": [0.1, 1.0]}}]},
            ("low and a high end", "exchange"),
        ),
        (
            {"axes": {**BASE["axes"], "init_scale": {"values": [3.0]}, "train_kick": {"values": [2.0]}}},
            ("set once", "init_scale"),
        ),
        ({"analysis": {"kind": "band"}, "axes": {**BASE["axes"], "decay_at": {"values": [0.5]}}}, ("kind band",)),
        ({**VARIANTS, "headline": {}}, ("headline", "variant", "main, wide, other")),
        ({**VARIANTS, "analysis": {"kind": "invariance", "control": {"variant": "none"}}}, ("control", "none", "main")),
        ({**VARIANTS, "variants": {"main": {"model": {"width": "x"}}}}, ("variants.main", "width")),
        ({**VARIANTS, "variants": {"main": {"run": {}}}}, ("variants.main", "run")),
        ({"measure": {"report_every": 10, "labels": {"steps": [500]}}}, ("labels", "500")),
    ],
)
def test_a_fault_is_one_sentence_with_the_value_and_the_way_out(
    changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    found = faults(**changes)
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


def test_two_variants_must_not_make_the_same_member() -> None:
    with pytest.raises(SpecError, match="every member once"):
        made(headline={"variant": "a"}, variants={"a": {}, "b": {}})


@pytest.mark.parametrize("name", ["lambda-eta-digits", "decay-drop-digits", "fast-equilibrium-digits"])
def test_presets_of_one_law_keep_their_product(name: str) -> None:
    from sweeps.sweep import load_sweep

    for member in members(load_sweep(name)):
        first = member.phases[0]
        assert first.lr * first.weight_decay == pytest.approx(member.axes["intrinsic_lr"])
        assert math.isclose(first.lr / first.weight_decay, float(member.axes["ratio"]))  # type: ignore[arg-type]
