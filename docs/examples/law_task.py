"""A task of one's own whose network can be had with and without norms, for a test of lambda * eta invariance."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from trainables.tasks import Split, Task


def network(norm: bool) -> nn.Module:
    def layer(inputs: int) -> list[nn.Module]:
        linear = nn.Linear(inputs, 32, bias=False)
        return [linear, nn.BatchNorm1d(32, eps=1e-8, affine=False), nn.ReLU()] if norm else [linear, nn.ReLU()]

    head = nn.Linear(32, 10)
    return nn.Sequential(*layer(64), *layer(32), head.requires_grad_(False))


def digits(norm: bool = True) -> Task:
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1000], order[1000:]
    return Task(model=lambda: network(norm), train=Split(x[train], y[train]), test=Split(x[test], y[test]))
