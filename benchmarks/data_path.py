"""Images per core-second with crop and flip: torchvision's DataLoader against one gather from padded copies.

The ordinary way is a `DataLoader` over PIL images with `RandomCrop(32, padding=4)`, `RandomHorizontalFlip`, `ToTensor`
and `Normalize`, in this process (`num_workers=0`): workers add cores, not speed per core. Ours is what a training step
does: batch order and random bits from a hash, the gather, and the encoding to normalised floats. Both end with batches
that a network can take, on one thread, run alternately; what is prepared once (decoding, padding) is timed apart on
both sides. Each round gives one ratio; the result is their median and range.

    python benchmarks/data_path.py          # about 2 minutes, CIFAR-10 of the data folder (LRATLAS_DATA) if it is there
    python benchmarks/data_path.py --quick  # a few seconds, fewer images and rounds
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sweeps.provenance import device, git_commit, versions
from trainables.images.augment import CropFlip
from trainables.images.cifar import STATISTICS, stored_cifar
from trainables.images.decode import pixel_store
from trainables.images.encode import Normalise
from trainables.order import batches, sample_bits
from trainables.spec import SpecError

RESULTS = Path(__file__).resolve().parent / "results" / "data_path.json"
BATCH = 128
GOAL = 8.0


class PilImages(Dataset[tuple[Tensor, int]]):
    """What `torchvision.datasets.CIFAR10` does: pixels in memory, a PIL image and its transforms for each sample."""

    def __init__(self, pixels: Tensor) -> None:
        mean, std = STATISTICS
        self.pixels = pixels.numpy()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[row])), 0


def images(count: int) -> tuple[Tensor, str, float]:
    """Pixels `[count, 32, 32, 3]`, where they are from, and the processor seconds of decoding them."""
    began = time.process_time()
    try:
        found = stored_cifar("cifar10")
    except SpecError:
        found = None
    if found is None:
        made = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return torch.from_numpy(made), "random pixels: no CIFAR-10 in the data folder", 0.0
    pixels = pixel_store(found[0], *found, 0).take(np.arange(min(count, found[0].rows)))
    return pixels, "the first CIFAR-10 training images", time.process_time() - began


def loader_rate(pixels: Tensor, count: int) -> float:
    """Images per processor second through the DataLoader, in the layout that it makes."""
    loader = DataLoader(PilImages(pixels), batch_size=BATCH, shuffle=True, drop_last=True)
    began, done = time.process_time(), 0
    for x, _ in loader:
        done += len(x)
        if done >= count:
            break
    return done / (time.process_time() - began)


def gather_rate(prepared: Tensor, crop: CropFlip, encode: Normalise, count: int) -> float:
    """Images per processor second through the gather; batch order and random bits included."""
    samples = len(prepared)
    per_epoch = samples // BATCH
    began, done, start = time.process_time(), 0, 0
    while done < count:
        order = batches([0], samples, BATCH, start, start + per_epoch)
        bits = sample_bits([0], order, samples, BATCH, start)
        for rows, said in zip(order[:, 0], bits[:, 0], strict=True):
            done += len(encode(crop.gather(prepared, rows, said)))
        start += per_epoch
    return done / (time.process_time() - began)


def compare(count: int, rounds: int, share: int) -> dict[str, Any]:
    """Run both sides alternately.

    Args:
        count: images that both sides hold.
        rounds: pairs of measurements.
        share: the DataLoader reads one in so many of what the gather reads, so that both take about as long.

    Returns:
        What was measured.
    """
    pixels, origin, decoding = images(count)
    crop, encode = CropFlip(), Normalise(*STATISTICS)
    began = time.process_time()
    prepared = crop.prepare(pixels)
    padding = time.process_time() - began
    pairs = []
    loader_rate(pixels, BATCH * 4)  # what happens once: imports, first allocations
    gather_rate(prepared, crop, encode, len(pixels))
    for _ in range(rounds):
        plain = loader_rate(pixels, 4 * len(pixels) // share)
        ours = gather_rate(prepared, crop, encode, 4 * len(pixels))
        pairs.append({"dataloader": plain, "gather": ours, "ratio": ours / plain})
        print({name: round(value, 1) for name, value in pairs[-1].items()})
    ratios = [pair["ratio"] for pair in pairs]
    return {
        "images": origin,
        "image_count": len(pixels),
        "batch_size": BATCH,
        "dataloader_per_core_second": statistics.median(pair["dataloader"] for pair in pairs),
        "gather_per_core_second": statistics.median(pair["gather"] for pair in pairs),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "goal": GOAL,
        "decoding_once_seconds": decoding,
        "padding_once_seconds": padding,
        "prepared_bytes": prepared.numel(),
        "pairs": pairs,
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()[0]
    measured = compare(2000, 3, 4) if arguments.quick else compare(50_000, arguments.rounds, 10)
    result = {
        "what": "images per processor second on one thread: crop, flip and normalisation in batches",
        "quick": arguments.quick,
        **measured,
        "load_average_before": load,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "device": device(),
        "versions": versions(),
        "git_commit": git_commit(),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    low, high = measured["ratio_range"]
    ours, plain = measured["gather_per_core_second"], measured["dataloader_per_core_second"]
    print(f"{ours:,.0f} against {plain:,.0f} images per core-second, on {measured['images']}")
    print(f"{measured['ratio']:.1f} times as fast ({low:.1f} to {high:.1f}; goal {GOAL:g}); {arguments.out}")


if __name__ == "__main__":
    main()
