"""A network and DataLoaders you have already: the loaders are read once, nothing else changes."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from trainables.loaders import task_from_loaders
from trainables.tasks import Task


def make_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make_loaders() -> list[DataLoader]:
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    parts = random_split(data, [897, 400, 500], generator=torch.Generator().manual_seed(0))
    return [DataLoader(part, batch_size=64, shuffle=number == 0) for number, part in enumerate(parts)]


def digits() -> Task:
    train, valid, test = make_loaders()
    return task_from_loaders(make_net, train, test, valid, loss=nn.CrossEntropyLoss())
