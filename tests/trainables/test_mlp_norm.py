"""The perceptrons of the intrinsic learning rate: which weights are scale invariant, and where the head comes from."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from trainables.build import model_builder
from trainables.invariance import scale_invariant_parameters
from trainables.tasks import Split, Task


def make(*, seed: int = 0, **args: Any) -> nn.Sequential:
    torch.manual_seed(seed)
    module = model_builder("mlp_norm", args)((12,), 10)
    assert isinstance(module, nn.Sequential)
    return module


def task_of(**args: Any) -> Task:
    generator = torch.Generator().manual_seed(3)
    split = Split(torch.randn(64, 12, generator=generator), torch.randint(0, 10, (64,), generator=generator))
    return Task(model=lambda: model_builder("mlp_norm", args)((12,), 10), train=split, test=split)


NORMED = ("0.weight", "3.weight")  # what a linear map, a norm and a ReLU make of the hidden weights' names


@pytest.mark.parametrize(
    ("norm", "trains", "invariant", "others"),
    [
        ("batch", "hidden", NORMED, ()),
        ("layer", "hidden", NORMED, ()),
        ("none", "hidden", (), ("0.weight", "2.weight")),
        ("batch", "all", NORMED, ("1.bias", "1.weight", "4.bias", "4.weight", "6.weight")),
        ("layer", "all", NORMED, ("1.bias", "1.weight", "4.bias", "4.weight", "6.weight")),
        ("none", "all", (), ("0.weight", "2.weight", "4.weight")),
    ],
)
def test_arms_of_the_normed_mlp(norm: str, trains: str, invariant: tuple[str, ...], others: tuple[str, ...]) -> None:
    args = {"width": 16, "norm": norm, "trains": trains}
    assert scale_invariant_parameters(task_of(**args)) == invariant
    module = make(head_norm=3.0, **args)
    assert sorted(n for n, p in module.named_parameters() if p.requires_grad) == sorted([*invariant, *others])
    hidden, head = [layer for layer in module if isinstance(layer, nn.Linear)][1:]  # type: ignore[union-attr]
    assert head.weight.norm().item() == pytest.approx(3, rel=1e-6)
    assert hidden.weight.std().item() == pytest.approx(16**-0.5, rel=0.15)  # 256 numbers: 3.4 standard errors
    assert not any(layer.bias is not None for layer in (hidden, head))


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_eps_of_zero_is_exact_and_trains(norm: str) -> None:
    module = make(width=16, norm=norm, norm_eps=0.0).double().train()
    x = torch.randn(8, 12, dtype=torch.float64)
    before = module(x)
    scaled = {n: 1e-6 * p if p.requires_grad else p for n, p in module.named_parameters()}
    torch.testing.assert_close(functional_call(module, scaled, (x,)), before, rtol=1e-12, atol=1e-12)


def test_a_head_of_its_own_seed_is_the_same_for_all_networks() -> None:
    args = {"width": 16}
    first, second = (make(seed=seed, head_seed=7, **args) for seed in (0, 1))
    alone, other = make(seed=0, **args), make(seed=0, head_seed=8, **args)
    assert torch.equal(first[-1].weight, second[-1].weight)  # type: ignore[index, union-attr]
    assert not torch.equal(first[0].weight, second[0].weight)  # type: ignore[index, union-attr]
    for module in (alone, other):
        assert torch.equal(first[0].weight, module[0].weight)  # type: ignore[index, union-attr]
        assert torch.equal(first[3].weight, module[3].weight)  # type: ignore[index, union-attr]
        assert not torch.equal(first[-1].weight, module[-1].weight)  # type: ignore[index, union-attr]
    assert not torch.equal(alone[-1].weight, make(seed=1, **args)[-1].weight)  # type: ignore[index, union-attr]
