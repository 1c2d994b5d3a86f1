"""A network's mean loss over a data set as a function of one flat vector of weights."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from analysis.landscape.norms import with_norms
from analysis.landscape.policy import Norms
from trainables.spec import SpecError

__all__ = ["Objective"]

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]


class Objective:
    """Mean loss of a network over data, its gradient and its curvature.

    Works on a copy of the module: the caller's parameters, buffers, mode, grad flags and random state stay as they are.

    Attributes:
        names: the parameters that make up the flat vector, in the module's order.
        size: P, their number of weights.
        samples: n.
        weights: the solution itself, `[P]`.
        norms: the policy.
        stored_loss: mean loss with the batch-norm statistics as they were given.
        products: curvature products computed so far.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: PerSampleLoss,
        x: Tensor,
        y: Tensor,
        *,
        parameters: Sequence[str] | None = None,
        norms: Norms = Norms.REESTIMATED,
        norm_inputs: Tensor | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Bind a solution to data.

        Args:
            module: the network; any.
            loss: (outputs `[B, ...]`, targets `[B, ...]`) to per-sample losses `[B]`.
            x: network inputs, `[n, ...]`.
            y: targets, `[n, ...]`.
            parameters: names of those that may move; None takes all that require gradients.
            norms: with which statistics batch norms normalise.
            norm_inputs: inputs on which they are re-estimated; None takes `x`.
            batch_size: samples at once; None chooses.

        Raises:
            SpecError: weights that are not finite, names that are no parameters, or a loss that differs between two
                calls with the same weights.
        """
        self._module = copy.deepcopy(module)
        named = dict(self._module.named_parameters())
        wanted = [name for name, p in named.items() if p.requires_grad] if parameters is None else list(parameters)
        unknown = [name for name in wanted if name not in named]
        if unknown or not wanted:
            raise SpecError([f"parameters must be names of the module's own, found {unknown or 'none'}"])
        self.names = tuple(wanted)
        self._shapes = [named[name].shape for name in wanted]
        self.weights = torch.cat([named[name].detach().reshape(-1) for name in wanted])
        if not all(bool(torch.isfinite(p).all()) for p in named.values()):
            raise SpecError(["weights must be finite, found NaN or infinity; this solution has no geometry"])
        self.size = len(self.weights)
        self.samples = len(x)
        self.norms = norms
        self.products = 0
        self._loss = loss
        self._x, self._y = x, y
        self._batch_size = batch_size or 1000
        with torch.random.fork_rng(devices=[]):
            with_norms(self._module, Norms.STORED, x)
            self.stored_loss = self.value()
            with_norms(self._module, norms, x if norm_inputs is None else norm_inputs)
        for parameter in self._module.parameters():
            parameter.requires_grad_(False)

    def value(self, weights: Tensor | None = None) -> float:
        """Mean loss at some weights (`[P]`; None: the solution's own), batch-norm statistics being held."""
        return float(self.losses(weights).double().mean())

    @torch.no_grad()
    def losses(self, weights: Tensor | None = None) -> Tensor:
        """Loss of every sample, `[n]`."""
        return torch.cat([self._losses(self._at(weights), part) for part in self._parts()])

    def gradient(self, weights: Tensor | None = None) -> Tensor:
        """Gradient of the mean loss, `[P]`."""
        total = torch.zeros_like(self.weights)
        at = self._at(weights).requires_grad_(True)
        for part in self._parts():
            total += torch.autograd.grad(self._losses(at, part).sum() / self.samples, at)[0]
        return total

    def hessian(self, vector: Tensor) -> Tensor:
        """Hessian of the mean loss at the solution, times a vector `[P]`."""
        self.products += 1
        total = torch.zeros_like(vector)
        for part in self._parts():
            at = self._at(None).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._losses(at, part).sum() / self.samples, at, create_graph=True)
            total += torch.autograd.grad(gradient @ vector, at)[0]
        return total

    def _at(self, weights: Tensor | None) -> Tensor:
        return (self.weights if weights is None else weights).detach().clone()

    def _parts(self) -> list[slice]:
        step = self._batch_size
        return [slice(start, min(start + step, self.samples)) for start in range(0, self.samples, step)]

    def _losses(self, weights: Tensor, part: slice) -> Tensor:
        pieces = torch.split(weights, [shape.numel() for shape in self._shapes])
        own = {n: piece.view(shape) for n, piece, shape in zip(self.names, pieces, self._shapes, strict=True)}
        return self._loss(functional_call(self._module, own, (self._x[part],)), self._y[part])
