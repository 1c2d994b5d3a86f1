"""Members of a sweep: how many, which, and that ids depend on what is trained and nothing else."""

from collections import Counter
from typing import Any

import pytest

from sweeps.space import members
from sweeps.sweep import load_sweep, sweep_from_mapping

BASE: dict[str, Any] = {
    "name": "small",
    "task": {"name": "digits"},
    "model": {"name": "mlp_si"},
    "train": {"batch_size": 16},
    "phases": [{"name": "train", "steps": 100}],
    "axes": {"lr": {"values": [1e-3, 1e-2]}},
    "measure": {"report_every": 10},
}


def made(**changes: Any) -> Any:
    return members(sweep_from_mapping({**BASE, **changes}))


@pytest.mark.parametrize(
    ("name", "by_phase"),
    [
        ("band-digits", {"pretrain": 192, "finetune": 384}),
        ("band-tick", {"pretrain": 288, "finetune": 576}),
        ("band-tick-paper", {"pretrain": 1150, "finetune": 12650}),
    ],
)
def test_presets(name: str, by_phase: dict[str, int]) -> None:
    found = members(load_sweep(name))
    assert Counter(member.phases[-1].name for member in found) == by_phase
    assert len({member.member_id for member in found}) == len(found)


def test_axes_of_a_later_phase_do_not_multiply_the_earlier_ones() -> None:
    phases = [{"name": "a", "steps": 100}, {"name": "b", "lr": 0.1}, {"name": "c", "steps": 30}]
    axes = {
        "a_lr": {"values": [1e-3, 1e-2]},
        "b_steps": {"values": [10, 20, 30]},
        "c_lr": {"values": [1e-4, 1e-5]},
        "seed": {"range": 2},
    }
    found = made(phases=phases, axes=axes)
    assert Counter(len(member.phases) for member in found) == {1: 4, 2: 12, 3: 24}
    assert {member.steps for member in found} == {100, 110, 120, 130, 140, 150, 160}


def test_same_as_follows_its_axis() -> None:
    digits = members(load_sweep("band-digits"))
    assert all(member.seed == member.data_seed == member.axes["data_seed"] for member in digits)
    crossed = Counter((member.seed, member.data_seed) for member in members(load_sweep("band-tick")))
    assert len(crossed) == 24
    # An earlier phase may follow a later one's axis: then that axis counts from the start.
    phases = [{"name": "a", "steps": 50}, {"name": "b", "steps": 50}]
    axes = {"a_lr": {"same_as": "b_lr"}, "b_lr": {"values": [0.1, 0.2]}}
    assert [[p.lr for p in m.phases] for m in made(phases=phases, axes=axes)] == [[0.1], [0.2], [0.1] * 2, [0.2] * 2]


def test_weight_decay_of_one_phase_and_of_all() -> None:
    phases = [{"name": "a", "steps": 50, "lr": 0.1}, {"name": "b", "steps": 50, "lr": 0.1, "weight_decay": 0.5}]
    axes = {"weight_decay": {"values": [0.0, 0.1]}}
    found = made(phases=phases, axes=axes, headline={"weight_decay": 0.1})
    assert [[p.weight_decay for p in m.phases] for m in found] == [[0.0], [0.1], [0.0, 0.5], [0.1, 0.5]]
    axes = {"a_weight_decay": {"values": [0.2]}}
    found = made(phases=phases, axes=axes, train={"batch_size": 16, "weight_decay": 0.3})
    assert [[p.weight_decay for p in m.phases] for m in found] == [[0.2], [0.2, 0.5]]


def test_ids_depend_on_what_is_trained_only() -> None:
    plain = {member.member_id: member for member in made()}
    again = made(
        name="other",
        task={"name": "digits", "train_size": 300.0, "test_size": 1200},  # the defaults, one of them as a float
        model={"name": "mlp_si", "head_norm": 10},
        phases=[{"name": "another", "steps": 100}],
        axes={"seed": {"values": [0]}, "another_lr": {"values": [1e-2, 5e-3, 1e-3]}},
        measure={"report_every": 20, "keep": [50]},
    )
    assert set(plain) < {member.member_id for member in again}
    other = made(task={"name": "digits", "train_size": 299})
    assert set(plain).isdisjoint(member.member_id for member in other)


def test_recipes_come_from_axes_of_task_model_and_batch() -> None:
    axes = {**BASE["axes"], "width": {"values": [8, 16]}, "label_noise": {"values": [0.0, 0.5]}}
    found = made(axes=axes, headline={"width": 8, "label_noise": 0.0})
    recipes = {member.recipe.recipe_id: member.recipe for member in found}
    assert len(recipes) == 4
    assert {(r.model_args["width"], r.task_args["label_noise"]) for r in recipes.values()} == {
        (8, 0.0), (8, 0.5), (16, 0.0), (16, 0.5)
    }  # fmt: skip
