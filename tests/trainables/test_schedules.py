"""From the sweep file to the weights: whatever optimiser and schedule, a pack trains as torch would by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import facts, run, separate_pack
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from sweeps.plan import Plan, plan
from sweeps.sweep import sweep_from_mapping
from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.order import batches
from trainables.spec import Member

STEPS = 30
BASE: dict[str, Any] = {
    "name": "schedules",
    "task": {"name": "digits", "train_size": 64, "test_size": 50},
    "model": {"name": "mlp", "width": 6, "depth": 2, "norm": "layer"},
    "train": {"batch_size": 16, "dtype": "float64"},
    "phases": [{"name": "a", "steps": STEPS}, {"name": "b", "steps": 12, "lr": {"of": "a", "times": 0.1}}],
    "axes": {"a_lr": {"values": [0.02, 0.1]}, "seed": {"range": 2}},
    "measure": {"report_every": 12},
}

Schedule = Callable[[Optimizer], lr_scheduler.LRScheduler]


def planned(**changes: Any) -> Plan:
    return plan(sweep_from_mapping({**BASE, **changes}), cores=1, memory_bytes=8 << 30)


def sgd(module: nn.Module, member: Member) -> Optimizer:
    nesterov = member.recipe.nesterov
    return torch.optim.SGD(module.parameters(), lr=1.0, momentum=member.momentum, nesterov=nesterov, weight_decay=0.01)


def adamw(module: nn.Module, _: Member) -> Optimizer:
    """No decay of biases and norms, a tenth of the rate for the first layer's weight."""
    named = dict(module.named_parameters())
    norms = {id(p) for layer in module.modules() if isinstance(layer, nn.LayerNorm) for p in layer.parameters()}
    plain = [p for name, p in named.items() if id(p) in norms or name.endswith("bias")]
    first = next(p for p in named.values() if all(p is not other for other in plain))
    rest = [p for p in named.values() if p is not first and all(p is not other for other in plain)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest}, {"params": [first]}]
    optimiser = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    for group, times in zip(optimiser.param_groups, (1.0, 1.0, 0.1), strict=True):
        group["times"] = times
    return optimiser


def by_hand(
    member: Member, make: Callable[[nn.Module, Member], Optimizer], schedule: Schedule, *, fresh: bool, smoothing: float
) -> nn.Module:
    """An ordinary training loop; the first phase's rate follows a torch scheduler."""
    task = build_task(member.recipe, member.data_seed)
    torch.manual_seed(member.seed)
    module = task.model().double()
    optimiser, step, seen, losses = make(module, member), 0, False, [0.0]
    x, y = task.train.x.double(), task.train.y
    for number, phase in enumerate(member.phases):
        if number and fresh:
            optimiser = make(module, member)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] = phase.lr * group.get("times", 1.0)
        scheduler = schedule(optimiser) if number == 0 else lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
        for t in range(phase.steps):
            if phase.curve.waits and t and t % phase.curve.check_every == 0 and not seen:
                seen = sum(losses[-phase.curve.check_every :]) / phase.curve.check_every < (phase.curve.below or 0)
                if seen:
                    for group in optimiser.param_groups:
                        group["lr"] *= phase.curve.times
            rows = batches([member.seed], len(x), member.recipe.batch_size, step, step + 1)[0, 0]
            loss = nn.functional.cross_entropy(module(x[rows]), y[rows], label_smoothing=smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if not phase.curve.waits:
                scheduler.step()
            losses.append(loss.item())
            step += 1
    return module


def wsd(optimiser: Optimizer) -> lr_scheduler.LRScheduler:
    """5 steps of warm-up, and a linear decay over the last 10."""
    return lr_scheduler.LambdaLR(optimiser, lambda t: min(1.0, (t + 1) / 5, (STEPS - t) / 10))


def cosine(optimiser: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimiser, T_max=STEPS)


def flat(optimiser: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)


ADAMW = {
    "optimizer": "adamw", "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.3, "label_smoothing": 0.1,
    "groups": [
        {"parameters": ["@norm", "@bias"], "weight_decay": 0},
        {"parameters": ["FIRST"], "lr_times": 0.1},
    ],
}  # fmt: skip
CASES = [
    ({"nesterov": True, "momentum": 0.9, "weight_decay": 0.01}, {"kind": "cosine"}, sgd, cosine, False),
    ({"momentum": 0.9, "weight_decay": 0.01}, {"kind": "loss", "below": 1.9, "check_every": 4}, sgd, flat, False),
    (ADAMW, {"kind": "linear", "warmup": 5, "decay_steps": 10}, adamw, wsd, True),
    (ADAMW, {"kind": "cosine"}, adamw, cosine, False),
]


@pytest.mark.parametrize(("train", "curve", "make", "schedule", "fresh"), CASES)
def test_a_sweep_trains_as_torch_would(
    train: dict[str, Any], curve: dict[str, Any], make: Any, schedule: Schedule, fresh: bool, tmp_path: Path
) -> None:
    some = planned().members[0].recipe
    first = next(name for name, p in build_task(some, 0).model().named_parameters() if p.dim() > 1)
    groups = [
        {**group, "parameters": [first if name == "FIRST" else name for name in group["parameters"]]}
        for group in train.get("groups", ())
    ]
    settings = {**BASE["train"], **train, "groups": groups}
    phases = [{**BASE["phases"][0], "curve": curve}, {**BASE["phases"][1], "fresh_optimizer": fresh}]
    made = planned(train=settings, phases=phases)
    for pack in made.packs:
        run(pack, tmp_path, executor="loop")
    kept = Checkpoints(tmp_path / "checkpoints")
    smoothing = train.get("label_smoothing", 0.0)
    for member in made.members:
        expected = by_hand(member, make, schedule, fresh=fresh, smoothing=smoothing).state_dict()
        for name, value in kept.weights([(member.member_id, "end")]).items():
            torch.testing.assert_close(value[0], expected[name], rtol=1e-9, atol=1e-10)


def test_shared_and_interrupted_training_equals_separate_training_bit_for_bit(tmp_path: Path) -> None:
    phases = [
        {"name": "a", "curve": {"kind": "cosine", "warmup": 4, "decay_steps": 9}},
        {"name": "b", "steps": 14, "lr": {"of": "a", "times": 0.5}, "fresh_optimizer": True, "grad_noise": 0.01},
    ]
    axes = {"a_lr": {"values": [0.01, 0.03]}, "a_steps": {"values": [20, 30]}}
    settings = {"batch_size": 16, "dtype": "float32", "optimizer": "adam"}
    made = planned(phases=phases, axes=axes, train=settings, headline={"a_steps": 20})
    assert made.member_steps < made.member_steps_without_sharing - 4 * 20  # trunks of both lengths are trained once
    (pack,) = made.packs
    whole = facts(run(pack, tmp_path / "whole", executor="loop"))
    looks = iter(range(10**6))
    seen = run(pack, tmp_path / "cut", executor="loop", stop=lambda: next(looks) >= 4)
    seen += run(pack, tmp_path / "cut", executor="loop", attempt=1)
    assert facts(seen) == whole
    for member in made.members:
        solo = separate_pack(member, measure=pack.measure)
        alone = facts(run(solo, tmp_path / member.member_id, executor="loop"))[member.member_id]
        mine = whole[member.member_id]
        assert mine
        assert {key: alone[key] for key in mine} == mine
