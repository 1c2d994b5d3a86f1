"""Relative flatness of one linear layer (Petzka et al., NeurIPS 2021, arXiv 2001.00939, definition 3).

kappa = sum over s, s' of <w_s, w_s'> tr H_{s,s'}, where w_s are the rows of the layer's weight matrix and H_{s,s'} is
the block of the loss's Hessian by rows s and s'. Scaling a layer up and its neighbour down, as ReLU networks allow,
leaves it as it is.
"""

from dataclasses import dataclass

import torch

from analysis.invariance.student import one_sample
from analysis.landscape.objective import Objective
from trainables.spec import SpecError

__all__ = ["RelativeFlatness", "relative_flatness"]

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class RelativeFlatness:
    """Relative flatness; large is sharp.

    Attributes:
        value: kappa, nats.
        standard_error: over random probes.
        low: lower end of Student's 95 % interval.
        high: upper end.
        probes: how many.
    """

    value: float
    standard_error: float
    low: float
    high: float
    probes: int

    def as_rows(self) -> dict[str, float]:
        """Row keys and numbers."""
        return {
            "relative_flatness": self.value,
            "relative_flatness_se": self.standard_error,
            "relative_flatness_low": self.low,
            "relative_flatness_high": self.high,
        }


def relative_flatness(objective: Objective, *, probes: int = 30, seed: int = 0) -> RelativeFlatness:
    """Estimate the relative flatness of a linear layer.

    For independent random signs u and z the matrix V = (W u) z^T has E[V^T H V] = kappa, so that every probe is one
    Hessian product: the trace's estimator by Hutchinson, with W in it.

    Args:
        objective: the loss as a function of one weight matrix alone, `parameters=["head.weight"]` for instance.
        probes: Hessian products.
        seed: of the random signs.

    Returns:
        The estimate and its interval.

    Raises:
        SpecError: an objective of other than one matrix, or fewer than two probes.
    """
    shapes = [tuple(shape) for shape in objective.shapes]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        named = ", ".join(f"{name} {shape}" for name, shape in zip(objective.names[:4], shapes, strict=False))
        raise SpecError(
            [
                f"relative flatness needs an objective of one weight matrix, found {len(shapes)} parameters, {named}; "
                "name it in parameters"
            ]
        )
    if probes < 2:
        raise SpecError([f"probes must be at least 2 so that there is an error, found {probes}"])
    matrix = objective.weights.view(shapes[0])
    inputs = matrix.shape[1]
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(probes):
        signs = (2 * torch.randint(2, (2, inputs), generator=generator) - 1).to(matrix)
        vector = torch.outer(matrix @ signs[0], signs[1]).reshape(-1)
        found.append(float(vector @ objective.hessian(vector)))
    mean = one_sample(torch.tensor(found, dtype=torch.float64).numpy())
    low, high = mean.interval(CONFIDENCE)
    return RelativeFlatness(
        value=mean.value, standard_error=float(mean.error), low=float(low), high=float(high), probes=probes
    )
