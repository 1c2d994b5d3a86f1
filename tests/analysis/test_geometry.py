"""Angles and barriers: zero to itself, known on a quadratic, measured from real checkpoints."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.geometry import _affordable, barrier, measure, pairs_of, solutions_of
from trainables.spec import SpecError


@dataclass
class Result:
    loss: torch.Tensor
    error: torch.Tensor
    n: int = 1


@dataclass
class Wells:
    """Loss of a double well along the first coordinate, (x^2 - 1)^2; error its square root, capped at 1."""

    scale_invariant: tuple[str, ...] = ()
    trained: tuple[str, ...] = ("w",)
    reestimated: int = 0

    def __call__(self, weights, data_seeds, split):
        loss = (weights["w"][:, 0] ** 2 - 1) ** 2
        return Result(loss if split == "train" else 2 * loss, loss.sqrt().clamp(max=1))

    def reestimate_norms(self, weights, data_seeds):
        self.reestimated += len(data_seeds)


@dataclass
class Kept:
    held: dict

    def weights(self, keys):
        return {"w": torch.stack([self.held[key] for key in keys]), "count": torch.zeros(len(keys), dtype=torch.long)}


def _pair(a, b):
    row = {"key_0": "a", "group_0": "end", "key_1": "b", "group_1": "end", "data_seed": 0, "pair": "low-high"}
    held = {("a", "end"): torch.tensor(a), ("b", "end"): torch.tensor(b)}
    return Kept(held), pd.DataFrame([row])


def test_barrier_to_itself_is_zero_and_never_negative():
    kept, table = _pair([1.0, 0.5], [1.0, 0.5])
    found = measure(Wells(), kept, table, None).iloc[0]
    assert found[["angle", "train_loss", "train_error", "test_loss", "test_error"]].abs().max() < 1e-6
    assert barrier(np.array([[1.0], [0.2], [1.0]]), np.linspace(0, 1, 3)) == [0.0]


def test_barrier_of_a_double_well_is_its_ridge():
    kept, table = _pair([-1.0, 0.0], [1.0, 0.0])
    found = measure(Wells(), kept, table, None).iloc[0]
    assert found["train_loss"] == pytest.approx(1.0)
    assert found["test_loss"] == pytest.approx(2.0)
    assert found["train_error"] == pytest.approx(1.0)
    assert found["angle"] == pytest.approx(np.pi)


def test_a_convex_valley_has_no_barrier_and_unequal_ends_count_from_the_chord():
    alphas = np.linspace(0, 1, 11)
    bowl = ((alphas - 0.3) ** 2)[:, None]
    bump = (alphas + 0.4 * np.sin(np.pi * alphas))[:, None]
    np.testing.assert_allclose(barrier(np.hstack([bowl, bump]), alphas), [0.0, 0.4])


def test_small_angles_keep_their_digits():
    kept, table = _pair([1.0, 0.0], [1.0, 1e-4])
    assert measure(Wells(), kept, table, None).iloc[0]["angle"] == pytest.approx(1e-4, rel=1e-6)


def test_mixtures_are_put_back_on_the_sphere():
    seen = []

    class Sphere(Wells):
        def __call__(self, weights, data_seeds, split):
            seen.append(weights["w"].norm(dim=1))
            return super().__call__(weights, data_seeds, split)

    kept, table = _pair([2.0, 0.0], [0.0, 2.0])
    measure(Sphere(scale_invariant=("w",)), kept, table, 2.0)
    torch.testing.assert_close(torch.cat(seen), torch.full((22,), 2.0))


def test_which_solutions_are_compared():
    from types import SimpleNamespace

    def arm(*names):
        return SimpleNamespace(qualities=names)

    assert pairs_of(arm("final", "finetune@1e-4", "finetune@2e-3", "swa@5", "swa@20")) == [
        "low-high",
        "low-swa",
        "high-swa",
    ]
    assert solutions_of(arm("final", "finetune@1e-4", "swa@20"))["swa"] == ("final", "swa@20")
    assert pairs_of(arm("final", "swa@20")) == ["end-swa"]
    assert pairs_of(arm("final")) == []


def test_real_checkpoints_against_a_plain_loop(tmp_path):
    from torch import nn

    from analysis.arms import arms_of
    from analysis.geometry import geometry
    from trainables.build import build_task
    from trainables.checkpoint import Checkpoints, save_checkpoint
    from trainables.spec import Recipe

    task_args = {"features": 4, "train_size": 64, "test_size": 100, "probe_size": 10}
    model_args = {"width": 8, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}
    recipe = Recipe(task="tick_features", task_args=task_args, model="mlp_si", model_args=model_args, batch_size=16)
    task = build_task(recipe, 3)
    torch.manual_seed(0)
    low, high = task.model().state_dict(), task.model().state_dict()
    frozen = [name for name, p in task.model().named_parameters() if not p.requires_grad]
    high |= {name: low[name] for name in frozen}  # both come from one pre-training and share its head
    stacked = {name: torch.stack([low[name], high[name]]) for name in low}
    entries = [("m-low", "end"), ("m-high", "end")]
    steps, seeds = [2, 2], [(0, 3), (0, 3)]
    save_checkpoint(tmp_path / "x", stacked, entries, steps=steps, recipe=recipe, seeds=seeds, executor="loop")
    common = {"data_seed": 3, "seed": 0, "pretrain_lr": 1e-3, "pretrain_steps": 1, "status": "completed"}
    members = pd.DataFrame(
        [
            common | {"member_id": "m", "lr": 1e-3, "finetune_lr": None, "steps": 1},
            common | {"member_id": "m-low", "lr": 1e-4, "finetune_lr": 1e-4, "steps": 2},
            common | {"member_id": "m-high", "lr": 1e-2, "finetune_lr": 1e-2, "steps": 2},
        ]
    ).astype({"finetune_lr": float})
    (arm,) = arms_of(members, ["pretrain_lr", "finetune_lr"], ["pretrain", "finetune"], [])
    found = geometry(arm, Checkpoints(tmp_path)).iloc[0]

    errors, losses = [], []
    for alpha in np.linspace(0, 1, 11):
        module = task.model()
        module.load_state_dict({name: (1 - alpha) * low[name] + alpha * high[name] for name in low})
        logits = module(task.train.x.float()).flatten()
        errors.append(((logits > 0).float() != task.train.y.flatten()).float().mean().item())
        losses.append(nn.functional.binary_cross_entropy_with_logits(logits, task.train.y.float().flatten()).item())
    line = np.linspace(0, 1, 11)
    for curve, name in ((errors, "train_error"), (losses, "train_loss")):
        oracle = max(0.0, float((np.array(curve) - (1 - line) * curve[0] - line * curve[-1]).max()))
        assert found[name] == pytest.approx(oracle, abs=1e-5)
    assert max(losses) > losses[0]  # there is something to see
    assert 1.3 < found["angle"] < 1.8  # unrelated weights


def test_where_time_is_short_fewer_seeds_then_one_pair_then_nothing_is_measured():
    rows = [{"unit": unit, "lr": lr, "pair": pair} for unit in range(3) for lr in (1, 2) for pair in ("a-b", "a-c")]
    table = pd.DataFrame(rows)
    assert len(_affordable(table, 0.0, 60)) == 12
    assert len(_affordable(table, 5.0, 60)) == 12
    two_seeds = _affordable(table, 7.0, 60)
    assert set(two_seeds["unit"]) == {0, 1}
    assert set(two_seeds["pair"]) == {"a-b", "a-c"}
    one_pair = _affordable(table, 25.0, 60)
    assert one_pair.to_dict("records") == [row for row in rows if row["unit"] == 0 and row["pair"] == "a-b"]
    with pytest.raises(SpecError, match="one seed takes about 2 minutes"):
        _affordable(table, 61.0, 60)
