"""Many settings of one network's weights, judged on data: what lines and planes through solutions are made of."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from analysis.landscape.callers import per_sample, running
from analysis.landscape.mixtures import Weights
from analysis.landscape.norms import batch_norms, with_norms
from analysis.landscape.policy import Norms, PathNorms
from trainables.norm_statistics import batches_of
from trainables.sample_values import Samples, quick_part, with_batch_statistics
from trainables.spec import SpecError
from trainables.tasks.base import errors

if TYPE_CHECKING:
    from trainables.evaluate import Evaluation

__all__ = ["ModulePoints", "PointEvaluator", "Points", "judged"]

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]

_TRIED = 64
_JUDGED = 1 << 12
"""Samples whose outputs are compared with their targets at once, where one network has fewer."""


class Points(Protocol):
    """Judges many weights of one architecture; `ModulePoints` and `trainables.evaluate.Evaluator` do."""

    @property
    def scale_invariant(self) -> tuple[str, ...]:
        """Names of the scale-invariant parameters."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the trained parameters."""

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Names and shapes of all parameters and buffers."""

    def samples(self, weights: Weights, data_seeds: Sequence[int], split: str) -> Samples:
        """Loss and error of each row of `weights` on each sample, with the running statistics in `weights`."""

    def batch_samples(self, weights: Weights, data_seeds: Sequence[int], split: str) -> Samples:
        """The same with the statistics of each batch."""

    def reestimate_norms(self, weights: Weights, data_seeds: Sequence[int]) -> None:
        """Recompute the running statistics in `weights` on the training inputs, in place."""


class PointEvaluator(Points, Protocol):
    """What studies need of `trainables.evaluate.Evaluator` besides."""

    def __call__(self, weights: Weights, data_seeds: Sequence[int], split: str) -> "Evaluation":
        """Mean loss and error of each row of `weights`."""

    def seconds_per_solution(self, weights: Weights, data_seed: int) -> float:
        """About how long one solution takes on the training and test splits."""


class ModulePoints:
    """Judges weights of any module: one copy of it, whose tensors are pointed at each row in turn.

    Attributes:
        scale_invariant: names of the scale-invariant parameters, as given.
        trained: names of the parameters that require gradients.
        shapes: of every parameter and buffer, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        splits: Mapping[str, tuple[Tensor, Tensor]],
        loss: PerSampleLoss,
        *,
        error: Callable[[Tensor, Tensor], Tensor] = errors,
        scale_invariant: Sequence[str] = (),
        norm_split: str = "train",
        batch_size: int = 128,
        at_once: int | None = None,
    ) -> None:
        """Bind an architecture to data.

        Args:
            module: the network; it is copied and stays as it is.
            splits: name to inputs `[n, ...]` and targets `[n, ...]`, on the module's device.
            loss: (outputs `[B, ...]`, targets `[B, ...]`) to per-sample losses `[B]`.
            error: (outputs, targets) to 1 where a sample is wrong, `[B]`.
            scale_invariant: names of the parameters that the loss does not feel a common factor of.
            norm_split: the split on whose inputs batch norms are re-estimated.
            batch_size: of training, for batch statistics.
            at_once: samples in one forward pass in eval mode; None takes what is quickest.

        Raises:
            SpecError: no such `norm_split`, names that are no parameters, a network or loss that does not run on the
                data, a loss or error that is not one number for each sample, or one that differs between two calls.
        """
        if norm_split not in splits:
            raise SpecError([f"norm_split must be one of {', '.join(splits)}, found {norm_split!r}"])
        self._module = copy.deepcopy(module).eval()
        self._training = with_batch_statistics(self._module)
        parameters = dict(self._module.named_parameters())
        unknown = [name for name in scale_invariant if name not in parameters]
        if unknown:
            raise SpecError([f"scale_invariant must be names of the module's parameters, found {', '.join(unknown)}"])
        self.scale_invariant = tuple(scale_invariant)
        self.trained = tuple(name for name, parameter in parameters.items() if parameter.requires_grad)
        self.shapes = {name: tensor.shape for name, tensor in self._module.state_dict().items()}
        self._splits, self._loss, self._error = dict(splits), loss, error
        self._norm_split, self._batch_size, self._at_once = norm_split, batch_size, at_once
        self._places = {id(each): _places(each) for each in (self._module, self._training)}
        self._has_norms = any(layer.track_running_stats for layer in batch_norms(self._module))
        with running("network, loss and error"):
            self._refuse_chance()

    def samples(self, weights: Weights, data_seeds: Sequence[int], split: str) -> Samples:
        """Loss and error of each row on each sample of a split, batch norms with the statistics in `weights`.

        Args:
            weights: parameter and buffer names to `[N, *shape]`.
            data_seeds: not used: there is one draw of the data.
            split: its name.

        Returns:
            Losses and errors, each `[N, n]`.
        """
        return self._samples(self._module, weights, split, self._at_once)

    def batch_samples(self, weights: Weights, data_seeds: Sequence[int], split: str) -> Samples:
        """The same, batch norms with the statistics of batches of `batch_size` in the split's order."""
        return self._samples(self._training, weights, split, self._batch_size)

    def reestimate_norms(self, weights: Weights, data_seeds: Sequence[int]) -> None:
        """Recompute running statistics on the inputs of `norm_split`, in place.

        Args:
            weights: as in `samples`; its norm buffers are rewritten.
            data_seeds: not used.
        """
        if not self._has_norms:
            return
        inputs = self._splits[self._norm_split][0]
        with torch.random.fork_rng(devices=[]):
            for row in range(_rows(weights)):
                self._point_at(self._module, weights, row)
                with_norms(self._module, Norms.REESTIMATED, inputs)

    def _samples(self, module: nn.Module, weights: Weights, split: str, size: int | None) -> Samples:
        if split not in self._splits:
            raise SpecError([f"split must be one of {', '.join(self._splits)}, found {split!r}"])
        x, y = self._splits[split]
        return self._judge(module, weights, [(x[span], y[span]) for span in batches_of(len(x), size or quick_part(x))])

    @torch.no_grad()
    def _judge(self, module: nn.Module, weights: Weights, parts: Sequence[tuple[Tensor, Tensor]]) -> Samples:
        """Rows in turn; what they say is compared with the targets for several at once, as samples of one batch."""
        losses, wrong = [], []
        samples = sum(len(y) for _, y in parts)
        group = max(1, _JUDGED // samples)
        targets = torch.cat([y for _, y in parts])
        with torch.random.fork_rng(devices=[]):
            for start in range(0, _rows(weights), group):
                outputs = []
                for row in range(start, min(start + group, _rows(weights))):
                    self._point_at(module, weights, row)
                    outputs += [module(x) for x, _ in parts]
                said, truth = torch.cat(outputs), targets.repeat(len(outputs) // len(parts), *[1] * (targets.dim() - 1))
                losses.append(per_sample(self._loss(said, truth), len(truth), "loss").view(-1, samples))
                wrong.append(per_sample(self._error(said, truth), len(truth), "error").view(-1, samples))
        return Samples(torch.cat(losses), torch.cat(wrong).to(losses[0].dtype))

    def _point_at(self, module: nn.Module, weights: Weights, row: int) -> None:
        """Let every tensor of a copy be a row of `weights`, without copying it."""
        for name, owner, attribute, is_parameter in self._places[id(module)]:
            if is_parameter:
                owner._parameters[attribute].data = weights[name][row]  # type: ignore[union-attr]
            else:
                owner._buffers[attribute] = weights[name][row]

    def _refuse_chance(self) -> None:
        """Judge the same weights twice, in one call: what is drawn at random moves on in between."""
        own = {name: tensor[None].repeat(2, *[1] * tensor.dim()) for name, tensor in self._module.state_dict().items()}
        for name, (x, y) in self._splits.items():
            few = ((x[:_TRIED], y[:_TRIED]),)
            first, second = self._judge(self._module, own, few).losses.double()
            apart = ~torch.isclose(first, second, rtol=1e-3, atol=1e-6, equal_nan=True)
            if bool(apart.any()):
                sample = int(apart.nonzero()[0])
                raise SpecError(
                    [
                        "the loss must not depend on chance, found "
                        f"{float(first[sample]):.6g} and {float(second[sample]):.6g} for one sample of split {name!r} "
                        "and the same weights; switch the randomness off in eval mode"
                    ]
                )


def _rows(weights: Weights) -> int:
    return len(next(iter(weights.values())))


def _places(module: nn.Module) -> list[tuple[str, nn.Module, str, bool]]:
    """Where each tensor of the state dict is held: (name, owner, attribute, whether it is a parameter).

    Of tied parameters only the first place, by whose name they are known: the others hold the same object.
    """
    own, seen = module.state_dict().keys(), set[int]()
    places = []
    for prefix, owner in module.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        for name, parameter in owner._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                places.append((start + name, owner, name, True))
        places += [(start + name, owner, name, False) for name in owner._buffers if start + name in own]
    return places


def judged(
    points: Points, weights: Weights, data_seeds: Sequence[int], splits: Sequence[str], norms: PathNorms
) -> dict[str, Samples]:
    """Judge mixtures under a norm policy.

    Args:
        points: judges weights.
        weights: name to `[N, *shape]`; running statistics may be rewritten.
        data_seeds: the draw of the data each row is judged on.
        splits: names.
        norms: the policy.

    Returns:
        Losses and errors, each `[N, n]`, by split.
    """
    if norms is not PathNorms.MIXED:
        points.reestimate_norms(weights, data_seeds)
    as_trained = {"train"} if norms is PathNorms.TRAIN_BATCH else set[str]()
    return {
        split: (points.batch_samples if split in as_trained else points.samples)(weights, data_seeds, split)
        for split in splits
    }
