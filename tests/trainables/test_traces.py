"""Norms, angles, kicks and predictions, against ordinary modules in float64 stepped by hand."""

import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from packs import facts, recipe, run, separate_pack, shared_pack
from torch import nn

from trainables.arena import open_arena
from trainables.checkpoint import load_member
from trainables.order import batches
from trainables.population import fresh, scale_rows
from trainables.spec import Labels, Measure, Member, Phase, SpecError

FREE = {"sphere_radius": None, "dtype": "float64"}
LAYERS = ("0.weight", "3.weight")
KEYS = ("norm_sq", "grad_norm_sq", "unit_grad_norm_sq", "angle", "effective_lr")


def member(*phases: Phase, seed: int = 0, **changes: object) -> Member:
    return Member(recipe=recipe(**{**FREE, **changes}), seed=seed, data_seed=0, phases=phases)


def by_hand(of: Member, momentum: float = 0.0) -> list[dict[str, dict[str, float]]]:
    """Every step's facts, from torch's own optimiser and angles from float64 dot products."""
    arena = open_arena(of.recipe, [of.data_seed])
    torch.manual_seed(of.seed)
    module = arena.task.model().double()
    table = batches([of.seed], arena.train.samples, of.recipe.batch_size, 0, of.steps)[:, 0]
    named = dict(module.named_parameters())
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0, momentum=momentum)
    out, step = [], 0
    for phase in of.phases:
        with torch.no_grad():
            for name in LAYERS:
                named[name] *= phase.kick
        for group in optimizer.param_groups:
            group.update(lr=phase.lr, weight_decay=phase.weight_decay)
        for _ in range(phase.steps):
            x, y = arena.train.x[0, table[step]], arena.train.y[0, table[step]]
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            before = {name: named[name].detach().flatten().clone() for name in LAYERS}
            slope = {name: named[name].grad.flatten().clone() for name in LAYERS}
            optimizer.step()
            after = {name: named[name].detach().flatten().clone() for name in LAYERS}
            for each in (before, slope, after):
                each["scale_invariant"] = torch.cat([each[name] for name in LAYERS])
            out.append(
                {
                    name: {
                        "norm_sq": float(after[name] @ after[name]),
                        "grad_norm_sq": float(slope[name] @ slope[name]),
                        "unit_grad_norm_sq": float((slope[name] @ slope[name]) * (before[name] @ before[name])),
                        "angle": math.acos(
                            min(1.0, float(before[name] @ after[name] / before[name].norm() / after[name].norm()))
                        ),
                        "effective_lr": phase.lr / float(before[name] @ before[name]),
                    }
                    for name in before
                }
            )
            step += 1
    return out


def interval(steps: list[dict[str, dict[str, float]]], group: str, key: str) -> float:
    values = [step[group][key] for step in steps]
    if key == "norm_sq":
        return values[-1]
    return math.sqrt(sum(v * v for v in values) / len(values)) if key == "angle" else sum(values) / len(values)


@pytest.mark.parametrize("executor", ["loop", "stacked"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_traces_are_what_a_step_by_step_run_measures(executor: str, momentum: float, tmp_path: Path) -> None:
    one = member(
        Phase(name="train", steps=12, lr=0.3, weight_decay=0.02),
        Phase(name="kicked", steps=8, lr=0.3, weight_decay=0.02, kick=1.3),
    )
    one = dataclasses.replace(one, momentum=momentum)
    measure = Measure(report_every=20, trace={"train": 6, "kicked": 4})
    found = facts(run(separate_pack(one, measure=measure), tmp_path, executor=executor))[one.member_id]
    steps = by_hand(one, momentum)
    # the first step of each phase stands alone: what a kick does at once
    for start, stop in ((0, 1), (1, 6), (6, 12), (12, 13), (13, 16), (16, 20)):
        for group in (*LAYERS, "scale_invariant"):
            for key in KEYS:
                row = found[stop, "trace", "train", group, key]
                assert row["value"] == pytest.approx(interval(steps[start:stop], group, key), rel=1e-9), (group, key)
                assert row["n"] == stop - start
    assert {key[0] for key in found if len(key) == 5 and key[1] == "trace"} == {1, 6, 12, 13, 16, 20}


def test_the_angle_keeps_its_digits_where_cosines_lose_them(tmp_path: Path) -> None:
    one = member(Phase(name="train", steps=3, lr=1e-6, weight_decay=0.0))
    measure = Measure(report_every=3, trace={"train": 3})
    exact = facts(run(separate_pack(one, measure=measure), tmp_path / "64", executor="loop"))[one.member_id]
    single = member(Phase(name="train", steps=3, lr=1e-6, weight_decay=0.0), dtype="float32")
    rough = facts(run(separate_pack(single, measure=measure), tmp_path / "32", executor="loop"))[single.member_id]
    key = (3, "trace", "train", "scale_invariant", "angle")
    assert 0 < exact[key]["value"] < 1e-5
    # the weights themselves are rounded to 6e-8 of their size in float32
    assert rough[key]["value"] == pytest.approx(exact[key]["value"], abs=1e-7)


def test_measuring_changes_no_weight_and_interruptions_no_trace(tmp_path: Path) -> None:
    phases = (Phase(name="train", steps=24, lr=0.3, weight_decay=0.02), Phase(name="kicked", steps=8, lr=0.3, kick=2.0))
    members = [member(*phases, seed=seed) for seed in (0, 1)]
    packs = [
        dataclasses.replace(shared_pack(members, measure=measure), segments=_both_phases(members))
        for measure in (Measure(report_every=8), Measure(report_every=8, trace={"train": 5, "kicked": 3}))
    ]
    plain = facts(run(packs[0], tmp_path / "plain", executor="stacked"))
    whole = facts(run(packs[1], tmp_path / "whole", executor="stacked"))
    for member_id, rows in plain.items():
        assert rows == {key: whole[member_id][key] for key in rows}
    pieces: dict[str, dict[object, object]] = {}
    reports, attempt = [], 0
    while not reports or not reports[-1].done:
        stop = partial(next, iter([False]), True)
        reports = run(packs[1], tmp_path / "pieces", executor="stacked", save_seconds=0.0, stop=stop)
        for member_id, rows in facts(reports).items():
            pieces.setdefault(member_id, {}).update(rows)
        attempt += 1
    assert attempt > 2
    assert pieces == whole


def _both_phases(members: list[Member]) -> tuple[object, ...]:
    segments, offset = [], 0
    for one in members:
        own = separate_pack(one).segments
        segments += [
            dataclasses.replace(s, parent=None if s.parent is None else s.parent + offset, phase=one.phases[place])
            for place, s in enumerate(own)
        ]
        offset += len(own)
    return tuple(segments)


def test_a_kick_leaves_the_function_and_scales_the_norm() -> None:
    of = recipe(**FREE)
    arena = open_arena(of, [0])
    population = fresh(arena.task.model, [0, 1], transposed=(), momentum=False, squares=False, dtype=torch.float64)
    before = {name: value.clone() for name, value in population.trained.items()}
    scale_rows(population, [True, True], [3.0, 1.0])
    x = arena.train.x[0, :10].double()
    for name, value in population.trained.items():
        assert torch.equal(value[1], before[name][1])
        assert torch.equal(value[0], 3 * before[name][0])
    module = arena.task.model().double()
    kept = {name: value[0] for name, value in population.frozen.items()}
    old = torch.func.functional_call(module, {**{n: v[0] for n, v in before.items()}, **kept}, (x,))
    new = torch.func.functional_call(module, {**{n: v[0] for n, v in population.trained.items()}, **kept}, (x,))
    torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)  # the network's norm eps is 1e-7


def test_the_scale_of_initial_weights_is_a_kick_of_the_first_phase(tmp_path: Path) -> None:
    measure = Measure(report_every=1, trace={"train": 1})
    norms = []
    for kick in (1.0, 3.0):
        one = member(Phase(name="train", steps=1, lr=1e-9, kick=kick))
        found = facts(run(separate_pack(one, measure=measure), tmp_path / str(kick), executor="loop"))[one.member_id]
        norms.append(found[1, "trace", "train", "scale_invariant", "norm_sq"]["value"])
    assert norms[1] / norms[0] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "mlp", "model_args": {"width": 8, "depth": 1, "norm": "none", "dropout": 0.0}}, "scale-invariant"),
        ({"sphere_radius": 1.0}, "sphere"),
    ],
)
def test_a_kick_that_means_nothing_is_refused(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    one = member(Phase(name="train", steps=4, lr=0.1, kick=2.0), **changes)
    with pytest.raises(SpecError, match=words):
        run(separate_pack(one), tmp_path)


@pytest.mark.parametrize("executor", ["loop", "stacked"])
def test_labels_are_what_the_kept_network_predicts(executor: str, tmp_path: Path) -> None:
    one = member(Phase(name="train", steps=20, lr=0.5))
    measure = Measure(report_every=10, keep=(10,), labels=Labels(steps=(10, 20), samples=37))
    found = facts(run(separate_pack(one, measure=measure), tmp_path, executor=executor))[one.member_id]
    x = open_arena(one.recipe, [0]).splits["test"].x[0, :37]
    for step, group in ((10, "step@10"), (20, "end")):
        wanted = load_member(tmp_path / "checkpoints", one.member_id, group).double()(x).argmax(1).tolist()
        assert [found[step, "label", "test", "end", str(i)]["value"] for i in range(37)] == wanted
    assert (20, "label", "test", "end", "37") not in found
