"""The optimiser on rows: SGD with per-member hyperparameters, optionally held on a sphere.

No operation mixes rows, and a row that is not alive is kept by selection (`where`), never by multiplication: a member
that overflows cannot touch its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rule", "row_norm_sq", "update_rows"]


@dataclass(frozen=True)
class Rule:
    """How gradients become steps; equal for all members of a recipe.

    Attributes:
        on_sphere: for each trained tensor, whether it belongs to the scale-invariant set.
        radius: norm at which that set is held together (one global norm); None trains freely.
        decoupled: weight decay acts on the weights directly, as in AdamW, instead of through the gradient.
    """

    on_sphere: tuple[bool, ...]
    radius: float | None
    decoupled: bool

    @property
    def measured(self) -> tuple[bool, ...]:
        """Which trained tensors enter reported norms: the scale-invariant set, or all where there is none."""
        return self.on_sphere if any(self.on_sphere) else tuple(True for _ in self.on_sphere)


def _column(value: Tensor, like: Tensor) -> Tensor:
    """`[K]` as `[K, 1, ...]`, to act on rows of `like`."""
    return value.view(-1, *[1] * (like.dim() - 1))


def row_norm_sq(tensors: Sequence[Tensor], chosen: Sequence[bool]) -> Tensor:
    """Squared norm of each row over some tensors together.

    Args:
        tensors: each `[K, ...]`.
        chosen: which of them count.

    Returns:
        `[K]`.
    """
    total = torch.zeros_like(tensors[0].flatten(1)[:, 0])
    for tensor, counts in zip(tensors, chosen, strict=True):
        if counts:
            total = total + tensor.square().flatten(1).sum(1)
    return total


def update_rows(
    rule: Rule,
    weights: Sequence[Tensor],
    momenta: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    finite: Tensor,
    lr: Tensor,
    weight_decay: Tensor,
    momentum: Tensor,
) -> Tensor:
    """One step of every living row, in place.

    Coupled form, as `torch.optim.SGD`: d = g + wd * w; m = mu * m + d; w = w - lr * m. On a sphere of radius r the
    learning rate is the effective one, so the step is lr * r^2, and the scale-invariant set is then scaled back to
    norm r (Kodryan et al., NeurIPS 2022).

    Args:
        rule: what is equal for all rows.
        weights: trained tensors, each `[K, ...]`; updated.
        momenta: their momentum buffers, or empty; updated.
        gradients: of the mean loss, as `weights`.
        finite: rows that were alive and whose loss is finite, `[K]`.
        lr: learning rates, `[K]`.
        weight_decay: `[K]`.
        momentum: `[K]`.

    Returns:
        Rows that are alive after the step, `[K]`: those whose new weights are finite too.
    """
    rate = lr if rule.radius is None else lr * rule.radius**2
    directions = []
    for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        decay = _column(weight_decay, weight)
        direction = gradient if rule.decoupled else torch.addcmul(gradient, weight, decay)
        directions.append(momenta[index] * _column(momentum, weight) + direction if momenta else direction)
    moved = []
    for weight, direction in zip(weights, directions, strict=True):
        start = weight * (1 - _column(rate * weight_decay, weight)) if rule.decoupled else weight
        moved.append(torch.addcmul(start, direction, -_column(rate, weight)))
    norm_sq = row_norm_sq(moved, rule.on_sphere)
    if rule.radius is not None:
        scale = rule.radius * norm_sq.rsqrt()
        moved = [m * _column(scale, m) if on else m for m, on in zip(moved, rule.on_sphere, strict=True)]
    others = [not on for on in rule.on_sphere]
    alive = finite & torch.isfinite(norm_sq) & torch.isfinite(row_norm_sq(moved, others))
    for index, weight in enumerate(weights):
        keep = _column(alive, weight)
        weight.copy_(torch.where(keep, moved[index], weight))
        if momenta:
            momenta[index].copy_(torch.where(keep, directions[index], momenta[index]))
    return alive
