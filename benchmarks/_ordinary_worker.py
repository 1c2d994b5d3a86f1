"""One process of `ordinary.py`: gets ready, then trains a stretch each time it is told to and says how long it took."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from _gpu_nets import CLASSES, Net, pack_of
from _ordinary_nets import NETS, Job
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from trainables.build import build_task
from trainables.loop import train

__all__ = ["ordinary", "ours"]

TEST = 200  # images evaluated at the end of a stretch, by both


class PilImages(Dataset[tuple[Tensor, int]]):
    """As `torchvision.datasets.CIFAR10`: pixels in memory, a PIL image and its transforms for each sample."""

    def __init__(self, net: Net) -> None:
        from torchvision import transforms

        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (net.samples, net.side, net.side, 3), dtype=np.uint8)
        self.labels = rng.integers(0, CLASSES, net.samples)
        change = [transforms.RandomCrop(net.side, padding=4), transforms.RandomHorizontalFlip()]
        encode = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.29,) * 3)]
        self.transform = transforms.Compose([*(change if net.augment else ()), *encode])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[row])), int(self.labels[row])


def ordinary(net: Net, seed: int) -> Callable[[int], None]:
    """The ordinary trial: one module, `DataLoader` without workers, `torch.optim.SGD`, everything eager.

    Args:
        net: what is trained.
        seed: of weights and batches.

    Returns:
        Trains a number of steps and then evaluates.
    """
    torch.manual_seed(seed)
    task = build_task(net.recipe, 0)
    data = PilImages(net) if net.task == "images" else TensorDataset(task.train.x.float(), task.train.y)
    loader = DataLoader(data, batch_size=net.batch, shuffle=True, drop_last=True)
    x_test, y_test = task.inputs(task.test.x[:TEST], torch.float32), task.test.y[:TEST]
    module = task.model()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=net.lr, momentum=net.momentum, weight_decay=net.weight_decay)

    def forever() -> Iterator[list[Tensor]]:
        while True:
            yield from loader

    batches = forever()

    def stretch(steps: int) -> None:
        module.train()
        for _ in range(steps):
            x, y = next(batches)
            loss = task.loss(module(x), y).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if net.radius is not None:
                with torch.no_grad():
                    norm = torch.sqrt(torch.stack([parameter.square().sum() for parameter in learned]).sum())
                    for parameter in learned:
                        parameter.mul_(net.radius / norm)
        module.eval()
        with torch.no_grad():
            task.loss(module(x_test), y_test).mean().item()

    return stretch


def ours(job: Job) -> Callable[[int], None]:
    """A pack through `trainables.loop.train`: training, rows, final quality and checkpoints.

    Args:
        job: network, rows and executor.

    Returns:
        Trains all members a number of steps.
    """

    def stretch(steps: int) -> None:
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "checkpoints").mkdir()
            (Path(place) / "state").mkdir()
            pack = pack_of(job.net, job.members, steps)
            reports = list(train(pack, folder=Path(place), attempt=0, executor=job.executor))
            assert reports[-1].done

    return stretch


def processor_seconds() -> float:
    """What this process has taken so far, a compiler that it started included."""
    return sum(os.times()[:4])


def timed(stretch: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Wall and processor seconds of a stretch."""
    wall, cpu = time.perf_counter(), processor_seconds()
    stretch(steps)
    return time.perf_counter() - wall, processor_seconds() - cpu


def main() -> None:
    """Serve stretches, one for each line of standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ordinary", "ours"))
    parser.add_argument("network", choices=[job.net.name for job in NETS])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    job = next(job for job in NETS if job.net.name == arguments.network)
    stretch = ordinary(job.net, arguments.seed) if arguments.side == "ordinary" else ours(job)
    stretch(1)  # first step: memory, and the compiler on our side
    print(json.dumps({"start_up_seconds": processor_seconds()}), flush=True)
    for line in sys.stdin:
        steps = int(line)
        # What a stretch costs however short it is (reports, evaluation, files) falls out of the difference.
        end_wall, end_cpu = timed(stretch, 1)
        wall, cpu = timed(stretch, 1 + steps)
        took = {"wall_seconds": wall - end_wall, "processor_seconds": cpu - end_cpu, "end_seconds": end_cpu}
        print(json.dumps({"steps": steps, **took}), flush=True)


if __name__ == "__main__":
    main()
