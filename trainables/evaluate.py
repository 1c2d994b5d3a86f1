"""Loss and error of many networks on whole splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.arena import Arena, StackedSplit, open_arena
from trainables.executors import Loss, batched_form
from trainables.invariance import scale_invariant_parameters
from trainables.population import to_module_layout
from trainables.spec import Recipe
from trainables.stacking import Stacked
from trainables.tasks.base import errors

__all__ = ["Evaluation", "Evaluator", "evaluate_loop", "evaluate_stacked", "reestimate_norms"]

ELEMENTS = 1 << 18  # input elements in one batched forward: its activations then stay in a core's cache


@dataclass(frozen=True)
class Evaluation:
    """Quality of N networks on one split.

    Attributes:
        loss: mean loss, `[N]`.
        error: share of samples classified wrongly, `[N]`.
        n: samples.
    """

    loss: Tensor
    error: Tensor
    n: int


@torch.no_grad()
def evaluate_stacked(
    model: Stacked, parameters: Mapping[str, Tensor], split: StackedSplit, draws: Tensor, loss: Loss
) -> Evaluation:
    """Evaluate rows in batched form.

    Rows go through in groups of a fixed size (the last one padded), so that a row's result does not depend on how many
    others are evaluated with it.

    Args:
        model: the batched form.
        parameters: name to `[N, *shape]`, linear weights transposed.
        split: the data, D draws.
        draws: which draw each row is evaluated on, `[N]`.
        loss: (logits, targets) to per-sample losses.

    Returns:
        Loss and error of each row.
    """
    rows = len(draws)
    group = max(2, ELEMENTS // max(1, split.x[0].numel()))
    losses, wrong = [], []
    for start in range(0, rows, group):
        index = torch.arange(start, start + group, device=draws.device).clamp(max=rows - 1)
        chosen = {name: tensor.index_select(0, index) for name, tensor in parameters.items()}
        draw = draws.index_select(0, index)
        logits = model(chosen, split.x.index_select(0, draw))
        y = split.y.index_select(0, draw)
        values = loss(logits.flatten(0, 1), y.flatten()).reshape(y.shape)
        losses.append(values.mean(1))
        wrong.append(errors(logits, y).to(values.dtype).mean(1))
    return Evaluation(torch.cat(losses)[:rows], torch.cat(wrong)[:rows], split.samples)


@torch.no_grad()
def evaluate_loop(
    module: nn.Module, state: Mapping[str, Tensor], split: StackedSplit, draws: Tensor, loss: Loss
) -> Evaluation:
    """Evaluate rows one after the other, in eval mode; any module.

    Args:
        module: one network; only its structure is used.
        state: parameter and buffer names to `[N, *shape]`, in the module's layout.
        split: the data, D draws.
        draws: which draw each row is evaluated on, `[N]`.
        loss: (logits, targets) to per-sample losses.

    Returns:
        Loss and error of each row.
    """
    was_training = module.training
    module.eval()
    losses, wrong = [], []
    for row, draw in enumerate(draws.tolist()):
        own = {name: tensor[row] for name, tensor in state.items()}
        parts_loss, parts_wrong = [], []
        for x, y in zip(torch.split(split.x[draw], 1000), torch.split(split.y[draw], 1000), strict=True):
            logits = functional_call(module, own, (x,))
            values = loss(logits, y)
            parts_loss.append(values)
            parts_wrong.append(errors(logits, y).to(values.dtype))
        losses.append(torch.cat(parts_loss).mean())
        wrong.append(torch.cat(parts_wrong).mean())
    module.train(was_training)
    return Evaluation(torch.stack(losses), torch.stack(wrong), split.samples)


@torch.no_grad()
def reestimate_norms(module: nn.Module, state: Mapping[str, Tensor], train: StackedSplit, draws: Tensor) -> None:
    """Replace batch-norm statistics by exact averages over the training set, for weights that were averaged or mixed.

    Args:
        module: one network; only its structure is used.
        state: as in `evaluate_loop`; its norm buffers are rewritten in place.
        train: the training split.
        draws: each row's draw, `[N]`.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = module.training
    module.train()
    for norm in norms:
        norm.momentum = None  # torch's name for a cumulative average
    for name, tensor in state.items():
        if name.endswith(("running_mean", "num_batches_tracked")):
            tensor.zero_()
        elif name.endswith("running_var"):
            tensor.fill_(1)
    for row, draw in enumerate(draws.tolist()):
        own = {name: tensor[row] for name, tensor in state.items()}
        for x in torch.split(train.x[draw], 500):
            functional_call(module, own, (x,))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.train(was_training)


class Evaluator:
    """Evaluates solutions of one recipe, given as stacked `state_dict` entries.

    Attributes:
        scale_invariant: names of the scale-invariant parameters.
        trained: names of the trained parameters.
    """

    def __init__(self, recipe: Recipe, data_seeds: Sequence[int], *, probes: bool = False) -> None:
        """Build data and model.

        Args:
            recipe: what was trained.
            data_seeds: draws that will be asked for.
            probes: whether the task's probe sets will be asked for.
        """
        torch.set_num_threads(1)
        self._arena: Arena = open_arena(recipe, data_seeds, probes=probes)
        self._module = self._arena.task.model().to(getattr(torch, recipe.dtype))
        self._stacked = batched_form(self._module)
        self.scale_invariant = scale_invariant_parameters(self._arena.task)
        self.trained = tuple(name for name, p in self._module.named_parameters() if p.requires_grad)

    def __call__(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], split: str) -> Evaluation:
        """Evaluate N solutions.

        Args:
            weights: parameter and buffer names to `[N, *shape]`, as `Checkpoints.weights` gives them.
            data_seeds: the draw each is evaluated on, N of them.
            split: `train`, `valid`, `test` or a probe set's name.

        Returns:
            Loss and error of each.
        """
        draws = torch.as_tensor([self._arena.draws[seed] for seed in data_seeds])
        data, loss = self._arena.splits[split], self._arena.task.loss
        if self._stacked is not None:
            transposed = to_module_layout(weights, self._stacked.transposed)
            return evaluate_stacked(self._stacked, transposed, data, draws, loss)
        return evaluate_loop(self._module, weights, data, draws, loss)

    def reestimate_norms(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int]) -> None:
        """Recompute norm statistics of mixed or averaged weights on the training set, in place.

        Args:
            weights: as in `__call__`.
            data_seeds: as in `__call__`.
        """
        draws = torch.as_tensor([self._arena.draws[seed] for seed in data_seeds])
        reestimate_norms(self._module, weights, self._arena.train, draws)
