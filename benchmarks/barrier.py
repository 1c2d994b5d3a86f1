"""Processor time of one point on the line between two solutions: ours against a fresh copy of the module each time.

Pairs of networks with random weights, loss and error of 250 samples at every point, one thread. The other way is what
a careful user writes: `copy.deepcopy` of the module, `load_state_dict` of the mixed weights, one forward pass in eval
mode. Ours is `analysis.landscape.line.lines` as users call it, mixing, refinement, means and bookkeeping included.
Forward passes alone, which no way can do without, stand beside both. With batch norms both re-estimate their
statistics on the same samples at every point, the other way by `torch.optim.swa_utils.update_bn`. The sides take turns
in one process; ratios are medians over the turns.

    python benchmarks/barrier.py   # about a minute
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        make: builds it.
        shape: of one input.
        pairs: lines in one turn.
        goal_ms: of one point, in milliseconds of processor time; None where none was set.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    pairs: int
    goal_ms: float | None


def mlp() -> nn.Module:
    """64-64-64-10."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convnet(*, norms: bool) -> nn.Module:
    """Three 3x3 convolutions of 16, 32 and 32 channels on 32x32 images: 14,746 weights with batch norms."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()] if norms else [nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


CASES = {
    "mlp": Case(mlp, (64,), 10, 0.25),
    "convnet": Case(lambda: convnet(norms=False), (3, 32, 32), 1, 14.5),
    "convnet_batch_norm": Case(lambda: convnet(norms=True), (3, 32, 32), 1, None),
}


class Sides:
    """Both ways through the same points."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.module = case.make().eval()
        self.x, self.y = torch.randn(SAMPLES, *case.shape), torch.randint(0, 10, (SAMPLES,))
        self.states = [case.make().state_dict() for _ in range(case.pairs + 1)]
        self.pairs = [(number, number + 1) for number in range(case.pairs)]
        self.points = ModulePoints(self.module, {"train": (self.x, self.y)}, per_sample_cross_entropy)
        self.solutions = stacked(self.states)
        found = lines(self.points, self.solutions, self.pairs, splits=("train",))
        self.alphas = [line.alphas.tolist() for line in found]

    def ours(self) -> float:
        """Milliseconds of one point; every end is judged once, though two lines share it."""
        judged = sum(len(each) for each in self.alphas) - len(self.pairs) + 1
        began = time.process_time()
        lines(self.points, self.solutions, self.pairs, splits=("train",))
        return 1e3 * (time.process_time() - began) / judged

    @torch.no_grad()
    def copies(self) -> float:
        """Milliseconds of one point on the same lines."""
        began = time.process_time()
        for (a, b), alphas in zip(self.pairs, self.alphas, strict=True):
            for alpha in alphas:
                self._judge_copy(self.states[a], self.states[b], alpha)
        return 1e3 * (time.process_time() - began) / sum(len(each) for each in self.alphas)

    def _judge_copy(self, a: dict[str, Tensor], b: dict[str, Tensor], alpha: float) -> tuple[float, float]:
        mixed = {
            name: (1 - alpha) * tensor + alpha * b[name] if tensor.is_floating_point() else tensor
            for name, tensor in a.items()
        }
        module = copy.deepcopy(self.module)
        module.load_state_dict(mixed)
        layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        for layer in layers:
            layer.momentum = None
        if layers:
            update_bn([self.x], module)
        output = module.eval()(self.x)
        return per_sample_cross_entropy(output, self.y).mean().item(), errors(output, self.y).float().mean().item()

    @torch.no_grad()
    def forward(self) -> float:
        """Milliseconds of the forward passes of one point alone."""
        has_norms = any(isinstance(layer, nn.BatchNorm2d) for layer in self.module.modules())
        module, times = copy.deepcopy(self.module), 10
        began = time.process_time()
        for _ in range(times):
            if has_norms:
                module.train()(self.x)
            module.eval()(self.x)
        return 1e3 * (time.process_time() - began) / times


def measured(case: Case, repeats: int) -> dict[str, object]:
    """All times of one network."""
    sides = Sides(case)
    ways = {"ours": sides.ours, "deepcopy_and_load": sides.copies, "forward_alone": sides.forward}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            found = way()
            if turn:  # the first one warms caches
                times[name].append(found)
    others = {name: zip(times["ours"], times[name], strict=True) for name in ways if name != "ours"}
    best = min(times["ours"])
    return {
        "weights": sum(parameter.numel() for parameter in sides.module.parameters()),
        "points_of_each_line": [len(each) for each in sides.alphas],
        "ms_per_point": {
            name: {"median": statistics.median(values), "min": min(values), "all": values}
            for name, values in times.items()
        },
        "ours_over": {name: statistics.median(a / b for a, b in pairs) for name, pairs in others.items()},
        "goal_ms": case.goal_ms,
        "goal_met_at_median": None if case.goal_ms is None else statistics.median(times["ours"]) <= case.goal_ms,
        "goal_met_at_best": None if case.goal_ms is None else best <= case.goal_ms,
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9, help="turns of each side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "what": "processor milliseconds of one point on a line between two solutions, one thread",
        "samples": SAMPLES,
        "cases": {name: measured(case, arguments.repeats) for name, case in CASES.items()},
        "machine": described(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, found in result["cases"].items():  # type: ignore[attr-defined]
        medians = {way: round(each["median"], 3) for way, each in found["ms_per_point"].items()}
        print(name, medians, {way: round(ratio, 3) for way, ratio in found["ours_over"].items()})


if __name__ == "__main__":
    main()
