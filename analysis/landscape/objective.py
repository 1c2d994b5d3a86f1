"""A network's mean loss over a data set as a function of one flat vector of weights."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from analysis.landscape.affine_norms import Convolution, Norm, affine_norms, foldable
from analysis.landscape.callers import per_sample, running
from analysis.landscape.cost import Cost, Footprint, Plan, footprint, plan, seconds_of
from analysis.landscape.kernels import Kernel, Pieces, PiecesProduct, gauss_newton_product, hessian_product
from analysis.landscape.norms import with_norms
from analysis.landscape.policy import Norms
from trainables.norm_statistics import batches_of
from trainables.spec import SpecError

__all__ = ["Objective"]

PerSampleLoss = Callable[[Tensor, Tensor], Tensor]

_SAMPLES = 1000  # in one forward pass
_TWICE = 64  # samples whose loss is computed twice
_DRIFT = 0.01
_SAME = 1e-5  # two evaluations may differ by so much: some sums on a GPU have no fixed order


class Objective:
    """Mean loss of a network over data, its gradient and its curvature.

    Works on a copy of the module: the caller's parameters, buffers, mode, grad flags and random state stay as they are.
    Sums run over samples, so that batches of different size count by their size. Graphs kept for curvature products
    are freed by `release`, by leaving a `with` block, or with the object.

    Attributes:
        names: the parameters that make up the flat vector, in the module's order.
        shapes: theirs.
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
        kernel: Kernel = Kernel.AUTO,
        memory_bytes: int = 4_000_000_000,
        expected_products: int = 60,
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
            batch_size: samples at once; None chooses by memory.
            kernel: how curvature products are computed.
            memory_bytes: what their tensors may take; weights, data and vectors of the caller are not counted.
            expected_products: how many curvature products will be asked for.

        Raises:
            SpecError: no samples, weights that are not finite, names that are no parameters or there twice, a network
                or loss that does not run on the data, a loss that is not one number for each sample, or one that
                differs between two calls with the same weights.
        """
        if not len(x) or len(x) != len(y):
            raise SpecError([f"inputs and targets must be as many, and at least one, found {len(x)} and {len(y)}"])
        if batch_size is not None and batch_size < 1:
            raise SpecError([f"batch_size must be at least 1, found {batch_size}; None chooses by memory"])
        self._module = copy.deepcopy(module)
        named = dict(self._module.named_parameters())
        wanted = [name for name, p in named.items() if p.requires_grad] if parameters is None else list(parameters)
        unknown = [name for name in wanted if name not in named]
        if unknown or not wanted:
            raise SpecError([f"parameters must be names of the module's own, found {unknown or 'none'}"])
        if twice := sorted({name for name in wanted if wanted.count(name) > 1}):
            raise SpecError([f"parameters must be named once each, found {twice} more than once"])
        self.names = tuple(wanted)
        self.shapes = [named[name].shape for name in wanted]
        self.weights = torch.cat([named[name].detach().reshape(-1) for name in wanted])
        if not all(bool(torch.isfinite(p).all()) for p in named.values()):
            raise SpecError(["weights must be finite, found NaN or infinity; this solution has no geometry"])
        self.size = len(self.weights)
        self.samples = len(x)
        self.norms = norms
        self.products = 0
        self._loss = loss
        self._x, self._y = x, y
        self._batch_size = batch_size
        self._kernel, self._memory_bytes, self._expected = kernel, memory_bytes, expected_products
        self._kept: dict[tuple[str, int], PiecesProduct] = {}
        for parameter in self._module.parameters():
            parameter.requires_grad_(False)
        with torch.random.fork_rng(devices=[] if self.weights.device.type == "cpu" else None):
            with_norms(self._module, Norms.STORED, x)
            with running("network and loss"):
                self.stored_loss = self.value()
                self._check_determined()
            with_norms(self._module, norms, x if norm_inputs is None else norm_inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Free the graphs kept for curvature products; later products build them again."""
        self._kept.clear()

    @cached_property
    def loss(self) -> float:
        """Mean loss at the solution, under the norm policy."""
        return self.value()

    @property
    def drift(self) -> str | None:
        """A note where stored and re-estimated batch-norm statistics give losses more than 1 % apart, else None."""
        if self.norms is not Norms.REESTIMATED or abs(self.loss - self.stored_loss) <= _DRIFT * abs(self.stored_loss):
            return None
        return (
            f"the loss is {self.stored_loss:.4g} with the stored batch-norm statistics and {self.loss:.4g} with those "
            "re-estimated: the stored ones lag behind the weights, and curvature under them is that of another network"
        )

    def value(self, weights: Tensor | None = None) -> float:
        """Mean loss at some weights (`[P]`; None: the solution's own), batch-norm statistics being held."""
        return float(self.losses(weights).double().mean())

    def finite_loss(self) -> float:
        """Mean loss at the solution.

        Raises:
            SpecError: it is not finite, so that no rise above it can be told.
        """
        if not math.isfinite(self.loss):
            raise SpecError([f"the loss must be finite at the solution, found {self.loss}"])
        return self.loss

    @torch.no_grad()
    def losses(self, weights: Tensor | None = None) -> Tensor:
        """Loss of every sample, `[n]`."""
        pieces = self._pieces(self.weights if weights is None else weights)
        return torch.cat([self._losses(pieces, part) for part in self._parts(self._batch_size or _SAMPLES)])

    def gradient(self, weights: Tensor | None = None) -> Tensor:
        """Gradient of the mean loss, `[P]`."""
        pieces = self._leaves(self.weights if weights is None else weights)
        total = torch.zeros_like(self.weights)
        for part in self._parts(self._step):
            loss = self._losses(pieces, part).sum() / self.samples
            self._add(total, torch.autograd.grad(loss, pieces, allow_unused=True, materialize_grads=True))
        return total

    def batch_gradient(self, samples: slice | Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss of each sample of a mini-batch, `[B]`, and the gradient of their mean, `[P]`; samples by index."""
        pieces = self._leaves(self.weights if weights is None else weights)
        losses = self._losses(pieces, samples)
        gradients = torch.autograd.grad(losses.mean(), pieces, allow_unused=True, materialize_grads=True)
        return losses.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])

    def hessian(self, vector: Tensor) -> Tensor:
        """Hessian of the mean loss at the solution, times a vector `[P]`."""
        return self._product("hessian", self._hessian_of, vector)

    def gauss_newton(self, vector: Tensor) -> Tensor:
        """Generalised Gauss-Newton matrix J' H J at the solution, times a vector `[P]`.

        J is the Jacobian of the network's outputs and H the Hessian of the mean loss by them; exact for every
        per-sample loss, positive semi-definite where the loss is convex in the outputs.
        """
        return self._product("gauss_newton", self._gauss_newton_of, vector)

    def cost(self, products: int | None = None) -> Cost:
        """What Hessian products will cost, from a small slice of the data.

        Args:
            products: how many; None takes the number expected.

        Returns:
            Time and memory; its `words` say both.

        Raises:
            SpecError: a single sample does not fit into the memory.
        """
        chosen = self._plan
        leaves, vector = self._leaves(self.weights), self._pieces(torch.ones_like(self.weights))
        batches = -(-self.samples // chosen.batch)
        timed = {}
        for kernel in {chosen.kernel, Kernel.FRESH if chosen.retained < batches else chosen.kernel}:

            def prepared(samples: int, kernel: Kernel = kernel) -> Callable[[], object]:
                one = self._hessian_of(leaves, slice(0, samples), kernel)
                return lambda: one(vector)

            timed[kernel] = seconds_of(prepared, chosen.batch)
        kept, fresh = chosen.retained * timed[chosen.kernel], batches - chosen.retained
        return Cost(
            kernel=chosen.kernel,
            batches=batches,
            retained=chosen.retained,
            seconds_per_product=(kept + fresh * timed.get(Kernel.FRESH, 0.0)) * self.samples / (batches * chosen.batch),
            setup_seconds=kept / 2,  # a gradient with its graph takes about half as long as a product
            memory_bytes=chosen.memory_bytes,
            vector_bytes=self.weights.numel() * self.weights.element_size(),
            products=self._expected if products is None else products,
        )

    def _product(self, kind: str, build: Callable[[Pieces, slice, Kernel], PiecesProduct], vector: Tensor) -> Tensor:
        if vector.shape != self.weights.shape or vector.dtype != self.weights.dtype:
            raise SpecError(
                [
                    f"a vector must be like the weights, {self.size} numbers of {self.weights.dtype}, found "
                    f"{tuple(vector.shape)} of {vector.dtype}; where a dtype is asked for, give that of the weights"
                ]
            )
        self.products += 1
        total = torch.zeros_like(self.weights)
        cut = self._pieces(vector.detach())
        leaves: Pieces | None = None
        for index, part in enumerate(self._parts(self._plan.batch)):
            one = self._kept.get((kind, index))
            if one is None:
                leaves = self._leaves(self.weights) if leaves is None else leaves
                keep = index < self._plan.retained
                one = build(leaves, part, self._plan.kernel if keep else Kernel.FRESH)
                if keep:
                    self._kept[kind, index] = one
            self._add(total, one(cut))
        return total

    def _hessian_of(self, leaves: Pieces, part: slice, kernel: Kernel) -> PiecesProduct:
        y = self._on_device(self._y[part])
        return hessian_product(
            lambda pieces: self._loss(self._curved(pieces, part), y).sum() / self.samples, leaves, kernel
        )

    def _gauss_newton_of(self, leaves: Pieces, part: slice, kernel: Kernel) -> PiecesProduct:
        y = self._on_device(self._y[part])
        return gauss_newton_product(
            lambda pieces: self._curved(pieces, part),
            lambda outputs: self._loss(outputs, y).sum() / self.samples,
            leaves,
            kernel,
        )

    @cached_property
    def _plan(self) -> Plan:
        held_batch = self._batch_size or (_SAMPLES if self.norms is Norms.BATCH else None)
        return plan(
            self._footprint,
            self.samples,
            self._memory_bytes,
            kernel=self._kernel,
            batch=held_batch,
            products=self._expected,
        )

    @property
    def _step(self) -> int:
        return self._batch_size or self._plan.batch

    def _footprint(self, samples: int) -> Footprint:
        leaves, vector = self._leaves(self.weights), self._pieces(torch.ones_like(self.weights))

        def work() -> object:
            product = self._hessian_of(leaves, slice(0, samples), Kernel.RETAINED)
            product(vector)
            return product

        known = [*self._module.parameters(), *self._module.buffers(), self.weights, vector[0], self._x, self._y]
        return footprint(work, known)

    @torch.no_grad()
    def _check_determined(self) -> None:
        """The random state moves on between two calls: a network that draws from it gives other numbers."""
        pieces, part = self._pieces(self.weights), slice(0, min(_TWICE, self._batch_size or _TWICE))
        first, again = self._losses(pieces, part), self._losses(pieces, part)
        if not torch.allclose(first, again, rtol=_SAME, atol=_SAME, equal_nan=True):
            raise SpecError(
                [
                    "the loss must be the same twice at the same weights, found "
                    f"{float(first.mean()):.8g} and {float(again.mean()):.8g}; "
                    "switch random layers off, such as functional dropout that ignores eval mode"
                ]
            )

    def _parts(self, step: int) -> list[slice]:
        return list(batches_of(self.samples, step))

    def _pieces(self, vector: Tensor) -> list[Tensor]:
        cut = torch.split(vector, [shape.numel() for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(cut, self.shapes, strict=True)]

    def _leaves(self, vector: Tensor) -> list[Tensor]:
        return [piece.requires_grad_(True) for piece in self._pieces(vector.detach())]

    def _add(self, total: Tensor, pieces: Pieces) -> None:
        for sum_, piece in zip(self._pieces(total), pieces, strict=True):
            sum_ += piece

    def _on_device(self, data: Tensor) -> Tensor:
        return data.to(self.weights.device)

    def _outputs(self, pieces: Pieces, part: slice | Tensor) -> Tensor:
        own = dict(zip(self.names, pieces, strict=True))
        outputs: Tensor = functional_call(self._module, own, (self._on_device(self._x[part]),))
        return outputs

    @cached_property
    def _foldable(self) -> Mapping[Norm, Convolution]:
        return foldable(self._module)

    def _curved(self, pieces: Pieces, part: slice) -> Tensor:
        # Only attention written out has second derivatives; its fused forms raise.
        with affine_norms(self._module, self._foldable), sdpa_kernel(SDPBackend.MATH):
            return self._outputs(pieces, part)

    def _losses(self, pieces: Pieces, part: slice | Tensor) -> Tensor:
        outputs, y = self._outputs(pieces, part), self._on_device(self._y[part])
        return per_sample(self._loss(outputs, y), len(y), "loss")
