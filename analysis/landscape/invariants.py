"""Curvature in forms that mean the same for every parametrisation of a network, and against the learning rate.

Scaling weights can change raw sharpness at will without changing the function (Dinh et al. 2017, arXiv 1703.04933), so
an invariant measure stands beside it: which one depends on the network.
"""

from collections.abc import Collection
from enum import StrEnum

from trainables.spec import SpecError

__all__ = ["InvariantMeasure", "edge_ratio", "effective_curvature", "effective_gradient", "invariant_measure"]


class InvariantMeasure(StrEnum):
    """What stands beside raw sharpness."""

    EFFECTIVE = "effective"
    """Curvature on the unit sphere, lambda ||w||^2: unchanged when all the weights are scaled together. For weights
    that are all scale-invariant."""
    ADAPTIVE = "asam"
    """ASAM sharpness, in a ball whose axes are each weight's own size: unchanged when layers or units are scaled
    against each other, or where they are scale-invariant. For every other network."""


def invariant_measure(names: Collection[str], scale_invariant: Collection[str]) -> InvariantMeasure:
    """Which invariant measure stands beside raw sharpness.

    Args:
        names: the weights that curvature and sharpness were taken over (`Objective.names`).
        scale_invariant: the network's scale-invariant parameters (`Evaluator.scale_invariant`).

    Returns:
        The effective form where all of the weights are scale-invariant, else ASAM. A single linear layer also has
        `flatness.relative_flatness`.
    """
    found = bool(names) and set(names) <= set(scale_invariant)
    return InvariantMeasure.EFFECTIVE if found else InvariantMeasure.ADAPTIVE


def effective_curvature(value: float, weight_norm: float) -> float:
    """An eigenvalue or trace of the Hessian, or a gradient covariance, as it is on the unit sphere.

    Args:
        value: of scale-invariant weights.
        weight_norm: ||w|| of the same weights.

    Returns:
        value x ||w||^2; for an eigenvalue that is the curvature by angle, in nats per square radian.
    """
    return value * weight_norm**2


def effective_gradient(value: float, weight_norm: float) -> float:
    """The norm of a gradient as it is on the unit sphere.

    Args:
        value: of scale-invariant weights.
        weight_norm: ||w|| of the same weights.

    Returns:
        value x ||w||, in nats per radian.
    """
    return value * weight_norm


def edge_ratio(lr: float, lambda_max: float, *, momentum: float = 0.0, nesterov: bool = False) -> float:
    """How close training is to the edge of stability: 1 is the edge (Cohen et al. 2021, arXiv 2103.00065).

    Gradient descent on a quadratic is stable while its largest curvature is below 2 / lr, heavy-ball momentum (v = m v
    + g, w -= lr v: torch's SGD) below 2 (1 + m) / lr, and Nesterov's below 2 (1 + m) / ((1 + 2 m) lr). Plain momentum
    0 gives lr lambda_max / 2.

    Args:
        lr: learning rate that the weights were trained at; on a sphere the one given to SGD, not the effective one.
        lambda_max: largest eigenvalue of the Hessian of the mean loss. Coupled weight decay adds its coefficient to
            the curvature that training feels: add it here where it matters.
        momentum: m.
        nesterov: whether momentum is Nesterov's, as in `trainables.spec.Recipe`.

    Returns:
        lambda_max over the largest stable curvature; negative where lambda_max is.

    Raises:
        SpecError: a learning rate below 0 or a momentum outside [0, 1).
    """
    faults = []
    if not lr >= 0:
        faults.append(f"lr must not be negative, found {lr}")
    if not 0 <= momentum < 1:
        faults.append(f"momentum must be in [0, 1), found {momentum}")
    if faults:
        raise SpecError(faults)
    stretch = 1 + 2 * momentum if nesterov else 1.0
    return lr * lambda_max * stretch / (2 * (1 + momentum))
