"""Members of a sweep: how many, which, and that ids depend on what is trained and nothing else."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import pytest

from sweeps.space import members
from sweeps.sweep import load_sweep, sweep_from_mapping
from trainables.spec import Curve, Phase, Recipe

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


@pytest.mark.parametrize("name", ["band-digits", "band-vit", "decay-drop-digits", "lambda-eta-digits"])
def test_an_id_is_the_hash_of_what_is_trained(name: str) -> None:
    for member in members(load_sweep(name)):
        content = [
            member.recipe.recipe_id,
            member.seed,
            member.data_seed,
            float(member.momentum),
            [phase.key for phase in member.phases],
        ]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert member.member_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_sign_of_zero_is_no_difference() -> None:
    (first, *_) = made()
    (phase,) = first.phases
    none, minus = (replace(first, phases=(replace(phase, weight_decay=decay),)) for decay in (0.0, -0.0))
    assert none.member_id == minus.member_id
    assert str(minus.phases[0].key[2]) == "0.0"


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


# The id that this member had when recipes and phases could say less: old results must still be found.
FIRST_OF_BAND_DIGITS = ("85a5450f6fe0cdc6", "6e275ce17b18cfd2")


def test_ids_of_older_sweeps_stay() -> None:
    first = members(load_sweep("band-digits"))[0]
    assert (first.member_id, first.recipe.recipe_id) == FIRST_OF_BAND_DIGITS
    written_out = {
        "batch_size": 16, "optimizer": "sgd", "nesterov": False, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
        "label_smoothing": 0, "groups": [],
    }  # fmt: skip
    flat = {"curve": {"kind": "constant", "warmup": 1}, "grad_noise": 0, "fresh_optimizer": False}
    spelled = made(train=written_out, phases=[{"name": "train", "steps": 100, **flat}])
    assert [member.member_id for member in spelled] == [member.member_id for member in made()]


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"batch_size": 16, "optimizer": "adam"}},
        {"train": {"batch_size": 16, "momentum": 0.9, "nesterov": True}},
        {"train": {"batch_size": 16, "label_smoothing": 0.1}},
        {"train": {"batch_size": 16, "groups": [{"parameters": ["*"], "lr_times": 0.5}]}},
        {"train": {"batch_size": 16, "dtype": "bfloat16"}},
        *(
            {"phases": [{"name": "train", "steps": 100, **extra}]}
            for extra in (
                {"curve": {"kind": "cosine"}}, {"curve": {"warmup": 2}}, {"curve": {"kind": "linear"}},
                {"curve": {"kind": "steps", "milestones": [50]}}, {"curve": {"kind": "loss", "below": 0.1}},
                {"grad_noise": 0.1}, {"activation_noise": 0.1}, {"fresh_optimizer": True},
            )
        ),
    ],
)  # fmt: skip
def test_whatever_changes_the_training_changes_the_id(change: dict[str, Any]) -> None:
    assert {member.member_id for member in made(**change)}.isdisjoint(member.member_id for member in made())


def test_a_rate_relative_to_an_earlier_phase_follows_its_axis() -> None:
    phases = [
        {"name": "a", "steps": 50},
        {"name": "b", "steps": 50, "lr": {"of": "a", "times": 0.1}},
        {"name": "c", "steps": 50, "lr": {"of": "b", "times": 0.5}},
    ]
    found = made(phases=phases, axes={"a_lr": {"values": [0.5, 2.0]}})
    assert [[phase.lr for phase in member.phases] for member in found] == [
        [0.5], [2.0], [0.5, 0.05], [2.0, 0.2], [0.5, 0.05, 0.025], [2.0, 0.2, 0.1]
    ]  # fmt: skip


def test_axes_of_optimizers_smoothing_and_noise() -> None:
    axes = {
        **BASE["axes"],
        "optimizer": {"values": ["sgd", "adamw"]},
        "label_smoothing": {"values": [0.0, 0.1]},
        "train_grad_noise": {"values": [0.0, 0.3]},
    }
    train = {"batch_size": 16, "momentum": 0.9, "nesterov": True, "beta1": 0.8, "eps": 1e-4}
    headline = {"optimizer": "sgd", "label_smoothing": 0.0, "train_grad_noise": 0.0}
    found = made(train=train, axes=axes, headline=headline)
    assert len(found) == 16
    for member in found:
        recipe = member.recipe
        mine = (member.momentum, recipe.nesterov, recipe.beta1, recipe.eps)
        assert mine == ((0.9, True, 0.9, 1e-8) if recipe.optimizer == "sgd" else (0.0, False, 0.8, 1e-4))
        assert recipe.optimizer == member.axes["optimizer"]
        assert recipe.label_smoothing == member.axes["label_smoothing"]
        assert member.phases[0].grad_noise == member.axes["train_grad_noise"]


def test_a_recipe_comes_back_from_json() -> None:
    train = {"batch_size": 16, "optimizer": "adamw", "groups": [{"parameters": ["@norm"], "weight_decay": 0}]}
    recipe = made(train=train)[0].recipe
    again = Recipe(**json.loads(json.dumps(asdict(recipe))))
    assert again == recipe
    assert again.recipe_id == recipe.recipe_id
    phase = Phase(name="a", steps=9, lr=0.1, curve=Curve(kind="steps", milestones=(3, 5)), grad_noise=0.1)
    assert Phase(**json.loads(json.dumps(asdict(phase)))) == phase
