"""A network that exists already, as a maker of fresh ones."""

import copy

from torch import nn

from trainables.spec import SpecError

__all__ = ["Fresh"]


def _resetter(layer: nn.Module) -> str | None:
    """Name of the method that draws a layer's weights anew."""
    names = ("reset_parameters", "_reset_parameters")  # the second is MultiheadAttention's and the Transformer's
    return next((name for name in names if callable(getattr(layer, name, None))), None)


def _own(layer: nn.Module) -> list[nn.Parameter]:
    """Trained parameters that belong to the layer itself."""
    return [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]


class Fresh:
    """Copies of a network, initialised anew from torch's generator.

    Every layer with trained parameters of its own is drawn by its `reset_parameters`, so what the network's constructor
    does to the weights afterwards is not repeated: give a function that builds the network where that matters. Layers
    whose parameters are all frozen keep them.

    Args:
        module: the network; it is not changed.

    Raises:
        SpecError: a layer with parameters of its own has no such method.
    """

    def __init__(self, module: nn.Module) -> None:
        stuck = [
            f"{name or 'the network itself'} ({type(layer).__name__})"
            for name, layer in module.named_modules()
            if _own(layer) and _resetter(layer) is None
        ]
        if stuck:
            raise SpecError(
                [
                    "a network given as such must have layers that can be initialised anew by reset_parameters, found "
                    f"none in {', '.join(stuck)}; give a function without arguments that builds the network"
                ]
            )
        self._module = copy.deepcopy(module)

    def __call__(self) -> nn.Module:
        """A fresh network.

        Returns:
            In training mode, its weights drawn from torch's current generator.
        """
        module = copy.deepcopy(self._module).train()
        for layer in reversed(list(module.modules())):  # parts first: what holds them may set some of theirs again
            method = _resetter(layer)
            if method and (_own(layer) or any(True for _ in layer.buffers(recurse=False))) and not _frozen(layer):
                getattr(layer, method)()
        return module


def _frozen(layer: nn.Module) -> bool:
    parameters = list(layer.parameters(recurse=False))
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
