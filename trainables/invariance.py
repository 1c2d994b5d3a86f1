"""Which parameters the loss does not feel the scale of: measured, never guessed from names.

The derivative of a loss by the logarithm of a tensor's scale is the inner product of the tensor and its gradient, so a
few backward passes tell for every tensor of a network at once whether its scale matters. What they suggest is then
tried out: tensors are halved and doubled, and the loss must stay.
"""

import weakref
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.tasks.base import Task, as_dtype

__all__ = ["scale_invariant_parameters"]

SCALES = (0.5, 2.0)
TOLERANCE = 1e-3  # of the loss; the eps of ordinary norm layers costs up to about 1e-4, a real dependence 1e-2 and more
ANGLE = 1e-2  # largest cosine between an invariant tensor and its gradient: weak tensors must not pass by weakness
NOTHING = 1e-9  # of the loss: a tensor whose change matters less does not matter at all
SAMPLES = 16
IMAGES = 4  # samples when they are images, whose pixels make up for it in norm statistics: large networks take long
SUMS = 3  # random sums of the samples' losses that are differentiated
SEED = 0  # of the test network

_known: dict[int, tuple[weakref.ref[Task], tuple[str, ...]]] = {}


def scale_invariant_parameters(task: Task) -> tuple[str, ...]:
    """Find the trained parameters p with loss(c p) = loss(p) for c in {1/2, 2}.

    First each tensor on its own. Then, among weights and kernels (two or more axes), those that are invariant only
    when they are scaled together: in a pre-activation network the convolutions that write to the residual stream.
    The whole set can be scaled by one factor without changing the loss.

    The test is made in float64 on a fresh network whose parameters are moved off special values first (a bias at its
    initial zero is "invariant" only there). A parameter that the loss does not depend on at all is not counted.

    Args:
        task: its `scale_invariant`, where given, is returned as it is; what is found is remembered as long as it lives.

    Returns:
        Parameter names, in the module's order.
    """
    if task.scale_invariant is not None:
        return tuple(task.scale_invariant)
    reference, names = _known.get(id(task), (None, ()))
    if reference is None or reference() is not task:
        with torch.random.fork_rng(devices=[]):
            names = _find(_Trial(task))
        _known[id(task)] = weakref.ref(task, partial(_forget, id(task))), names
    return names


def _forget(key: int, _: weakref.ref[Task]) -> None:
    _known.pop(key, None)


class _Trial:
    """A network moved off special values, and its losses on a few samples."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(SEED)
        self._task = task
        self._module = task.model().double().train()
        with torch.no_grad():
            for parameter in self._module.parameters():
                # a small shift beside a large gain would look like none
                least, spread = (0.1, 0.1) if parameter.dim() >= 2 else (1.0, 0.3)
                parameter.add_(spread * torch.randn_like(parameter) * parameter.abs().mean().clamp_min(least))
        for layer in self._module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # noise would hide the comparison; a custom layer's own is the same at every call
        some = IMAGES if task.train.x.dim() >= 4 else SAMPLES
        self._x = task.inputs(task.train.x[:some], torch.float64)
        self._y = as_dtype(task.train.y[:some], torch.float64)
        self.trained = {name: p for name, p in self._module.named_parameters() if p.requires_grad}

    def losses(self, values: Mapping[str, Tensor]) -> Tensor:
        """Losses `[n]` with some parameters replaced."""
        torch.manual_seed(SEED)
        buffers = {name: buffer.clone() for name, buffer in self._module.named_buffers()}  # a forward may change them
        return self._task.loss(functional_call(self._module, {**buffers, **values}, (self._x,)), self._y)

    def unmoved(self, unit: Tensor, here: Tensor, factors: Mapping[str, float]) -> bool:
        """Whether the losses stay when these tensors are multiplied."""
        with torch.no_grad():
            there = self.losses({name: factor * self.trained[name] for name, factor in factors.items()})
        return bool((there - here).abs().mean() <= TOLERANCE * unit)


def _find(trial: _Trial) -> tuple[str, ...]:
    names = list(trial.trained)
    if not names:
        return ()
    losses = trial.losses(trial.trained)
    here, unit = losses.detach(), losses.detach().abs().mean()
    by_scale, by_any = torch.zeros(2, SUMS, len(names), dtype=torch.float64).unbind(0)
    for row in range(SUMS):
        total = (torch.randn(len(losses)).double() * losses).sum() / (len(losses) ** 0.5 * unit)
        gradients = torch.autograd.grad(total, list(trial.trained.values()), retain_graph=True, allow_unused=True)
        for column, (gradient, parameter) in enumerate(zip(gradients, trial.trained.values(), strict=True)):
            if gradient is not None:
                by_scale[row, column] = (gradient * parameter.detach()).sum()
                by_any[row, column] = gradient.norm() * parameter.detach().norm()
    felt = by_any.amax(0) > NOTHING
    level = felt & _level(by_scale, by_any).all(0)
    alone = _tried([name for name, flat in zip(names, level.tolist(), strict=True) if flat], trial, here, unit)
    others = [
        column
        for column, (name, parameter) in enumerate(trial.trained.items())
        if felt[column] and name not in alone and parameter.dim() >= 2
    ]
    together = [names[index] for index in _cancelling(by_scale, by_any, others)]
    if together and not all(trial.unmoved(unit, here, dict.fromkeys(together, c)) for c in SCALES):
        together = []
    found = {*alone, *together}
    return tuple(name for name in names if name in found)


def _tried(candidates: Sequence[str], trial: _Trial, here: Tensor, unit: Tensor) -> list[str]:
    """Those candidates whose scale alone does not matter over the whole range of `SCALES`."""
    # at once, each by a factor of its own and then by the other one: a set that stands this stands each by itself
    picks = torch.randint(0, 2, (len(candidates),)).tolist()
    for flip in (0, 1):
        if not trial.unmoved(unit, here, {n: SCALES[pick ^ flip] for n, pick in zip(candidates, picks, strict=True)}):
            break
    else:
        return list(candidates)
    return [name for name in candidates if all(trial.unmoved(unit, here, {name: c}) for c in SCALES)]


def _cancelling(by_scale: Tensor, by_any: Tensor, columns: Sequence[int]) -> list[int]:
    """Columns whose sum is level in every row: what hinders most is left out until the rest cancels."""
    kept = list(columns)
    while len(kept) > 1:  # one alone has been looked at before
        total, reach = by_scale[:, kept].sum(1), by_any[:, kept].norm(dim=1)
        if _level(total, reach).all():
            return kept
        kept.remove(min(kept, key=lambda column: (total - by_scale[:, column]).norm().item()))
    return []


def _level(by_scale: Tensor, by_any: Tensor) -> Tensor:
    """Where a derivative by scale is as good as zero, for the loss and against what other changes of the tensor do."""
    return (by_scale.abs() <= TOLERANCE) & (by_scale.abs() <= ANGLE * by_any)
