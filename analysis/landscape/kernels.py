"""Ways to multiply a curvature of one batch with a vector: the graph built anew, kept, or the gradient linearised."""

import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor

__all__ = ["Kernel", "Pieces", "PiecesProduct", "gauss_newton_product", "hessian_product"]

Pieces = Sequence[Tensor]
"""One tensor for each parameter."""
PiecesProduct = Callable[[Pieces], Pieces]
"""A vector, cut into parameters, to its product."""


class Kernel(StrEnum):
    """How curvature products are computed. All are exact; they differ in memory and time."""

    FRESH = "fresh"
    """Double backward with the graph built anew for every product: about 3.4 gradients, least memory."""
    RETAINED = "retained"
    """The graph of the gradient is built once and kept: about 2 gradients a product."""
    LINEARISED = "linearised"
    """The gradient is traced and linearised once, at the price of 20 to 40 gradients and of about twice the memory."""
    AUTO = "auto"
    """By memory and by how many products are expected: retained as far as memory goes, fresh for the rest."""


def hessian_product(loss: Callable[[Pieces], Tensor], weights: Pieces, kernel: Kernel) -> PiecesProduct:
    """Products with the Hessian of a scalar function.

    Args:
        loss: parameters to a scalar.
        weights: the parameters, leaves that require gradients.
        kernel: how; any but `AUTO`.

    Returns:
        The product.
    """
    if kernel is Kernel.LINEARISED:
        gradient = torch.func.grad(lambda *pieces: loss(pieces), argnums=tuple(range(len(weights))))
        return _linearised(gradient, weights)

    def build() -> PiecesProduct:
        gradient = torch.autograd.grad(
            loss(weights), weights, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return lambda vector: _pull(gradient, weights, vector, keep=kernel is Kernel.RETAINED)

    return build() if kernel is Kernel.RETAINED else lambda vector: build()(vector)


def gauss_newton_product(
    outputs: Callable[[Pieces], Tensor], loss: Callable[[Tensor], Tensor], weights: Pieces, kernel: Kernel
) -> PiecesProduct:
    """Products with J' H J, J the Jacobian of the outputs and H the Hessian of the loss by them (Schraudolph 2002).

    Args:
        outputs: parameters to network outputs.
        loss: network outputs to a scalar.
        weights: the parameters, leaves that require gradients.
        kernel: how; any but `AUTO`.

    Returns:
        The product.
    """

    def build() -> PiecesProduct:
        keep = kernel is not Kernel.FRESH
        out = outputs(weights)
        at = out.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(loss(at), at, create_graph=True)
        if kernel is Kernel.LINEARISED:
            linear = _linearised(lambda *pieces: (outputs(pieces),), weights)

            def push(vector: Pieces) -> Pieces:
                return linear(vector)
        else:
            # The transposed product is linear in its vector: its derivative by that vector is the product itself.
            dummy = torch.zeros_like(at, requires_grad=True)
            pulled = torch.autograd.grad(
                out, weights, dummy, create_graph=True, allow_unused=True, materialize_grads=True
            )

            def push(vector: Pieces) -> Pieces:
                return _pull(pulled, (dummy,), vector, keep=True)

        def product(vector: Pieces) -> Pieces:
            return _pull((out,), weights, _pull((slope,), (at,), push(vector), keep=keep), keep=keep)

        return product

    return (lambda vector: build()(vector)) if kernel is Kernel.FRESH else build()


def _pull(values: Pieces, by: Pieces, vectors: Pieces, *, keep: bool) -> Pieces:
    """Vectors times the Jacobian of `values`; what does not depend on `by` counts as constant."""
    pairs = [(value, vector) for value, vector in zip(values, vectors, strict=True) if value.requires_grad]
    if not pairs:
        return [torch.zeros_like(piece) for piece in by]
    moving, along = zip(*pairs, strict=True)
    return torch.autograd.grad(moving, by, along, retain_graph=keep, allow_unused=True, materialize_grads=True)


def _linearised(function: Callable[..., Pieces], weights: Pieces) -> PiecesProduct:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer tells of its own deprecated parts
        _, tangent = torch.func.linearize(function, *[piece.detach() for piece in weights])

    def product(vector: Pieces) -> Pieces:
        with torch.no_grad():
            result: Pieces = tangent(*vector)
        return result

    return product
