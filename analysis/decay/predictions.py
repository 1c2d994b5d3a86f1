"""What theory says of a decay: the effective learning rate just after it, at the new equilibrium, and in between.

With gamma = ||w||^4 / lr^2 = (effective LR)^-2 over scale-invariant weights, SGD with weight decay follows
d gamma/dt = -4 lambda_e gamma + 2 E[G], lambda_e = lr weight_decay / (1 - momentum) the intrinsic LR and E[G] the mean
squared gradient at unit norm (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916). All here is relative to the equilibrium
that the decay leaves, so that neither the norm nor E[G] itself enters, only how E[G] changes.
"""

import numpy as np
import numpy.typing as npt

from analysis.decay.schedules import Decay, Level

__all__ = ["angle_ratio", "course", "equilibrium_ratio", "intrinsic_lr", "just_after", "recovery_steps", "settled"]

Floats = npt.NDArray[np.float64]

TOLERANCE = 0.1
"""Relative distance of gamma from its equilibrium that counts as arrived."""

_UNITS = 4.0
"""A first level has forgotten its start after this many times 1/lambda_e; functions settle after 2 to 4."""


def intrinsic_lr(level: Level, momentum: float) -> float:
    """The intrinsic learning rate lr * weight_decay / (1 - momentum), per step."""
    return level.lr * level.weight_decay / (1 - momentum)


def just_after(decay: Decay) -> float:
    """Effective LR right after a decay by that before: the LR's own factor, for the norm cannot jump.

    Args:
        decay: the decay; a kick that comes with it multiplies the norm.

    Returns:
        The ratio; 1 for a drop of weight decay alone.
    """
    return decay.lr_factor / decay.after.kick**2


def equilibrium_ratio(decay: Decay, noise: float = 1.0) -> float:
    """Effective LR at the new equilibrium by that at the old: sqrt(product factor / noise).

    Args:
        decay: the decay.
        noise: E[G] at the new equilibrium by E[G] at the old.

    Returns:
        The ratio; NaN without weight decay on both sides, where there is no equilibrium.
    """
    product = decay.lr_factor * decay.wd_factor
    if not (product > 0 and decay.before.weight_decay > 0):
        return np.nan
    return float(np.sqrt(product / noise))


def angle_ratio(decay: Decay) -> float:
    """Angular update per step at the new equilibrium by that at the old, whatever E[G]: sqrt(product factor)."""
    return equilibrium_ratio(decay)


def recovery_steps(decay: Decay, momentum: float, tolerance: float = TOLERANCE) -> float:
    """Steps until gamma is within a tolerance of its new equilibrium, E[G] unchanged.

    gamma starts at kick^4 / lr_factor^2 and ends at 1 / (lr_factor wd_factor) of its old value. For an LR drop by k
    this is ln((k - 1) / tolerance) k / (4 lambda_e), lambda_e before the drop.

    Args:
        decay: the decay.
        momentum: the run's.
        tolerance: relative distance of gamma from its equilibrium.

    Returns:
        Steps, 0 where the start is within the tolerance; infinite without weight decay.
    """
    rate = intrinsic_lr(decay.after, momentum)
    if rate <= 0 or decay.before.weight_decay <= 0:
        return np.inf
    start = decay.after.kick**4 * decay.wd_factor / decay.lr_factor
    return max(0.0, float(np.log(max(abs(start - 1), 1e-300) / tolerance))) / (4 * rate)


def settled(level: Level, momentum: float) -> bool:
    """Whether a schedule's first level is long enough to have forgotten its start: 4 / lambda_e steps."""
    return intrinsic_lr(level, momentum) * level.steps >= _UNITS * (1 - 1e-9)  # products of rates round


def course(decay: Decay, momentum: float, steps: Floats, noise: float = 1.0) -> Floats:
    """Effective LR after a decay by the equilibrium value before it, E[G] taking its new value at once.

    Args:
        decay: the decay.
        momentum: the run's.
        steps: since the decay.
        noise: E[G] after by E[G] before.

    Returns:
        One ratio for each; where weight decay is off, gamma grows evenly and the ratio falls for ever. NaN without
        weight decay before the decay, where there was no equilibrium.
    """
    old, rate = intrinsic_lr(decay.before, momentum), intrinsic_lr(decay.after, momentum)
    if old <= 0:
        return np.full(len(steps), np.nan)
    start, growth = just_after(decay) ** -2, 4 * old * noise  # 2 E[G] in units of the old equilibrium, per step
    if rate > 0:
        gamma = growth / (4 * rate) * -np.expm1(-4 * rate * steps) + start * np.exp(-4 * rate * steps)
    else:
        gamma = start + growth * steps
    ratio: Floats = gamma**-0.5
    return ratio
