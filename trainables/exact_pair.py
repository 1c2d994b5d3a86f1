"""One network trained with (lr, weight decay, w) and with (c^2 lr, weight decay / c^2, c w): the same at every step.

Exact for SGD on scale-invariant weights, whatever the loss (Li, Arora 2019): the gradient at c w is the gradient at w
divided by c, so a step with c^2 lr moves c w by c times as much, and lr * weight_decay is the same. In float64 nothing
but rounding is between the two. What differs by more has a trained parameter outside the symmetry, or an eps in its
norms that is felt.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from trainables.arena import Arena, open_arena
from trainables.executors.base import Block, Hyper, Traits
from trainables.executors.modules import LoopExecutor
from trainables.groups import NORMS
from trainables.invariance import scale_invariant_parameters
from trainables.loader import Loader
from trainables.losses import training_loss
from trainables.models.layers import batch_norm_eps
from trainables.noise import prepare
from trainables.order import batches, sample_bits, step_keys, steps_per_epoch
from trainables.population import Population, fresh
from trainables.spec import Member, Phase, Recipe, SpecError
from trainables.update import make_rule, row_norm_sq

__all__ = ["SCALES", "ExactPair", "exact_pair"]

SCALES = (0.25, 4.0, math.sqrt(10))
"""Two powers of 2, which rounding does not see, and a factor that it does see."""
TABLE_STEPS = 100  # whose samples are looked up at once


@dataclass(frozen=True, kw_only=True)
class ExactPair:
    """How far scaled runs came from the run they must equal.

    Attributes:
        steps: that all runs took; fewer than asked for where time ran out or a run was not finite any more.
        scales: the factors c.
        by_scale: for each of them the largest absolute difference in batch loss at any step; infinite where a run was
            not finite.
        norm_error: largest relative difference between the ratio of norms of the scale-invariant weights and c, over
            all steps and scales; infinite likewise.
        norm_eps: eps of every norm layer in these runs; None where each kept its own.
        scale_invariant: numbers in the weights that were scaled.
        nonfinite_step: the step at which loss or weights of a run were not finite; None where all stayed so.
    """

    steps: int
    scales: tuple[float, ...]
    by_scale: tuple[float, ...]
    norm_error: float
    norm_eps: float | None
    scale_invariant: int
    nonfinite_step: int | None = None

    @property
    def loss_difference(self) -> float:
        """The largest absolute difference in batch loss at any step and for any scale."""
        return max(self.by_scale)


def exact_pair(
    recipe: Recipe,
    *,
    data_seed: int = 0,
    seed: int = 0,
    lr: float,
    weight_decay: float,
    momentum: float = 0.0,
    scales: Sequence[float] = SCALES,
    steps: int = 200,
    norm_eps: float | None = 0.0,
    seconds: float = 60.0,
) -> ExactPair:
    """Train a recipe's network in float64 from w, and from c w for each c with c^2 lr and weight decay / c^2.

    All runs see the same batches, through the same code as a sweep. Only scale-invariant weights are scaled; every
    other trained parameter starts the same and gets the run's own lr and weight decay, unless one of the recipe's
    groups fixes them. Weight decay may be coupled or decoupled: the law holds for both.

    Args:
        recipe: task, network, batch size and groups; its precision is not used.
        data_seed: the draw of the data.
        seed: of initial weights and batch order.
        lr: learning rate of the run with c = 1, constant.
        weight_decay: likewise.
        momentum: of all runs.
        scales: the factors c.
        steps: to take.
        norm_eps: eps for every norm layer of the network; None keeps the network's own. With 0 a batch norm maps an
            input that is constant in the batch to 0.
        seconds: after which no further step is begun.

    Returns:
        The differences.

    Raises:
        SpecError: the law does not hold for this recipe, or there is nothing to scale.
    """
    phase = Phase(name="pair", steps=steps, lr=lr, weight_decay=weight_decay)
    exact = replace(recipe, dtype="float64")
    member = Member(recipe=exact, seed=seed, data_seed=data_seed, momentum=momentum, phases=(phase,))
    faults = _faults(recipe, scales, norm_eps)
    if faults:
        raise SpecError(faults)
    arena = open_arena(exact, [data_seed])
    if not scale_invariant_parameters(arena.task):
        raise SpecError(
            ["the exact pair needs scale-invariant weights, and this network has none; put norms behind its layers"]
        )
    return _Runs(member, arena, tuple(scales), norm_eps).compared(seconds)


def _faults(recipe: Recipe, scales: Sequence[float], norm_eps: float | None) -> list[str]:
    faults = []
    if recipe.optimizer.adapts:
        faults.append(f"the exact pair is a law of sgd, found optimizer {recipe.optimizer}; set it to sgd")
    if recipe.sphere_radius is not None:
        faults.append(f"the exact pair needs free norms, found sphere_radius {recipe.sphere_radius:g}; set it to null")
    if not scales or not all(math.isfinite(c) and c > 0 for c in scales):
        faults.append(f"scales must be positive finite numbers, at least one; found {list(scales)}")
    if norm_eps is not None and not (math.isfinite(norm_eps) and norm_eps >= 0):
        faults.append(f"norm_eps must be at least 0 or null, found {norm_eps}")
    return faults


class _Runs:
    """The run with c = 1 and the scaled ones, as rows of one population."""

    def __init__(self, member: Member, arena: Arena, scales: tuple[float, ...], norm_eps: float | None) -> None:
        self._member, self._arena, self._scales, self._norm_eps = member, arena, scales, norm_eps
        recipe, task, phase = member.recipe, arena.task, member.phases[0]
        module = prepare(task.model()).double()
        if norm_eps is not None:
            _give_eps(module, norm_eps)
        self._rule = make_rule(recipe, module, scale_invariant_parameters(task))
        loader = Loader.of(arena, torch.float64)
        loss = training_loss(task.loss, recipe.label_smoothing)
        self._executor = LoopExecutor(module, loss, self._rule, loader, arena.train.x, arena.train.y, Traits())
        factors = torch.tensor([1.0, *scales], dtype=torch.float64)
        self._population = fresh(
            task.model,
            [member.seed] * len(factors),
            transposed=(),
            momentum=member.momentum > 0,
            squares=False,
            dtype=torch.float64,
        )
        for weight, scaled in zip(self._population.trained.values(), self._rule.on_sphere, strict=True):
            if scaled:
                weight.mul_(factors.view(-1, *[1] * (weight.dim() - 1)))
        zero = torch.zeros_like(factors)
        self._lr = phase.lr * factors.square()
        self._hyper = Hyper(
            weight_decay=phase.weight_decay / factors.square(),
            momentum=torch.full_like(factors, member.momentum),
            grad_noise=zero,
            activation_noise=zero,
            order_row=zero.long(),
            draw=zero.long(),
        )

    def compared(self, seconds: float) -> ExactPair:
        """Take the steps and compare after each."""
        population, scales = self._population, torch.tensor(self._scales, dtype=torch.float64)
        worst, norm_error = torch.zeros_like(scales), 0.0
        done, nonfinite = 0, None
        deadline = time.monotonic() + seconds
        for block in self._blocks():
            if time.monotonic() >= deadline:
                break
            population.sums.zero_()
            self._executor.step(population, block, self._hyper)
            if not population.alive.all():
                nonfinite = done + 1
                worst = torch.where(population.alive[1:] & population.alive[0], worst, math.inf)
                norm_error = math.inf
                break
            done += 1
            losses, norm = population.sums[0], _norm(population, self._rule.on_sphere)
            worst = worst.maximum((losses[1:] - losses[0]).abs())
            norm_error = max(norm_error, float((norm[1:] / norm[0] / scales - 1).abs().max()))
        invariant = zip(population.trained.values(), self._rule.on_sphere, strict=True)
        return ExactPair(
            steps=done,
            scales=self._scales,
            by_scale=tuple(worst.tolist()),
            norm_error=norm_error,
            norm_eps=self._norm_eps,
            scale_invariant=sum(weight[0].numel() for weight, scaled in invariant if scaled),
            nonfinite_step=nonfinite,
        )

    def _blocks(self) -> Iterator[Block]:
        """What each step sees."""
        seeds, size, total = [self._member.seed], self._member.recipe.batch_size, self._member.steps
        samples = self._arena.train.samples
        try:
            steps_per_epoch(samples, size)
        except ValueError as error:
            raise SpecError([str(error)]) from None
        for start in range(0, total, TABLE_STEPS):
            stop = min(start + TABLE_STEPS, total)
            table = batches(seeds, samples, size, start, stop)
            bits = None if self._arena.task.augment is None else sample_bits(seeds, table, samples, size, start)
            keys = step_keys(seeds, start, stop)
            for at in range(stop - start):
                here = slice(at, at + 1)
                yield Block(
                    samples=table[here],
                    bits=None if bits is None else bits[here],
                    keys=keys[here],
                    lr=self._lr.unsqueeze(0),
                    root=None,
                )


def _norm(population: Population, chosen: Sequence[bool]) -> Tensor:
    return row_norm_sq(list(population.trained.values()), chosen).sqrt()


def _give_eps(module: nn.Module, eps: float) -> None:
    """Set the eps of every norm layer."""
    for layer in module.modules():
        if isinstance(layer, NORMS):
            layer.eps = batch_norm_eps(eps) if isinstance(layer, _NormBase) else eps
