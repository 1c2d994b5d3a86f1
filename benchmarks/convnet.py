"""A step of several convolutional networks on a CPU: the `loop` executor against the other ways to write it.

Each way trains the same K networks (ConvNet SI) on the same batches, gathered, cropped and flipped from the same
pixels, with the same update by SGD with momentum:

- `ours`: the `loop` executor, a whole step as a sweep takes it;
- `channels_last`: ordinary modules in channels-last layout, one after the other, `torch.optim.SGD`;
- `nchw`: the same in torch's default layout;
- `vmap`: `torch.func.vmap` of the gradient of `functional_call` over all networks at once;
- `grouped`: all networks as one, with grouped convolutions, in the faster of both layouts.

The ways take turns in one process with one thread, processor time counts, and of that the median: so a busy machine
hurts all alike, and little.

    python benchmarks/convnet.py           # about 3 minutes; writes benchmarks/results/convnet.json
    python benchmarks/convnet.py --quick   # seconds; a look whether it runs
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from _gpu_nets import Net, pack_of
from _machine import ROOT, described
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from trainables.executors.base import Block, ExecutorName
from trainables.loader import Loader
from trainables.models.convnet import POOLED
from trainables.process import keep_freed_memory
from trainables.setting import Setting

RESULTS = ROOT / "benchmarks" / "results" / "convnet.json"
LR, MOMENTUM, EPS = 1e-3, 0.9, 1e-5
MARGIN = 0.05  # ours may be slower than the fastest by so much
WEIGHTS = ("conv1.weight", "conv2.weight", "conv3.weight", "conv4.weight")


@dataclass(frozen=True)
class Way:
    """K networks and how they are trained.

    Attributes:
        steps: takes the steps of a block.
        weights: the convolutions' weights as they are now, name to `[K, ...]`.
    """

    steps: Callable[[Block], None]
    weights: Callable[[], Mapping[str, Tensor]]


def net(width: int, side: int, batch: int) -> Net:
    """ConvNet SI, trained freely with momentum: what `torch.optim.SGD` can do too."""
    return Net(
        name=f"convnet_w{width}_{side}",
        title=f"ConvNet SI w{width}, {side}x{side}, batch {batch}",
        model="convnet_si",
        arguments={"width": width},
        samples=2000,
        side=side,
        batch=batch,
        dtype="float32",
        lr=LR,
        momentum=MOMENTUM,
    )


class _Case:
    """K networks, their data, and every way to train them."""

    def __init__(self, width: int, side: int, batch: int, members: int) -> None:
        self.net, self.members = net(width, side, batch), members
        pack = replace(pack_of(self.net, members), pack_id="benchmark")
        self.setting = Setting(pack, Path(tempfile.gettempdir()), ExecutorName.LOOP, "cpu")
        self.cohort = self.setting.cohorts[0]
        self.seeds, self.hyper = self.setting.hyper(self.cohort, members)
        arena = self.setting.arena
        self.loss = arena.task.loss
        self.loader = Loader.of(arena, torch.float32)
        self.source, self.targets = self.loader.source(arena.train.x), arena.train.y.flatten(0, 1)
        self.modules = [self._module(seed) for seed in range(members)]

    def _module(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return self.setting.arena.task.model().train()

    def block(self, start: int, stop: int) -> Block:
        return self.setting.block(self.cohort, self.seeds, self.members, start, stop)

    def batch(self, block: Block, t: int) -> tuple[Tensor, Tensor]:
        """Images `[K, B, 3, H, W]`, each member's batch channels-last in memory, and targets `[K, B]`."""
        samples = block.samples[t].index_select(0, self.hyper.order_row)
        bits = None if block.bits is None else block.bits[t].index_select(0, self.hyper.order_row)
        y = self.targets.index_select(0, samples.flatten()).reshape(samples.shape)
        return self.loader(self.source, samples, bits), y

    def ways(self) -> dict[str, Way]:
        """Every way, with networks of its own."""
        grouped = min((True, False), key=lambda layout: self._once(self.grouped(layout)))
        return {
            "ours": self.ours(),
            "channels_last": self.modules_one_by_one(torch.channels_last),
            "nchw": self.modules_one_by_one(torch.contiguous_format),
            "vmap": self.mapped(),
            "grouped": self.grouped(grouped),
        }

    def _once(self, way: Way) -> float:
        way.steps(self.block(0, 1))
        begun = time.process_time()
        way.steps(self.block(1, 3))
        return time.process_time() - begun

    def ours(self) -> Way:
        population = self.setting.populate(self.cohort)
        return Way(lambda block: self.setting.executor.step(population, block, self.hyper), lambda: population.trained)

    def modules_one_by_one(self, layout: torch.memory_format) -> Way:
        modules = [self._module(seed).to(memory_format=layout) for seed in range(self.members)]
        optimisers = [
            torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=LR, momentum=MOMENTUM)
            for module in modules
        ]

        def steps(block: Block) -> None:
            for t in range(len(block)):
                x, y = self.batch(block, t)
                for k, (module, optimiser) in enumerate(zip(modules, optimisers, strict=True)):
                    loss = self.loss(module(x[k].contiguous(memory_format=layout)), y[k]).mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()

        def now() -> dict[str, Tensor]:
            return {name: torch.stack([module.get_parameter(name).detach() for module in modules]) for name in WEIGHTS}

        return Way(steps, now)

    def _stacked(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Trained weights, momenta and the rest of all networks, `[K, ...]`."""
        states = [module.state_dict() for module in self.modules]
        stacked = {name: torch.stack([state[name].clone() for state in states]) for name in states[0]}
        weights = {name: stacked.pop(name) for name in WEIGHTS}
        return weights, {name: torch.zeros_like(weight) for name, weight in weights.items()}, stacked

    @staticmethod
    def _update(weights: dict[str, Tensor], momenta: dict[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            momenta[name].mul_(MOMENTUM).add_(gradients[name])
            weight.detach().add_(momenta[name], alpha=-LR)

    def mapped(self) -> Way:
        weights, momenta, rest = self._stacked()
        # running statistics cannot be written under vmap: batches are normalised as in training, nothing is kept
        structure = self._module(0)
        for layer in structure.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        rest = {name: value for name, value in rest.items() if name.startswith("head")}

        def loss(weights: dict[str, Tensor], rest: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return self.loss(functional_call(structure, weights | rest, (x,)), y).mean()

        gradient = vmap(grad_and_value(loss))

        def steps(block: Block) -> None:
            for t in range(len(block)):
                x, y = self.batch(block, t)
                self._update(weights, momenta, gradient(weights, rest, x, y)[0])

        return Way(steps, lambda: weights)

    def grouped(self, channels_last: bool) -> Way:
        weights, momenta, rest = self._stacked()
        flat = {name: weight.flatten(0, 1) for name, weight in weights.items()}
        running = {name: value.flatten().clone() for name, value in rest.items() if name.endswith(("_mean", "_var"))}
        members = self.members

        def forward(leaves: Mapping[str, Tensor], x: Tensor) -> Tensor:
            for index in range(1, 5):
                x = nn.functional.conv2d(x, leaves[f"conv{index}.weight"], padding=1, groups=members)
                mean, variance = (running[f"norm{index}.running_{what}"] for what in ("mean", "var"))
                x = nn.functional.relu(nn.functional.batch_norm(x, mean, variance, training=True, eps=EPS))
                if index in POOLED:
                    x = nn.functional.max_pool2d(x, 2)
            features = x.amax((2, 3)).unflatten(1, (members, -1)).transpose(0, 1)
            logits: Tensor = torch.bmm(features, rest["head.weight"].transpose(1, 2)) + rest["head.bias"].unsqueeze(1)
            return logits

        def steps(block: Block) -> None:
            for t in range(len(block)):
                x, y = self.batch(block, t)
                x = x.transpose(0, 1).flatten(1, 2)
                x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
                leaves = {name: weight.detach().requires_grad_() for name, weight in flat.items()}
                losses = self.loss(forward(leaves, x).flatten(0, 1), y.flatten()).reshape(y.shape).mean(1)
                found = torch.autograd.grad(losses.sum(), list(leaves.values()))
                gradients = {name: g.view_as(weights[name]) for name, g in zip(leaves, found, strict=True)}
                self._update(weights, momenta, gradients)

        return Way(steps, lambda: weights)


def compare(case: _Case, rounds: int, steps: int) -> dict[str, Any]:
    """Let all ways take turns.

    Args:
        case: the networks.
        rounds: turns of each way.
        steps: steps in a turn.

    Returns:
        Processor milliseconds per member-step of each way, and ours over the fastest of the others.
    """
    ways = case.ways()
    for way in ways.values():
        way.steps(case.block(0, 1))
    took: dict[str, list[float]] = {name: [] for name in ways}
    done = 1
    for turn in range(rounds):
        block = case.block(done, done + steps)
        done += steps
        order = list(ways) if turn % 2 == 0 else list(ways)[::-1]
        for name in order:
            begun = time.process_time()
            ways[name].steps(block)
            took[name].append(1e3 * (time.process_time() - begun) / steps / case.members)
    medians = {name: statistics.median(values) for name, values in took.items()}
    fastest = min((name for name in medians if name != "ours"), key=lambda name: medians[name])
    # each turn by itself first: what disturbs the machine disturbs neighbours in time alike
    ratio = statistics.median(a / b for a, b in zip(took["ours"], took[fastest], strict=True))
    return {
        "members": case.members,
        "ms_per_member_step": {name: [round(value, 3) for value in values] for name, values in took.items()},
        "median_ms_per_member_step": {name: round(value, 3) for name, value in medians.items()},
        "fastest_other": fastest,
        "ours_over_fastest": round(ratio, 4),
        "within_margin": ratio <= 1 + MARGIN,
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each way")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, two turns; writes only to --out")
    parser.add_argument("--out", type=Path, help=f"where the JSON goes ({RESULTS.relative_to(ROOT)})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `train` does; the other ways profit as much
    # width, side, batch, members, steps in a turn
    sizes = ((4, 8, 8, 2, 1),) if arguments.quick else ((8, 32, 128, 4, 2), (8, 16, 64, 8, 4), (32, 32, 64, 2, 1))
    machine, cases = described(), {}
    for width, side, batch, members, steps in sizes:
        case = _Case(width, side, batch, members)
        cases[case.net.title] = compare(case, 2 if arguments.quick else arguments.rounds, steps)
        print(case.net.title, json.dumps(cases[case.net.title]["median_ms_per_member_step"]))
        print(f"  ours / {cases[case.net.title]['fastest_other']}: {cases[case.net.title]['ours_over_fastest']}")
    result = {
        "what": "processor milliseconds of one training step of one member of K convolutional networks, one thread",
        "margin": MARGIN,
        "cases": cases,
        "machine": machine,
        "load_average_after": described()["load_average"],
    }
    out = arguments.out or (None if arguments.quick else RESULTS)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
