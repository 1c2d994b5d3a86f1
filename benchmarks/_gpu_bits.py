"""Whether a member's bits depend on its company, on a stop in between, or on who wrote the optimiser."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from _gpu_nets import Net
from _gpu_timing import prepared
from torch import Tensor

from trainables.executors.base import ExecutorName
from trainables.population import Population
from trainables.spec import Recipe
from trainables.update import make_rule, update_rows

__all__ = ["CHECKS", "company", "optimiser"]

STEPS = 8
ROWS = 8
CHECKS = ("four_of_eight", "reversed", "nan_neighbour", "resumed", "twice")


class _Run:
    """Some members of one network, trained a few steps."""

    def __init__(self, net: Net, executor: ExecutorName, device: str, members: Sequence[int]) -> None:
        self.setting, whole = prepared(net, ROWS, executor, device)
        self.cohort = replace(whole, segments=tuple(members))
        self.seeds, self.hyper = self.setting.hyper(self.cohort, len(members))
        self.population = self.setting.populate(self.cohort)
        self.width = len(members)

    def train(self, start: int, stop: int) -> None:
        block = self.setting.block(self.cohort, self.seeds, self.width, start, stop)
        self.setting.executor.step(self.population, block, self.hyper)

    def rows(self) -> dict[str, Tensor]:
        """Weights, momenta and buffers, member axis first; NaNs are equal to NaNs as bits."""
        flat = self.population.tensors()
        return {name: t.detach().cpu().clone() for name, t in flat.items() if name not in ("sums", "window")}


def _differing(one: dict[str, Tensor], other: dict[str, Tensor], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Names of tensors in which some row of one is not, bit by bit, its partner in the other."""

    def same(a: Tensor, b: Tensor) -> bool:
        return a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()

    return [name for name in one if not all(same(one[name][i], other[name][j]) for i, j in pairs)]


def company(net: Net, executor: ExecutorName, device: str) -> dict[str, object]:
    """Train the same members in several circumstances and compare every bit of their state.

    Args:
        net: what is trained.
        executor: how.
        device: `cuda` or `cpu`.

    Returns:
        For each of `CHECKS` True, or the tensors that differ.
    """
    everyone = list(range(ROWS))
    run = _Run(net, executor, device, everyone)
    run.train(0, STEPS)
    reference = run.rows()
    found: dict[str, object] = {"note": run.setting.executor.note, "alive": int(reference["alive"].sum())}

    def judge(check: str, rows: dict[str, Tensor], pairs: Sequence[tuple[int, int]]) -> None:
        found[check] = _differing(reference, rows, pairs) or True

    run = _Run(net, executor, device, everyone)
    run.train(0, STEPS)
    judge("twice", run.rows(), [(i, i) for i in everyone])

    half = everyone[: ROWS // 2]
    run = _Run(net, executor, device, half)
    run.train(0, STEPS)
    judge("four_of_eight", run.rows(), [(i, i) for i in half])

    run = _Run(net, executor, device, everyone[::-1])
    run.train(0, STEPS)
    judge("reversed", run.rows(), [(i, ROWS - 1 - i) for i in everyone])

    ill = 3
    run = _Run(net, executor, device, everyone)
    next(iter(run.population.trained.values()))[ill].fill_(float("nan"))
    run.train(0, STEPS)
    rows = run.rows()
    judge("nan_neighbour", rows, [(i, i) for i in everyone if i != ill])
    if bool(rows["alive"][ill]):
        found["nan_neighbour"] = ["the row with NaN weights is still called alive"]

    run = _Run(net, executor, device, everyone)
    run.train(0, STEPS // 2)
    saved = {name: tensor.detach().cpu().clone() for name, tensor in run.population.tensors().items()}
    run = _Run(net, executor, device, everyone)
    run.population = Population.from_tensors({name: tensor.to(device) for name, tensor in saved.items()})
    run.train(STEPS // 2, STEPS)
    judge("resumed", run.rows(), [(i, i) for i in everyone])
    return found


def optimiser(device: str, steps: int = 20) -> dict[str, object]:
    """The update of rows against `torch.optim.SGD` on the same gradients: momentum, weight decay, float32.

    Args:
        device: `cuda` or `cpu`.
        steps: taken by both.

    Returns:
        Whether all bits are equal, and the largest difference relative to the largest weight.
    """
    generator = torch.Generator().manual_seed(0)
    rows, size = 3, 4096
    lr, wd, mu = [0.1, 0.01, 0.003], [5e-4, 0.0, 1e-2], [0.9, 0.5, 0.0]
    start = torch.randn(rows, size, generator=generator)
    gradients = torch.randn(steps, rows, size, generator=generator).to(device)
    module = torch.nn.ParameterDict({"weight": torch.nn.Parameter(torch.zeros(size))})
    rule = make_rule(Recipe(task="points", batch_size=1), module, ())
    weight, momentum = start.to(device).clone(), torch.zeros(rows, size, device=device)
    theirs = [torch.nn.Parameter(start[row].to(device).clone()) for row in range(rows)]
    optimisers = [
        torch.optim.SGD([p], lr=lr[row], weight_decay=wd[row], momentum=mu[row], foreach=False)
        for row, p in enumerate(theirs)
    ]
    columns = {name: torch.tensor(values, device=device) for name, values in (("lr", lr), ("wd", wd), ("mu", mu))}
    for gradient in gradients:
        update_rows(
            rule,
            [weight],
            [momentum],
            [],
            [gradient],
            finite=torch.ones(rows, dtype=torch.bool, device=device),
            lr=columns["lr"],
            root=None,
            weight_decay=columns["wd"],
            momentum=columns["mu"],
        )
        for row, (parameter, each) in enumerate(zip(theirs, optimisers, strict=True)):
            parameter.grad = gradient[row].clone()
            each.step()
    other = torch.stack([parameter.detach() for parameter in theirs])
    difference = (weight - other).abs().max() / other.abs().max()
    return {"bitwise": bool(torch.equal(weight, other)), "largest_relative_difference": float(difference)}
