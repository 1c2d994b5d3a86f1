"""The optimiser on rows: SGD and Adam with per-member hyperparameters, optionally held on a sphere.

No operation mixes rows, and a row that is not alive is kept by selection (`where`), never by multiplication: a member
that overflows cannot touch its neighbours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.groups import PLAIN, GroupRate, resolve_groups
from trainables.spec import Optimizer, Recipe

__all__ = ["TRACED", "Rule", "make_rule", "own_rates", "row_norm_sq", "update_rows"]

TRACED = ("grad_norm_sq", "unit_grad_norm_sq", "angle_sq", "effective_lr")
"""What is summed over steps where a study follows norms and angles, for each tensor and for all together.

The squared norm of the mini-batch gradient; the same at unit weight norm, G = ||g||^2 ||w||^2; the squared angle in
radians between the weights before and after the step; and lr / ||w||^2 before the step.
"""


@dataclass(frozen=True)
class Rule:
    """How gradients become steps; equal for all members of a recipe. Hashable, so that compiled steps can be shared.

    Attributes:
        on_sphere: for each trained tensor, whether it belongs to the scale-invariant set.
        radius: norm at which that set is held together (one global norm); None trains freely.
        decoupled: weight decay acts on the weights directly, as in AdamW, instead of through the gradient.
        optimizer: SGD, or Adam in either form (`decoupled` says which).
        nesterov: SGD looks ahead along its momentum.
        beta1: Adam's decay of the average gradient.
        beta2: Adam's decay of the average squared gradient.
        eps: Adam's addition to the denominator.
        groups: for each trained tensor, what is special about it; empty where nothing is about any.
    """

    on_sphere: tuple[bool, ...]
    radius: float | None
    decoupled: bool
    optimizer: Optimizer = Optimizer.SGD
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    groups: tuple[GroupRate, ...] = ()

    @property
    def measured(self) -> tuple[bool, ...]:
        """Which trained tensors enter reported norms: the scale-invariant set, or all where there is none."""
        return self.on_sphere if any(self.on_sphere) else tuple(True for _ in self.on_sphere)


def make_rule(recipe: Recipe, module: nn.Module, invariant: Collection[str]) -> Rule:
    """The rule of a recipe for its network.

    Args:
        recipe: names optimiser, sphere and groups.
        module: one network; only its structure is used.
        invariant: names of its scale-invariant parameters.

    Returns:
        The rule, for trained tensors in a population's order.

    Raises:
        SpecError: a group names no trained parameter.
    """
    trained = sorted(name for name, parameter in module.named_parameters() if parameter.requires_grad)
    return Rule(
        on_sphere=tuple(name in invariant for name in trained),
        radius=recipe.sphere_radius,
        decoupled=recipe.decays_apart,
        optimizer=recipe.optimizer,
        nesterov=recipe.nesterov,
        beta1=recipe.beta1,
        beta2=recipe.beta2,
        eps=recipe.eps,
        groups=resolve_groups(module, recipe.groups, invariant, trained),
    )


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
    total = tensors[0].new_zeros(len(tensors[0]))
    for tensor, counts in zip(tensors, chosen, strict=True):
        if counts:
            total = total + tensor.square().reshape(len(tensor), -1).sum(1)  # a tensor may be one number in each row
    return total


def update_rows(
    rule: Rule,
    weights: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    finite: Tensor,
    lr: Tensor,
    root: Tensor | None,
    weight_decay: Tensor,
    momentum: Tensor,
    trace: Tensor | None = None,
) -> Tensor:
    """One step of every living row, in place.

    Coupled form of SGD, as `torch.optim.SGD`: d = g + wd * w; m = mu * m + d; w = w - lr * m. On a sphere of radius r
    the learning rate of the scale-invariant set is the effective one, so its step is lr * r^2, and the set is then
    scaled back to norm r (Kodryan et al., NeurIPS 2022). Adam as `torch.optim.Adam` and `AdamW`.

    Args:
        rule: what is equal for all rows.
        weights: trained tensors, each `[K, ...]`; updated.
        first: their momentum buffers (Adam: average gradients), or empty; updated.
        second: Adam's average squared gradients, or empty; updated.
        gradients: of the mean loss, as `weights`.
        finite: rows that were alive and whose loss is finite, `[K]`.
        lr: learning rates, `[K]`.
        root: Adam's bias corrections, `[K, 2]`: the first one, and the square root of the second; None for SGD.
        weight_decay: `[K]`.
        momentum: of SGD, `[K]`.
        trace: sums of `TRACED`, `[K, len(TRACED), L + 1]` for the L measured tensors and all of them together; updated.
            None where nobody asks.

    Returns:
        Rows that are alive after the step, `[K]`: those whose new weights are finite too.
    """
    moved, averages, squares = [], [], []
    for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        rate, decay = own_rates(rule, index, lr, weight_decay)
        direction = gradient if rule.decoupled else torch.addcmul(gradient, weight, _column(decay, weight))
        start = weight * (1 - _column(rate * decay, weight)) if rule.decoupled else weight
        if rule.optimizer.adapts:
            assert root is not None
            average = torch.lerp(first[index], direction, 1 - rule.beta1)
            square = torch.addcmul(second[index] * rule.beta2, direction, direction, value=1 - rule.beta2)
            averages.append(average)
            squares.append(square)
            direction = average / (square.sqrt() / _column(root[:, 1], weight) + rule.eps)
            rate = rate / root[:, 0]
        elif first:
            average = first[index] * _column(momentum, weight) + direction
            averages.append(average)
            direction = torch.addcmul(direction, average, _column(momentum, weight)) if rule.nesterov else average
        moved.append(torch.addcmul(start, direction, -_column(rate, weight)))
    norm_sq = row_norm_sq(moved, rule.on_sphere)
    if rule.radius is not None:
        scale = rule.radius * norm_sq.rsqrt()
        moved = [m * _column(scale, m) if on else m for m, on in zip(moved, rule.on_sphere, strict=True)]
    others = [not on for on in rule.on_sphere]
    alive = finite & torch.isfinite(norm_sq) & torch.isfinite(row_norm_sq(moved, others))
    if trace is not None:
        trace.add_(torch.where(alive.view(-1, 1, 1), _traced(rule, weights, moved, gradients, lr, weight_decay), 0.0))
    for olds, news in ((weights, moved), (first, averages), (second, squares)):
        for old, new in zip(olds, news, strict=True):
            old.copy_(torch.where(_column(alive, old), new, old))
    return alive


def _traced(
    rule: Rule,
    weights: Sequence[Tensor],
    moved: Sequence[Tensor],
    gradients: Sequence[Tensor],
    lr: Tensor,
    weight_decay: Tensor,
) -> Tensor:
    """`TRACED` of one step, `[K, len(TRACED), L + 1]`."""
    norms, steps, products, slopes, rates = [], [], [], [], []
    for index, (old, new, gradient) in enumerate(zip(weights, moved, gradients, strict=True)):
        if rule.measured[index]:
            step = new - old
            norms.append(_row_sum(old.square()))
            steps.append(_row_sum(step.square()))
            products.append(_row_sum(step * old))
            slopes.append(_row_sum(gradient.square()))
            rates.append(own_rates(rule, index, lr, weight_decay)[0])
    # the whole set comes last; its rate is the member's own
    norm, moved_sq, along, slope = (torch.stack([*each, sum(each)], 1) for each in (norms, steps, products, slopes))  # type: ignore[list-item]
    rate = torch.stack([*rates, lr], 1)
    # What of the step is at right angles to the weights; the arc cosine of a cosine near 1 would lose half the digits.
    across = (moved_sq - along.square() / norm).clamp_min(0.0).sqrt()
    angle = torch.atan2(across, norm.sqrt() + along * norm.rsqrt())
    return torch.stack([slope, slope * norm, angle.square(), rate / norm], 1)


def _row_sum(tensor: Tensor) -> Tensor:
    """Sum of each row, `[K]`."""
    return tensor.reshape(len(tensor), -1).sum(1)


def own_rates(rule: Rule, index: int, lr: Tensor, weight_decay: Tensor) -> tuple[Tensor, Tensor]:
    """Learning rate and weight decay of one tensor.

    Args:
        rule: the optimiser's fixed part.
        index: of the tensor, in a population's order.
        lr: of the members, `[K]`; the effective ones on a sphere.
        weight_decay: of the members, `[K]`.

    Returns:
        Both as the tensor's own, `[K]` each; on a sphere the rate that acts on the weights themselves.
    """
    group = rule.groups[index] if rule.groups else PLAIN
    if group.lr is not None:
        rate = torch.full_like(lr, group.lr)
    else:
        rate = lr * rule.radius**2 if rule.radius is not None and rule.on_sphere[index] else lr
        rate = rate * group.lr_times if group.lr_times != 1 else rate
    decay = weight_decay if group.weight_decay is None else torch.full_like(weight_decay, group.weight_decay)
    return rate, decay
