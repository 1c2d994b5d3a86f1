"""Your own network on your own data: scikit-learn's digits, split in three."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from trainables.tasks import Split, Task


class Net(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(9 * width, 10)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def digits(width: int = 8) -> Task:
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    rest, test = train_test_split(range(len(y)), test_size=500, stratify=y, random_state=0)
    train, valid = train_test_split(rest, test_size=400, stratify=y[rest], random_state=0)
    splits = {name: Split(x[rows], y[rows]) for name, rows in {"train": train, "valid": valid, "test": test}.items()}
    return Task(model=lambda: Net(width), **splits)
