"""Processor time of one point on the line between two solutions: ours against a fresh copy of the module each time.

Many pairs of random weights, loss and error of 250 samples at every point, one thread. The other way is what a careful
user writes: `copy.deepcopy` of the module, `load_state_dict` of the mixed weights, one forward pass in eval mode. Ours
are the grid and the refinement of `analysis.landscape.line.lines`, mixing, means and bookkeeping included, and the
same through `trainables.evaluate.Evaluator`, which reads results folders. The sides take turns in one process. A last
comparison re-estimates batch-norm statistics at every point, which the other way does with
`torch.optim.swa_utils.update_bn`.

    python benchmarks/barrier.py   # about two minutes
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _machine import described
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from analysis.landscape.line import lines
from analysis.landscape.mixtures import stacked
from analysis.landscape.points import ModulePoints
from trainables.tasks.base import errors, per_sample_cross_entropy

RESULTS = Path(__file__).resolve().parent / "results" / "barrier.json"
SAMPLES = 250
GOALS_MS = {"mlp": 0.25, "convnet": 14.5}
"""Of one point, in milliseconds of processor time."""


def mlp() -> nn.Module:
    """64-64-64-10."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convnet(*, norms: bool = False) -> nn.Module:
    """Four 3x3 convolutions on 32x32 images, about 14.7 thousand weights."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 16), (16, 32), (32, 24)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
        layers += [nn.BatchNorm2d(outputs)] if norms else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 4, 10))
