"""Networks of convolutions in pairs: each pair is one network of grouped convolutions. For CPUs and narrow networks."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from trainables.executors.base import ExecutorName, Loss, Traits
from trainables.executors.modules import Batches, LoopExecutor
from trainables.grouping import Grouped
from trainables.loader import Loader
from trainables.population import Population
from trainables.tasks.base import errors
from trainables.update import Rule

__all__ = ["GroupedExecutor", "places_agree"]


def places_agree(form: Grouped, state: Mapping[str, Tensor], learned: Collection[str], x: Tensor) -> bool:
    """Whether a network gets the same bits in both places of a pair: tried with two networks, both ways round.

    Where the channels of a pair do not fill vector registers evenly, the second network's may be summed by other
    instructions than the first's.

    Args:
        form: the networks' grouped form.
        state: parameters and buffers of two networks, name to `[2, *shape]`.
        learned: names of the trained parameters.
        x: a batch as in training, `[B, C, H, W]`.

    Returns:
        True if outputs, gradients and norm statistics are equal bit by bit.
    """

    def measured(order: list[int]) -> list[Tensor]:
        here = {name: value[order].clone() for name, value in state.items()}
        weights = {name: here[name].requires_grad_() for name in here if name in learned}
        out = form({**here, **weights}, [x, x])
        gradients = torch.autograd.grad(out.square().mean((1, 2)).sum(), list(weights.values()))
        buffers = [value for name, value in here.items() if name not in learned]
        return [value.detach()[order] for value in (out, *gradients, *buffers)]

    return all(map(torch.equal, measured([0, 1]), measured([1, 0])))


class GroupedExecutor(LoopExecutor):
    """Pairs of networks, one pair after the other; the optimiser works on all rows, even in number, together."""

    name = ExecutorName.GROUPED

    def __init__(
        self,
        form: Grouped,
        module: nn.Module,
        loss: Loss,
        rule: Rule,
        loader: Loader,
        x: Tensor,
        y: Tensor,
        traits: Traits,
    ) -> None:
        """Bind what stays the same.

        Args:
            form: the network's grouped form.
            module: as of `LoopExecutor`, like all that follows.
            loss: of training.
            rule: the optimiser's fixed part.
            loader: makes batches.
            x: training samples of all draws, `[D, n, ...]`.
            y: training targets, `[D, n]`.
            traits: what the recipe's steps involve.
        """
        super().__init__(module, loss, rule, loader, x, y, traits)
        self._form = form

    def _all_rows(
        self,
        population: Population,
        batches: Batches,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        levels: Tensor,
        losses: Tensor,
        wrong: Tensor,
    ) -> None:
        """Losses, errors and gradients of all living rows, written to their places."""
        living = population.alive.tolist()
        weights, fixed = self._shared(population)
        for start, stop in zip(range(0, len(living), 2), range(2, len(living) + 1, 2), strict=True):
            if any(living[start:stop]):
                seen = list(batches.of_row[start:stop])
                own = {name: value[start:stop].detach().requires_grad_() for name, value in weights.items()}
                rest = {name: value[start:stop] for name, value in fixed.items()}
                results = losses[start:stop], wrong[start:stop]
                self._together(own, rest, [x[batch] for batch in seen], y[seen], start, results)

    def _together(
        self,
        weights: dict[str, Tensor],
        fixed: dict[str, Tensor],
        x: list[Tensor],
        y: Tensor,
        start: int,
        results: tuple[Tensor, Tensor],
    ) -> None:
        """Losses, errors and gradients of a pair, written to their places."""
        with torch.autocast(x[0].device.type, torch.bfloat16, enabled=self._traits.autocast):
            logits = self._form(weights | fixed, x)
        logits = logits.float() if self._traits.autocast else logits
        losses = self._loss(logits.flatten(0, 1), y.flatten()).view(y.shape).mean(1)
        for place, gradient in zip(
            self._gradients, torch.autograd.grad(losses.sum(), list(weights.values())), strict=True
        ):
            place[start : start + len(x)].copy_(gradient)
        results[0].copy_(losses.detach())
        results[1].copy_(errors(logits.detach(), y).to(losses.dtype).mean(1))
