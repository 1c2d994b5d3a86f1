"""Angles and barriers of kept solutions: which are compared, what the rows say, weights that cannot be used."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.optim.swa_utils import update_bn

from analysis.arms import arms_of
from analysis.landscape.line import lines
from analysis.landscape.policy import PathNorms
from analysis.probing.pair_rows import pair_rows, pair_table
from analysis.probing.solutions import names_of, pairs_of, starts_of
from trainables.build import build_task
from trainables.checkpoint import Checkpoints, save_checkpoint
from trainables.evaluate import Evaluator
from trainables.spec import Recipe

TASK_ARGS = {"features": 4, "train_size": 64, "test_size": 100, "probe_size": 10}
MODEL_ARGS = {"width": 8, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}
RECIPE = Recipe(task="tick_features", task_args=TASK_ARGS, model="mlp_si", model_args=MODEL_ARGS, batch_size=16)


def _solutions(number, recipe=RECIPE):
    """Unrelated solutions of one pre-training, which share its head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = build_task(recipe, 3)
        modules = [task.model() for _ in range(number)]
    states = [dict(module.state_dict()) for module in modules]
    frozen = [name for name, p in modules[0].named_parameters() if not p.requires_grad]
    return [state | {name: states[0][name] for name in frozen} for state in states]


def _keep(folder, name, states, entries, recipe=RECIPE):
    weights = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    steps, seeds = [7] * len(entries), [(0, 3)] * len(entries)
    save_checkpoint(folder / name, weights, entries, steps=steps, recipe=recipe, seeds=seeds, executor="loop")


def _arm(*more_seeds, averages=()):
    """One learning rate, a pre-trained member and two fine-tuned ones for each seed."""
    rows = []
    for seed in (0, *more_seeds):
        member = "m" if seed == 0 else f"m{seed}"
        common = {"data_seed": 3, "seed": seed, "pretrain_lr": 1e-3, "pretrain_steps": 1, "status": "completed"}
        rows += [
            common | {"member_id": member, "lr": 1e-3, "finetune_lr": None, "steps": 1},
            common | {"member_id": f"{member}-low", "lr": 1e-4, "finetune_lr": 1e-4, "steps": 2},
            common | {"member_id": f"{member}-high", "lr": 1e-2, "finetune_lr": 1e-2, "steps": 2},
        ]
    members = pd.DataFrame(rows).astype({"finetune_lr": float})
    (arm,) = arms_of(members, ["pretrain_lr", "finetune_lr"], ["pretrain", "finetune"], list(averages))
    return arm


def _table(arm, kept):
    return pair_table(starts_of(arm, kept), pairs_of(arm))


def _numbers(rows):
    """Rows of one pair as `SPLIT_KEY` to value."""
    return {f"{row.split}_{row.key}": row.value for row in rows}


# Which are compared


def test_which_solutions_are_compared():
    def arm(*names):
        return SimpleNamespace(qualities=names)

    full = arm("final", "finetune@1e-4", "finetune@2e-3", "swa@5", "swa@20")
    assert pairs_of(full) == (("low", "high"), ("low", "swa"), ("high", "swa"), ("low", "swa@5"), ("high", "swa@5"))
    assert names_of(arm("final", "finetune@1e-4", "swa@20"))["swa"] == ("final", "swa@20")
    assert pairs_of(arm("final", "swa@20")) == (("final", "swa"),)
    assert pairs_of(arm("final")) == ()
    assert names_of(full) == {
        "low": ("finetune@1e-4", "end"),
        "high": ("finetune@2e-3", "end"),
        "swa": ("final", "swa@20"),
        "final": ("final", "end"),
        "swa@5": ("final", "swa@5"),
    }
    assert list(names_of(arm("final"))) == ["final"]


def test_every_window_is_compared_with_low_and_high_but_not_with_another_window():
    arm = _arm(averages=("swa@2", "swa@5"))
    kept = {("m-low", "end"), ("m-high", "end"), ("m", "swa@2"), ("m", "swa@5"), ("m", "end")}
    table = _table(arm, kept)
    assert set(table["pair"]) == {"low-high", "low-swa", "high-swa", "low-swa@2", "high-swa@2"}
    row = table.set_index("pair").loc["high-swa@2"]
    assert row[["member_id", "group", "other_member_id", "other_group"]].tolist() == ["m-high", "end", "m", "swa@2"]
    assert row[["data_seed", "unit", "place"]].tolist() == [3, 0, 0]
    assert set(_table(arm, kept - {("m-high", "end"), ("m", "swa@5")})["pair"]) == {"low-swa@2"}
    assert _table(arm, set()).empty


# Measured from checkpoints


def test_real_checkpoints_against_a_plain_loop(tmp_path):
    low, high = _solutions(2)
    _keep(tmp_path, "x", [low, high], [("m-low", "end"), ("m-high", "end")])
    checkpoints = Checkpoints(tmp_path)
    table = _table(_arm(), checkpoints.entries())
    found = _numbers(pair_rows(Evaluator(RECIPE, [3]), checkpoints, table, radius=None))
    task, fine = build_task(RECIPE, 3), np.linspace(0, 1, 20 * 8 + 1)  # the finest points that refinement can reach
    curves = {"train_error": [], "train_loss": [], "test_error": [], "test_loss": []}
    for alpha in fine:
        module = task.model()
        module.load_state_dict({name: (1 - alpha) * low[name] + alpha * high[name] for name in low})
        for split in ("train", "test"):
            data = getattr(task, split)
            logits, y = module(data.x.float()).flatten(), data.y.flatten().float()
            curves[f"{split}_error"].append(((logits > 0).float() != y).float().mean().item())
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
            curves[f"{split}_loss"].append(loss.item())
    for name, curve in curves.items():
        above = np.array(curve) - (1 - fine) * curve[0] - fine * curve[-1]
        coarse = above[::8].max()
        chord = found[f"{name}_chord"]
        assert coarse - 1e-6 <= chord <= above.max() + 1e-6
        assert found[f"{name}_at"] == pytest.approx(fine[np.abs(above - chord).argmin()], abs=0.1)
        assert found[f"{name}_mean"] >= max(curve[::8]) - (curve[0] + curve[-1]) / 2 - 1e-6
        assert found[f"{name}_worse"] <= chord + 1e-9
        assert 0 < found[f"{name}_chord_se"] < 0.5
        if name.endswith("loss"):
            assert chord == pytest.approx(above.max(), abs=2e-4)  # smooth: the refined maximum is the maximum
            assert chord > coarse
    assert 1.3 < found["weights_scale_invariant"] < 1.8  # unrelated weights


def test_rows_say_whose_they_are(tmp_path):
    states = _solutions(3)
    _keep(tmp_path, "x", states, [("m-low", "end"), ("m-high", "end"), ("m", "swa@5")])
    arm, checkpoints = _arm(averages=("swa@5",)), Checkpoints(tmp_path)
    evaluator = Evaluator(RECIPE, [3])
    rows = pair_rows(evaluator, checkpoints, _table(arm, checkpoints.entries()), radius=None, attempt=2)
    assert len({(r.member_id, r.other_member_id, r.group, r.probe, r.split, r.key) for r in rows}) == len(rows)
    assert {(row.attempt, row.step) for row in rows} == {(2, 7)}
    values = {(row.member_id, row.other_member_id, row.split, row.key): row.value for row in rows}
    own = evaluator({name: t[None] for name, t in states[2].items()}, [3], "test")
    assert values["m-high", "m", "test", "error_second"] == pytest.approx(float(own.error))
    assert values["m-low", "m", "test", "loss_second"] == pytest.approx(float(own.loss))
    assert {row.group for row in rows} == {"end~end", "end~swa@5"}
    assert {(r.split, r.n) for r in rows} == {("train", 64), ("test", 100), ("weights", 2 * 64)}


def test_chunks_change_nothing(tmp_path, monkeypatch):
    states = _solutions(9)
    entries = [
        (f"m{seed or ''}{which}", group)
        for seed in range(3)
        for which, group in (("-low", "end"), ("-high", "end"), ("", "swa@5"))
    ]
    _keep(tmp_path, "x", states, entries)
    arm, checkpoints, evaluator = _arm(1, 2, averages=("swa@5",)), Checkpoints(tmp_path), Evaluator(RECIPE, [3])
    table = _table(arm, checkpoints.entries())
    assert len(table) == 9
    whole = pair_rows(evaluator, checkpoints, table, radius=1.0, points=4, rounds=1)
    monkeypatch.setattr("analysis.probing.pair_rows._JUDGED", 1)
    monkeypatch.setattr("analysis.landscape.line.ELEMENTS", 3 * 200)
    parts = pair_rows(evaluator, checkpoints, table, radius=1.0, points=4, rounds=1)
    assert [(r.member_id, r.group, r.probe, r.split, r.key) for r in whole] == [
        (r.member_id, r.group, r.probe, r.split, r.key) for r in parts
    ]
    np.testing.assert_allclose([r.value for r in whole], [r.value for r in parts], rtol=1e-6, atol=1e-12)


def test_batch_norms_of_checkpoints_by_policy(tmp_path):
    """A perceptron with batch norms in batched form, against its own module."""
    task_args = {"train_size": 60, "test_size": 50, "label_noise": 0.0}
    args = {"width": 8, "depth": 1, "norm_eps": 1e-5}
    recipe = Recipe(task="digits", task_args=task_args, model="mlp_norm", model_args=args, batch_size=20)
    states = _solutions(2, recipe)
    evaluator, task = Evaluator(recipe, [3]), build_task(recipe, 3)
    solutions = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    found = {
        norms: lines(evaluator, solutions, [(0, 1)], data_seeds=[3, 3], grid=3, rounds=0, norms=norms)[0]
        for norms in PathNorms
    }
    module = task.model()
    module.load_state_dict({name: (states[0][name] + states[1][name]) / 2 for name in states[0]})
    x, y = task.inputs(task.train.x, torch.float32), task.train.y

    def losses(*parts):
        return torch.cat([task.loss(module(x[part]), y[part]) for part in parts]).detach()

    module.eval()
    np.testing.assert_allclose(found["mixed"].losses["train"][1], losses(slice(None)), rtol=1e-4, atol=1e-5)
    module.train()
    own = losses(slice(0, 20), slice(20, 40), slice(40, 60))
    np.testing.assert_allclose(found["train_batch"].losses["train"][1], own, rtol=1e-4, atol=1e-5)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.momentum = None
    update_bn([x], module)
    module.eval()
    np.testing.assert_allclose(found["reestimated"].losses["train"][1], losses(slice(None)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["train_batch"].losses["test"], found["reestimated"].losses["test"])


# What cannot be used


def _faulty(tmp_path, spoil):
    """Two seeds; something is wrong with one solution of the second."""
    states = _solutions(4)
    _keep(tmp_path, "a", states[:2], [("m-low", "end"), ("m-high", "end")])
    spoil(tmp_path, states[2:])
    checkpoints, arm = Checkpoints(tmp_path), _arm(1)
    table = _table(arm, checkpoints.entries())
    assert len(table) == 2
    rows = pair_rows(Evaluator(RECIPE, [3]), checkpoints, table, radius=None, points=3, rounds=0)
    faults = [row for row in rows if row.probe == "fault"]
    assert {row.member_id for row in rows if row.probe == "barrier"} == {"m-low"}  # the rest goes on
    turned = pair_rows(Evaluator(RECIPE, [3]), checkpoints, table[::-1], radius=None, points=3, rounds=0)
    assert {row.member_id for row in turned if row.probe == "barrier"} == {"m-low"}
    assert [row.value is None for row in turned if row.probe == "angle"] == [False]
    (fault,) = faults
    assert (fault.value, fault.n, fault.group) == (None, 0, "end")
    return fault


OTHERS = [("m1-low", "end"), ("m1-high", "end")]


def test_weights_that_are_not_finite(tmp_path):
    def spoil(folder, states):
        broken = {name: torch.full_like(tensor, float("nan")) for name, tensor in states[1].items()}
        _keep(folder, "b", [states[0], broken], OTHERS)

    fault = _faulty(tmp_path, spoil)
    assert (fault.member_id, fault.step) == ("m1-high", 7)
    assert fault.key == "weights 'end' of member m1-high are not finite; they were left out"


def test_weights_of_another_shape(tmp_path):
    other = Recipe(
        task="tick_features", task_args=TASK_ARGS, model="mlp_si", model_args=MODEL_ARGS | {"width": 6}, batch_size=16
    )

    def spoil(folder, states):
        _keep(folder, "b", states[:1], OTHERS[:1])
        _keep(folder, "0", _solutions(1, other), OTHERS[1:], other)

    fault = _faulty(tmp_path, spoil)
    assert fault.member_id == "m1-high"
    assert "come from another architecture: one holds '0.weight' as (6, 8) instead of (8, 8)" in fault.key


def test_weights_of_another_recipe_in_the_same_shape(tmp_path):
    other = Recipe(
        task="tick_features",
        task_args=TASK_ARGS,
        model="mlp_si",
        model_args=MODEL_ARGS | {"head_norm": 1.0},
        batch_size=16,
    )

    def spoil(folder, states):
        _keep(folder, "b", states[:1], OTHERS[:1])
        _keep(folder, "c", states[1:], OTHERS[1:], other)

    assert "were trained by another recipe than 'end' of member m1-low" in _faulty(tmp_path, spoil).key


def test_weights_whose_file_is_broken(tmp_path):
    def spoil(folder, states):
        _keep(folder, "b", states[:1], OTHERS[:1])
        _keep(folder, "c", states[1:], OTHERS[1:])
        (folder / "c.safetensors").write_bytes(b"nothing")

    row = _faulty(tmp_path, spoil)
    assert (row.member_id, row.group) == ("m1-high", "end")
    assert "c.safetensors cannot be read" in row.key


def test_weights_that_a_table_asks_for_but_were_not_kept(tmp_path):
    low, high = _solutions(2)
    _keep(tmp_path, "x", [low, high], [("m-low", "end"), ("m-high", "end")])
    row = {"member_id": "m-low", "group": "end", "other_member_id": "m", "other_group": "swa@5", "data_seed": 3}
    rows = pair_rows(Evaluator(RECIPE, [3]), Checkpoints(tmp_path), pd.DataFrame([row]), radius=None)
    assert [(row.probe, row.member_id, row.group, row.step) for row in rows] == [("fault", "m", "swa@5", 0)]
    assert rows[0].key == "no weights 'swa@5' of member m; kept of it: nothing"
