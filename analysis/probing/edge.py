"""How close the steps behind a kept solution were to the edge of stability, under the curvature that they felt."""

import torch
from torch import Tensor

from analysis.landscape.invariants import edge_ratio
from analysis.landscape.lanczos import eigenvalues
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from analysis.probing.bench import Bench
from analysis.probing.solutions import Solution
from trainables.update import own_rates

__all__ = ["edge_of", "weight_rates"]


def edge_of(objective: Objective, largest: float, solution: Solution, bench: Bench) -> dict[str, float]:
    """The edge ratio of a solution.

    Gradient descent with a rate d_i of its own for every weight goes as plain descent on D^1/2 H D^1/2 would.

    Args:
        objective: the loss around the solution.
        largest: eigenvalue of its Hessian.
        solution: where.
        bench: recipe and data.

    Returns:
        `edge_ratio`, and where one rate acts on all weights the largest eigenvalue that they felt, `edge_lambda`.
    """
    rates = weight_rates(objective, solution, bench)
    uniform = bool((rates == rates[0]).all())
    values = {}
    if bench.has_batch_norms:
        with bench.objective(solution, Norms.BATCH) as felt:
            curved = _largest(felt, None if uniform else rates)
    else:
        curved = largest if uniform else _largest(objective, rates)
    if uniform:
        values["edge_lambda"] = curved
    rate = float(rates[0]) if uniform else 1.0
    momentum, nesterov = solution.momentum, bench.recipe.nesterov
    return values | {"edge_ratio": edge_ratio(rate, curved, momentum=momentum, nesterov=nesterov)}


def weight_rates(objective: Objective, solution: Solution, bench: Bench) -> Tensor:
    """The learning rate that each weight had in the last steps behind a solution.

    Args:
        objective: knows the weights.
        solution: where.
        bench: recipe and network.

    Returns:
        `[P]`; on a sphere as if the weights were put back on it, which averages of weights are not.
    """
    rule = bench.rule
    place = {name: index for index, name in enumerate(sorted(objective.names))}  # a population's order
    pieces = torch.split(objective.weights.double(), [shape.numel() for shape in objective.shapes])
    invariant = [piece for name, piece in zip(objective.names, pieces, strict=True) if rule.on_sphere[place[name]]]
    norm = float(torch.cat(invariant).norm()) if invariant else 1.0
    lr, none = torch.tensor([solution.lr], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    rates = []
    for name, piece in zip(objective.names, pieces, strict=True):
        rate = float(own_rates(rule, place[name], lr, none)[0])
        if rule.radius is not None and rule.on_sphere[place[name]]:
            rate *= (norm / rule.radius) ** 2
        rates.append(torch.full_like(piece, rate))
    return torch.cat(rates)


def _largest(objective: Objective, rates: Tensor | None) -> float:
    """Largest eigenvalue of the Hessian, or of D^1/2 H D^1/2 where weights have rates of their own."""
    dtype, device = objective.weights.dtype, objective.weights.device
    root = None if rates is None else rates.sqrt().to(objective.weights)

    def product(vector: Tensor) -> Tensor:
        return objective.hessian(vector) if root is None else root * objective.hessian(root * vector)

    found = eigenvalues(product, objective.size, largest=1, smallest=0, dtype=dtype, device=device)
    return float(found.largest[0])
