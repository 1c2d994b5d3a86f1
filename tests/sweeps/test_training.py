"""How steps are done, as a sweep file says it: faults of optimisers, groups, phases and curves."""

import copy

import pytest
from drafts import GOOD, Change, faults, put

from sweeps.space import members
from sweeps.sweep import sweep_from_mapping

FAULTS: list[tuple[Change, tuple[str, ...]]] = [
    (put("train.optimizer", "adan"), ("train.optimizer must be", "did you mean 'adam'", "found 'adan'")),
    (put("train.beta2", 1), ("train.beta2 must be less than 1", "found 1")),
    (put("train.eps", 0), ("train.eps must be greater than 0", "found 0")),
    (put("train.label_smoothing", -0.1), ("train.label_smoothing must be greater", "found -0.1")),
    (put("train.beta1", 0.8), ("beta1 belongs to adam and adamw", "found 0.8 with sgd", "leave it out")),
    (put("train.nesterov", True), ("nesterov needs momentum", "found momentum 0", "train.momentum")),
    (
        put("train", {"batch_size": 16, "optimizer": "adam", "momentum": 0.9}),
        ("momentum belongs to sgd", "found 0.9 with adam", "leave it out"),
    ),
    (
        put("train", {"batch_size": 16, "optimizer": "adamw", "nesterov": True}),
        ("nesterov belongs to sgd", "found True with adamw"),
    ),
    (
        put("train", {"batch_size": 16, "optimizer": "adam", "decoupled": True}),
        ("adam has coupled weight decay", "found decoupled true", "take adamw"),
    ),
    (put("train.groups", [{"parameters": []}]), ("train.groups.0.parameters", "at least 1", "found []")),
    (put("train.groups", [{"parameters": ["@norm"]}]), ("train.groups.0", "must change something", "found neither")),
    (
        put("train.groups", [{"parameters": ["@norm"], "lr": 0.1, "lr_times": 2}]),
        ("train.groups.0", "a fixed lr is not multiplied", "lr 0.1 and lr_times 2"),
    ),
    (
        put("train.groups", [{"parameters": ["x"], "parameter": ["x"], "lr": 1}]),
        ("unknown key 'parameter'", "did you mean 'parameters'"),
    ),
    (put("phases.0.curve", {"kind": "cosin"}), ("phases.0.curve.kind must be", "did you mean 'cosine'")),
    (put("phases.0.curve", {"kind": "steps"}), ("phases.0: curve.milestones must hold", "found none", "list them")),
    (put("phases.0.curve", {"kind": "loss"}), ("phases.0: curve.below must be", "found None")),
    (put("phases.0.curve", {"end": 0.1}), ("phases.0: curve.end belongs to", "linear and cosine", "with constant")),
    (put("phases.0.curve", {"warmup": 101}), ("phases.0: curve.warmup must be at most", "100 steps", "found 101")),
    (
        put("phases.0.curve", {"kind": "cosine", "warmup": 60, "decay_steps": 50}),
        ("phases.0: curve.warmup + curve.decay_steps must be at most", "100 steps", "found 60 + 50"),
    ),
    (
        put("phases.0.curve", {"kind": "steps", "milestones": [50, 100]}),
        ("phases.0: curve.milestones must lie within", "100 steps", "found 100"),
    ),
    (
        put("phases.0.curve", {"kind": "steps", "milestones": [50, 20]}),
        ("phases.0: curve.milestones must rise", "found 50, 20"),
    ),
    (
        put("phases.0.curve", {"kind": "loss", "below": 0.1, "check_every": 200}),
        ("phases.0: curve.check_every must be at most", "100 steps", "found 200"),
    ),
    (
        put("phases.1.lr", {"of": "pretrian", "times": 0.1}, "axes.finetune_lr"),
        ("unknown earlier phase 'pretrian' in phases.1.lr.of", "did you mean 'pretrain'"),
    ),
    (put("phases.0.lr", {"of": "finetune", "times": 0.1}, "axes.pretrain_lr"), ("unknown earlier phase 'finetune'",)),
    (put("phases.1.lr", {"of": "pretrain"}, "axes.finetune_lr"), ("phases.1.lr must have the key 'times'", "add it")),
    (
        put("phases.1.lr", {"of": "pretrain", "tims": 0.1, "times": 1}, "axes.finetune_lr"),
        ("unknown key 'tims' in phases.1.lr", "did you mean 'times'", "legal: of, times"),
    ),
    (put("phases.1.lr", -0.1, "axes.finetune_lr"), ("phases.1.lr must be greater than 0", "found -0.1")),
    (put("phases.1.grad_noise", -1), ("phases.1.grad_noise must be greater than or equal to 0", "found -1")),
    (put("axes.finetune_grad_noise", {"values": [-1]}), ("axes.finetune_grad_noise", "greater than", "found -1")),
]


@pytest.mark.parametrize(("change", "words"), FAULTS, ids=[" ".join(words)[:50] for _, words in FAULTS])
def test_a_fault_is_one_sentence_with_rule_value_and_way_out(change: Change, words: tuple[str, ...]) -> None:
    found = faults(change)
    assert len(found) == 1
    for word in words:
        assert word in found[0]


def test_all_faults_of_a_curve_are_told_at_once() -> None:
    curve = {"kind": "linear", "warmup": 10, "milestones": [5], "times": 0.5, "below": 0.1}
    found = faults(put("phases.0.curve", curve), put("train.beta1", 0.8))
    words = ("curve.milestones belongs", "curve.times belongs", "curve.below belongs", "must rise", "beta1 belongs")
    assert len(found) == len(words)
    for word in words:
        assert word in "\n".join(found)


def test_an_axis_of_optimizers_takes_what_belongs_to_each() -> None:
    kinds = put("axes.optimizer", {"values": ["sgd", "adamw"]})
    train = put("train", {"batch_size": 16, "momentum": 0.9, "nesterov": True, "beta1": 0.8, "eps": 1e-6})
    headline = put("headline.optimizer", "adamw")
    assert faults(kinds, train, headline) == []
    (found,) = faults(kinds, train, headline, put("axes.beta2", {"values": [0.9, 0.99]}), put("headline.beta2", 0.9))
    assert "an axis of beta2 belongs to adam and adamw, found it beside optimizers sgd, adamw" in found
    (found,) = faults(kinds, put("headline.optimizer", "adam"))
    assert "headline.optimizer must be a value of the axis, found 'adam'; give one of sgd, adamw" in found
    (found,) = faults(put("axes.optimizer", {"values": ["sgd", "lion"]}), put("headline.optimizer", "sgd"))
    assert "axes.optimizer: every value must be 'sgd', 'adam' or 'adamw', found 'lion'" in found
    (found,) = faults(put("axes.nesterov", {"values": [False, "no"]}), put("headline.nesterov", False))
    assert "axes.nesterov: every value must be a valid boolean, found 'no'" in found


def test_training_settings_survive_the_manifest() -> None:
    sweep = copy.deepcopy(GOOD)
    sweep["train"] |= {"optimizer": "adamw", "groups": [{"parameters": ["@norm", "*.bias"], "weight_decay": 0}]}
    sweep["phases"][0] |= {"curve": {"kind": "cosine", "warmup": 5}, "grad_noise": 0.1}
    sweep["phases"][1] |= {"lr": {"of": "pretrain", "times": 0.1}, "fresh_optimizer": True}
    sweep["axes"] = {name: axis for name, axis in sweep["axes"].items() if name != "finetune_lr"}
    sweep["axes"]["label_smoothing"] = {"values": [0.0, 0.1]}
    sweep["headline"]["label_smoothing"] = 0.1
    sweep["measure"]["norm_statistics"] = "training_set"
    resolved = sweep_from_mapping(sweep)
    assert resolved.measured().norm_statistics == "training_set"
    again = sweep_from_mapping(resolved.model_dump(mode="json"))
    assert again == resolved
    assert [member.member_id for member in members(again)] == [member.member_id for member in members(resolved)]
