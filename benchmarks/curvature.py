"""Curvature against the other libraries: products, processor time and accuracy of eigenvalues, trace and one product.

Compared are hessian-eigenthings (20 steps set by hand, and its defaults) and curvlinops with `eigsh` of scipy. All run
in one process on one thread, taking turns; processor time counts, and of that the median. ResNet-18 runs in a process
of its own, whose highest resident memory is read at the end.

    pip install -e ".[peers]"
    python benchmarks/curvature.py   # about 5 minutes on a free core
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from _machine import ROOT, described
from curvlinops import HessianLinearOperator
from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn

from analysis.landscape.kernels import Kernel
from analysis.landscape.lanczos import eigenvalues
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from analysis.landscape.trace import trace
from trainables.models.resnet import resnet18
from trainables.process import prepare_process

RESULTS = ROOT / "benchmarks" / "results" / "curvature.json"
LOSS = nn.CrossEntropyLoss(reduction="none")
MEMORY = 4_000_000_000
SEEDS = 20


def trained(module: nn.Module, x: Tensor, y: Tensor, steps: int) -> nn.Module:
    """A module after some steps of SGD with momentum, in eval mode."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (64,), generator=generator)
        optimizer.zero_grad()
        LOSS(module(x[rows]), y[rows]).mean().backward()
        optimizer.step()
    return module.eval()


def perceptron(steps: int) -> tuple[nn.Module, Tensor, Tensor]:
    """1066 weights on 1000 digits."""
    torch.manual_seed(0)
    data = load_digits()
    x, y = torch.tensor(data.data[:1000] / 16).float(), torch.tensor(data.target[:1000])
    layers = [nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 10)]
    return trained(nn.Sequential(*layers), x, y, steps), x, y


def convnet(width: int, samples: int, steps: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Three convolutions with batch norms on digits of 32x32 pixels and three channels, with noise."""
    torch.manual_seed(0)
    data = load_digits()
    images = nn.functional.interpolate(torch.tensor(data.images[:samples] / 16).float()[:, None], size=32)
    x = images.repeat(1, 3, 1, 1) + 0.3 * torch.randn(samples, 3, 32, 32)
    layers: list[nn.Module] = []
    for channels, out in ((3, width), (width, 2 * width), (2 * width, 2 * width)):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
    layers = [*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10)]
    y = torch.tensor(data.target[:samples])
    return trained(nn.Sequential(*layers), x, y, steps), x, y


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one run."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of every way, one after the other, repeated; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, work in ways.items():
            taken = cpu_seconds(work)
            if turn:
                times[name].append(taken)
    return times


def ours(module: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Objective:
    """Our objective in eval mode with the stored statistics, as the others see the network."""
    return Objective(module, LOSS, x, y, norms=Norms.STORED, **settings)


def eigenthings(module: nn.Module, x: Tensor, y: Tensor, steps: int | None, seed: int) -> np.ndarray:
    """Five largest eigenvalues by hessian-eigenthings; `steps` None is its default."""
    operator = HessianOperator(module, [(x, y)], supervised_loss(nn.CrossEntropyLoss()))
    return lanczos(operator, k=5, max_iter=steps, which="LA", seed=seed).eigenvalues.double().numpy()


def eigsh_peer(module: nn.Module, x: Tensor, y: Tensor, tol: float, seed: int) -> tuple[np.ndarray, int]:
    """Five largest eigenvalues by curvlinops and scipy, and the products used."""
    parameters = list(module.parameters())
    linear = HessianLinearOperator(
        module, nn.CrossEntropyLoss(), parameters, [(x, y)], check_deterministic=False
    ).to_scipy()
    count = 0
    inner = linear._matvec

    def counted(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return inner(vector)

    linear._matvec = counted
    start = np.random.default_rng(seed).normal(size=linear.shape[0]).astype(np.float32)
    return eigsh(linear, k=5, which="LA", tol=tol, v0=start, return_eigenvectors=False)[::-1].copy(), count


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Worst relative error."""
    return float(np.abs(found / exact[: len(found)] - 1).max())


def dense(module: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """The Hessian in float64, by products with unit vectors."""
    objective = ours(module.double(), x.double(), y)
    rows = [objective.hessian(unit) for unit in torch.eye(objective.size).double()]
    module.float()
    return torch.stack(rows).numpy()


def on_perceptron(steps: int) -> dict[str, Any]:
    """Products and errors against the dense Hessian, from 20 starts; the trace with 60 products."""
    module, x, y = perceptron(steps)
    matrix = dense(module, x, y)
    exact, whole = np.linalg.eigvalsh(matrix)[::-1], float(np.trace(matrix))
    spectra = [eigenvalues(ours(module, x, y).hessian, len(matrix), seed=seed) for seed in range(SEEDS)]
    objective = ours(module, x, y)
    traces = [
        trace(objective.hessian, len(matrix), one, probes=60 - one.products, seed=1000 + seed)
        for seed, one in enumerate(spectra)
    ]
    peers = {
        "hessian_eigenthings_20": ([eigenthings(module, x, y, 20, seed) for seed in range(SEEDS)], 20),
        "hessian_eigenthings_default": ([eigenthings(module, x, y, None, seed) for seed in range(SEEDS)], 10),
    }
    arpack = [eigsh_peer(module, x, y, 1e-2, seed) for seed in range(3)]
    errors = [one.value / whole - 1 for one in traces]
    return {
        "steps_of_training": steps,
        "exact": {"largest": exact[:6].tolist(), "smallest": float(exact[-1]), "trace": whole},
        "ours": {
            "products": [one.products for one in spectra],
            "worst_errors": [error(one.largest, exact) for one in spectra],
        },
        **{
            name: {"products": products, "worst_errors": [error(one, exact) for one in found]}
            for name, (found, products) in peers.items()
        },
        "curvlinops_eigsh": {
            "products": [count for _, count in arpack],
            "worst_errors": [error(found, exact) for found, _ in arpack],
        },
        "trace": {
            "products": 60,
            "relative_errors": errors,
            "rms": float(np.sqrt(np.mean(np.square(errors)))),
            "covered": float(np.mean([one.low <= whole <= one.high for one in traces])),
        },
    }


def on_convnet(repeats: int) -> dict[str, Any]:
    """Processor time for five eigenvalues of a network with batch norms; errors against eigsh run to the end."""
    module, x, y = convnet(8, 250, 80)
    exact, _ = eigsh_peer(module, x, y, 1e-7, 0)
    found: dict[str, Any] = {}

    def mine() -> None:
        objective = ours(module, x, y)
        one = eigenvalues(objective.hessian, objective.size)
        found["ours"] = {"products": one.products, "error": error(one.largest, exact)}

    def theirs() -> None:
        found["hessian_eigenthings_20"] = {"products": 20, "error": error(eigenthings(module, x, y, 20, 0), exact)}

    def arpack() -> None:
        values, count = eigsh_peer(module, x, y, 1e-2, 0)
        found["curvlinops_eigsh"] = {"products": count, "error": error(values, exact)}

    times = turns({"ours": mine, "hessian_eigenthings_20": theirs, "curvlinops_eigsh": arpack}, repeats)
    ratios = {name: statistics.median(times["ours"]) / statistics.median(times[name]) for name in times}
    return {"parameters": 3922, "found": found, "cpu_seconds": times, "ours_over": ratios}


def kernel_ratios(repeats: int) -> dict[str, Any]:
    """Processor time of one product over that of one gradient, graphs being there already."""
    module, x, y = convnet(16, 250, 20)
    ways: dict[str, Callable[[], object]] = {}
    setup = {}
    for kernel in (Kernel.FRESH, Kernel.RETAINED, Kernel.LINEARISED):
        objective = ours(module, x, y, kernel=kernel)
        vector = torch.randn(objective.size, generator=torch.Generator().manual_seed(0))
        setup[kernel.value] = cpu_seconds(lambda o=objective, v=vector: o.hessian(v))
        ways[kernel.value] = lambda o=objective, v=vector: o.hessian(v)
    ways["gradient"] = objective.gradient
    times = turns(ways, repeats)
    base = statistics.median(times["gradient"])
    ratios = {name: statistics.median(values) / base for name, values in times.items()}
    return {
        "parameters": objective.size,
        "first_product_cpu_seconds": setup,
        "cpu_seconds": times,
        "over_gradient": ratios,
    }


def resnet() -> dict[str, Any]:
    """Two products on ResNet-18 with 128 images, the cost being told before."""
    torch.manual_seed(0)
    module = resnet18((3, 32, 32), 10, width=64, head_bias=False, norm_eps=1e-5)
    x, y = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
    objective = ours(module, x, y, memory_bytes=3_000_000_000, expected_products=30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cost = objective.cost()
    vector = torch.randn(objective.size)
    wall, cpu = [], []
    for _ in range(2):
        begun = time.perf_counter()
        cpu.append(cpu_seconds(lambda: objective.hessian(vector)))
        wall.append(time.perf_counter() - begun)
    return {
        "parameters": objective.size,
        "told": cost.words,
        "told_seconds_per_product": cost.seconds_per_product,
        "told_bytes": cost.memory_bytes,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "resident_bytes_before": before,
        "resident_bytes_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def goals(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Goals beside what was measured."""
    mlp, conv, kernels, net = (result[name] for name in ("perceptron", "convnet", "kernels", "resnet18"))
    rows = [
        ("top-5 eigenvalues, perceptron: products, worst of 20 starts", max(mlp["ours"]["products"]), 18),
        ("top-5 eigenvalues, perceptron: worst error of 20 starts", max(mlp["ours"]["worst_errors"]), 0.01),
        ("top-5 eigenvalues, ConvNet: error", conv["found"]["ours"]["error"], 0.01),
        ("ConvNet: time over hessian-eigenthings (20)", conv["ours_over"]["hessian_eigenthings_20"], 0.55),
        ("ConvNet: time over curvlinops + eigsh", conv["ours_over"]["curvlinops_eigsh"], 0.35),
        ("one product over a gradient, retained", kernels["over_gradient"]["retained"], 2.4),
        ("one product over a gradient, linearised", kernels["over_gradient"]["linearised"], 2.1),
        ("trace with 60 products in all: rms error", mlp["trace"]["rms"], 0.02),
        ("ResNet-18, 128 images: resident bytes at the peak", net["resident_bytes_peak"], MEMORY),
    ]
    return [{"what": what, "measured": value, "goal": goal, "met": value <= goal} for what, value, goal in rows]


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result goes")
    parser.add_argument("--only", choices=PARTS, help="measure one part anew and keep the others of the file")
    parser.add_argument("--resnet", action="store_true", help="only ResNet-18, printed as JSON")
    arguments = parser.parse_args()
    prepare_process("cpu")
    if arguments.resnet:
        print(json.dumps(resnet()))
        return
    warnings.simplefilter("ignore")  # the peers' own
    measured = {}
    for name in [arguments.only] if arguments.only else PARTS:
        measured[name] = {**PARTS[name](arguments.repeats), "machine": described()}
    arguments.out.parent.mkdir(exist_ok=True)
    before = json.loads(arguments.out.read_text()) if arguments.only and arguments.out.is_file() else {}
    parts = {name: found for name in PARTS if (found := measured.get(name, before.get(name))) is not None}
    result = {"what": WHAT, "goals": goals(parts) if len(parts) == len(PARTS) else None, **parts}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["goals"] or []:
        print(f"{'met   ' if row['met'] else 'MISSED'} {row['what']}: {row['measured']:.4g} (goal {row['goal']:.4g})")


def in_a_process_of_its_own() -> dict[str, Any]:
    """ResNet-18, so that the highest memory is its own."""
    child = [sys.executable, str(Path(__file__).resolve()), "--resnet"]
    said: dict[str, Any] = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
    return said


WHAT = "curvature: products, errors and processor seconds on one thread, and memory"
PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "perceptron": lambda repeats: on_perceptron(150),
    "perceptron_barely_trained": lambda repeats: on_perceptron(30),
    "convnet": on_convnet,
    "kernels": kernel_ratios,
    "resnet18": lambda repeats: in_a_process_of_its_own(),
}


if __name__ == "__main__":
    main()
