"""Networks whose loss between two solutions is known, and small ones that are trained."""

import copy
from functools import cache

import torch
from torch import nn

from analysis.landscape.points import ModulePoints


class OneWeight(nn.Module):
    """Says its only weight to every sample; what that costs is up to the loss."""

    def __init__(self, value=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), 1)


def costing(cost, samples=3, **arguments):
    """Points of `OneWeight` whose loss at w is cost(w) on `train` and twice that on `test`; wrong where above 1/2."""
    x = torch.zeros(samples, 1)
    splits = {"train": (x, torch.ones(samples)), "test": (x, torch.full((samples,), 2.0))}
    return ModulePoints(
        OneWeight(),
        splits,
        lambda out, y: y * cost(out[:, 0]),
        error=lambda out, y: y * cost(out[:, 0]) > 0.5,
        **arguments,
    )


def ends(*values):
    return {"w": torch.tensor(values, dtype=torch.float64).unsqueeze(1)}


def cross_entropy(out, y):
    return nn.functional.cross_entropy(out, y, reduction="none")


def perceptron(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def convnet():
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64, 4)),
    )


def images(n, seed):
    """Four patterns under noise."""
    draw = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    y = torch.randint(0, 4, (n,), generator=draw)
    return patterns[y] + torch.randn(n, 1, 8, 8, generator=draw), y


def trained_convnet(seed):
    return copy.deepcopy(_trained(seed))


@cache
def _trained(seed, steps=20, lr=0.5):
    """After so few steps at so high a rate its running statistics lag far behind its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = convnet()
        optimiser = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
        x, y = images(256, 1)
        for _ in range(steps):
            batch = torch.randint(0, len(x), (64,))
            optimiser.zero_grad()
            cross_entropy(module(x[batch]), y[batch]).mean().backward()
            optimiser.step()
    return module
