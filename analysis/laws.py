"""Closed forms of the intrinsic learning rate: what SGD with weight decay does to scale-invariant weights.

Everything follows from one identity (`norm_sq_step`) and from E[G], the mean squared gradient of a mini-batch at unit
norm, G = ||gradient||^2 ||w||^2, which does not depend on the norm. Source: Li, Lyu and Arora, NeurIPS 2020,
arXiv 2010.02916; the factors with momentum beta are those of the heavy ball with weight decay inside the gradient.
Times are in optimiser steps. Arguments are numbers or arrays of one shape.
"""

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "equilibrium_angle",
    "equilibrium_effective_lr",
    "equilibrium_norm_sq",
    "equilibrium_steps",
    "function_steps",
    "intrinsic_lr",
    "norm_sq_step",
    "recovery_steps_after_drop",
]

Real = TypeVar("Real", float, npt.NDArray[np.float64])

# Steps after which functions could not be told apart, in units of 1 / lambda_e: measured, theory gives the order only.
_FUNCTION_STEPS = (2.0, 4.0)


def intrinsic_lr(lr: Real, weight_decay: Real, momentum: float = 0.0) -> Real:
    """The intrinsic learning rate lambda_e = eta lambda / (1 - beta), the only rate that the dynamics feel.

    Args:
        lr: eta.
        weight_decay: lambda, coupled as in `torch.optim.SGD`.
        momentum: beta, in [0, 1).

    Returns:
        lambda_e, per step.

    Raises:
        ValueError: momentum is outside [0, 1).
    """
    return lr * weight_decay / _kept(momentum)


def norm_sq_step(norm_sq: Real, lr: Real, weight_decay: Real, unit_grad_norm_sq: Real) -> Real:
    """||w||^2 after one step of SGD without momentum: exact, because the gradient is orthogonal to the weights.

    (1 - eta lambda)^2 ||w||^2 + eta^2 G / ||w||^2.

    Args:
        norm_sq: ||w||^2 before.
        lr: eta.
        weight_decay: lambda.
        unit_grad_norm_sq: G of this step's mini-batch.

    Returns:
        ||w||^2 after.
    """
    return (1 - lr * weight_decay) ** 2 * norm_sq + lr**2 * unit_grad_norm_sq / norm_sq


def equilibrium_norm_sq(lr: Real, weight_decay: Real, unit_grad_norm_sq: Real, momentum: float = 0.0) -> Real:
    """||w||^2 at equilibrium: sqrt(eta E[G] / (2 lambda (1 - beta))), to leading order in eta lambda.

    Args:
        lr: eta.
        weight_decay: lambda; 0 has no equilibrium: infinity.
        unit_grad_norm_sq: E[G].
        momentum: beta, in [0, 1).

    Returns:
        ||w||^2.

    Raises:
        ValueError: momentum is outside [0, 1).
    """
    found: Real = _root(_ratio(lr * unit_grad_norm_sq, 2 * weight_decay * _kept(momentum)))
    return found


def equilibrium_effective_lr(lr: Real, weight_decay: Real, unit_grad_norm_sq: Real, momentum: float = 0.0) -> Real:
    """Effective learning rate eta / ||w||^2 at equilibrium: sqrt(2 eta lambda (1 - beta) / E[G]), to leading order.

    Args:
        lr: eta.
        weight_decay: lambda.
        unit_grad_norm_sq: E[G]; 0 (no gradient) has no equilibrium: infinity.
        momentum: beta, in [0, 1).

    Returns:
        The effective learning rate.

    Raises:
        ValueError: momentum is outside [0, 1).
    """
    found: Real = _root(_ratio(2 * lr * weight_decay * _kept(momentum), unit_grad_norm_sq))
    return found


def equilibrium_angle(lr: Real, weight_decay: Real, momentum: float = 0.0) -> Real:
    """Angle between the weights before and after a step at equilibrium: sqrt(2 eta lambda / (1 + beta)), whatever E[G].

    Args:
        lr: eta.
        weight_decay: lambda.
        momentum: beta, in [0, 1).

    Returns:
        The root mean square angle in radians.

    Raises:
        ValueError: momentum is outside [0, 1).
    """
    _kept(momentum)
    found: Real = _root(2 * lr * weight_decay / (1 + momentum))
    return found


def equilibrium_steps(intrinsic_lr: float, start_ratio: float, tolerance: float = 0.1) -> float:
    """Steps until gamma = ||w||^4 / eta^2 is within a tolerance of its equilibrium value.

    gamma obeys d gamma / dt = -4 lambda_e gamma + 2 E[G], so its distance decays as exp(-4 lambda_e t) and the time is
    ln(|gamma_0 / gamma_inf - 1| / tolerance) / (4 lambda_e).

    Args:
        intrinsic_lr: lambda_e.
        start_ratio: gamma_0 / gamma_inf; at a given learning rate the ratio of ||w||^4.
        tolerance: relative distance that counts as equilibrium.

    Returns:
        The steps; 0 where the start is within the tolerance, infinity where lambda_e is 0.

    Raises:
        ValueError: a negative rate or ratio, or a tolerance that is not positive.
    """
    if intrinsic_lr < 0 or start_ratio < 0 or not tolerance > 0:
        raise ValueError(
            "intrinsic_lr and start_ratio must not be negative and tolerance must be positive, "
            f"got {intrinsic_lr}, {start_ratio}, {tolerance}"
        )
    distance = abs(start_ratio - 1)
    if distance <= tolerance:
        return 0.0
    return math.log(distance / tolerance) / (4 * intrinsic_lr) if intrinsic_lr else math.inf


def recovery_steps_after_drop(intrinsic_lr_old: float, factor: float, tolerance: float = 0.1) -> float:
    """Steps after a drop of the learning rate until the weights are at their new equilibrium.

    The norm cannot jump, so gamma starts at k = 1 / factor times its new equilibrium value and needs
    ln((k - 1) / tolerance) k / (4 lambda_e) steps, lambda_e being the one before the drop.

    Args:
        intrinsic_lr_old: lambda_e before the drop.
        factor: what the learning rate is multiplied by, in (0, 1).
        tolerance: relative distance of ||w||^4 that counts as equilibrium.

    Returns:
        The steps.

    Raises:
        ValueError: the factor is no drop.
    """
    if not 0 < factor < 1:
        raise ValueError(f"a drop multiplies the learning rate by a factor in (0, 1), got {factor}")
    return equilibrium_steps(intrinsic_lr_old * factor, 1 / factor, tolerance)


def function_steps(intrinsic_lr: float) -> tuple[float, float]:
    """Steps after which the distribution of trained functions no longer shows where training started.

    The Fast Equilibrium Conjecture gives the order, O(1 / lambda_e); the factors 2 to 4 are measured on small networks.

    Args:
        intrinsic_lr: lambda_e.

    Returns:
        Least and largest steps seen; infinity where lambda_e is 0.
    """
    low, high = _FUNCTION_STEPS
    return (low / intrinsic_lr, high / intrinsic_lr) if intrinsic_lr else (math.inf, math.inf)


def _kept(momentum: float) -> float:
    """1 - beta, checked."""
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    return 1 - momentum


def _root(x: Any) -> Any:
    root = np.sqrt(x)
    return root if isinstance(root, np.ndarray) else float(root)


def _ratio(over: Any, under: Any) -> Any:
    """A quotient that is infinite where only its denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(over, under)
