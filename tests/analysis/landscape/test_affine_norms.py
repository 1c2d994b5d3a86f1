"""Batch norms taken up by convolutions: which are, that nothing but time changes, and that the network is as before."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from analysis.landscape.affine_norms import affine_norms, foldable
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from tests.analysis.landscape.small_nets import CROSS_ENTROPY, convnet
from trainables.models.resnet import resnet18


def layers(*more: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *more).eval()


class Block(nn.Module):
    """A convolution and a batch norm, and a way to put them together."""

    def __init__(self, way):
        super().__init__()
        self.conv, self.norm, self.way = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), way

    def forward(self, x):
        return self.way(self, x)


def twice(block, x):
    inner = block.conv(x)
    return block.norm(inner) + inner


def shared_convolution(block, x):
    return block.norm(block.conv(block.conv(x)))


def shared_norm(block, x):
    return block.norm(block.conv(block.norm(x)))


def by_data(block, x):
    return block.norm(block.conv(x)) if x.sum() > 0 else x


def by_size(block, x):
    return block.norm(block.conv(x)) if len(x) > 1 else x


def through_relu(block, x):
    return block.norm(block.conv(x).relu())


WAYS = {way.__name__: way for way in (twice, shared_convolution, shared_norm, by_data, by_size, through_relu)}


@pytest.mark.parametrize("way", WAYS)
def test_what_the_graph_does_not_show_to_be_alone_is_left(way):
    assert not foldable(Block(WAYS[way]).eval())


def test_a_batch_norm_right_after_a_convolution_is_found():
    block = Block(lambda block, x: block.norm(block.conv(x)).relu()).eval()
    assert foldable(block) == {block.norm: block.conv}


def test_pairs_of_residual_networks_are_found():
    assert len(foldable(torchvision.models.resnet18(num_classes=10).eval())) == 20  # all of them
    ours = resnet18((3, 32, 32), 10, width=8, head_bias=False, norm_eps=1e-5).eval()
    assert len(foldable(ours)) == 8  # norms come first in a block: the second of each of eight blocks


class OfMyOwn(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "module",
    [
        layers().train(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval(),
        nn.Sequential(OfMyOwn(3, 4, 3), nn.BatchNorm2d(4)).eval(),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).eval(),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)).eval(),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(),
    ],
    ids=["train mode", "no statistics", "subclass", "weight norm", "transposed", "linear"],
)
def test_what_is_no_plain_pair_is_left(module):
    assert not foldable(module)


@pytest.mark.parametrize("place", [0, 1])
def test_hooks_see_what_they_saw(place):
    module = layers()
    module[place].register_forward_hook(lambda layer, inputs, output: None)
    assert not foldable(module)


@pytest.mark.parametrize(
    ("convolution", "norm", "shape"),
    [
        (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), nn.BatchNorm1d(3), (5, 2, 8)),
        (nn.Conv2d(2, 4, 3, stride=2, groups=2, bias=False), nn.BatchNorm2d(4), (5, 2, 9, 9)),
        (nn.Conv2d(2, 4, 3, dilation=2), nn.BatchNorm2d(4, affine=False), (5, 2, 9, 9)),
        (nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), (5, 1, 3, 3, 3)),
    ],
    ids=["1d", "2d grouped", "2d without affine", "3d"],
)
def test_gradients_and_their_gradients_are_those_of_torchs_own(convolution, norm, shape):
    module = nn.Sequential(convolution, norm, nn.Tanh()).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    module(x)  # statistics unlike those of a new layer
    module.eval()
    sources = [x, *module.parameters()]

    def derivatives():
        value = module(x).pow(3).sum()
        first = torch.autograd.grad(value, sources, create_graph=True)
        second = torch.autograd.grad(sum(one.pow(2).sum() for one in first), sources)
        return [value, *first, *second]

    pairs, plain = foldable(module), derivatives()
    assert len(pairs) == 1
    with affine_norms(module, pairs):
        assert module[0].forward is not convolution.__class__.forward
        found = derivatives()
    for one, other in zip(found, plain, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert "forward" not in {**vars(module[0]), **vars(module[1])}


def test_curvature_is_the_same_without_folding(monkeypatch):
    case = convnet(samples=30)
    module = copy.deepcopy(case.module).double()
    x, vector = case.x.double(), torch.randn(sum(p.numel() for p in module.parameters()), dtype=torch.float64)

    def product():
        return Objective(module, CROSS_ENTROPY, x, case.y, norms=Norms.REESTIMATED).hessian(vector)

    folded = product()
    monkeypatch.setattr("analysis.landscape.objective.foldable", lambda module: {})
    assert torch.allclose(folded, product(), rtol=1e-9, atol=1e-12)


def test_the_random_state_stays_though_the_networks_own_code_draws():
    block = Block(lambda block, x: block.norm(block.conv(x)) + float(torch.rand(()))).eval()
    before = torch.random.get_rng_state()
    foldable(block)
    assert torch.equal(before, torch.random.get_rng_state())
