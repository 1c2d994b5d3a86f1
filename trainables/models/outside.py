"""Networks from elsewhere: torchvision's by name, and a user's own function."""

import difflib
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainables.catalog import TORCHVISION, resolve
from trainables.spec import SpecError

__all__ = ["faults_of_torchvision", "own_model", "torchvision_model"]


def _get(name: str, outputs: int, args: Mapping[str, Any]) -> nn.Module:
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the default weights of two old models
        return torchvision.models.get_model(name, weights=None, num_classes=outputs, **args)  # type: ignore[no-any-return]


def faults_of_torchvision(name: str, args: Mapping[str, object]) -> list[str]:
    """Everything wrong with the name and arguments of a torchvision classifier.

    Its builders take any keyword, so the only true test of the arguments is to build the network; that is done without
    memory for its weights, on torch's `meta` device.

    Args:
        name: `"torchvision:resnet18"` and the like.
        args: passed on to its builder.

    Returns:
        One sentence for each fault; empty when all is well.
    """
    import torchvision

    wanted = name.removeprefix(TORCHVISION)
    legal = torchvision.models.list_models(module=torchvision.models)
    if wanted not in legal:
        near = difflib.get_close_matches(wanted, legal, n=3)
        guess = f" (did you mean {', '.join(repr(TORCHVISION + one) for one in near)}?)" if near else ""
        return [f"unknown model {name!r}{guess}; torchvision {torchvision.__version__} has no classifier {wanted!r}"]
    if reserved := sorted({"weights", "num_classes"} & set(args)):
        return [
            f"model arguments of {name!r} must leave out {', '.join(reserved)}: weights are fresh, classes the task's"
        ]
    try:
        with torch.device("meta"):
            module = _get(wanted, 10, args)
    except Exception as error:  # whatever a builder raises at a wrong argument
        logging.getLogger(__name__).debug("building %s failed", name, exc_info=error)
        return [f"model {name!r} does not take the arguments {dict(args)}: {error}"]
    if getattr(module, "aux_logits", False):
        return [f"model {name!r} returns several outputs in training; give it the argument aux_logits: false"]
    return []


def torchvision_model(name: str, shape: tuple[int, ...], outputs: int, /, **args: Any) -> nn.Module:
    """A torchvision classifier with fresh weights.

    Args:
        name: `"torchvision:resnet18"` and the like.
        shape: of one image; three channels, as torchvision's networks take them.
        outputs: logits.
        **args: passed on to its builder.

    Returns:
        The network.

    Raises:
        SpecError: no such network, wrong arguments, or inputs that are not images of three channels.
    """
    if len(shape) != 3 or shape[0] != 3:
        raise SpecError([f"model {name!r} takes images of 3 channels, found inputs of shape {shape}"])
    if faults := faults_of_torchvision(name, args):
        raise SpecError(faults)
    return _get(name.removeprefix(TORCHVISION), outputs, args)


def own_model(name: str, shape: tuple[int, ...], outputs: int, /, **args: Any) -> nn.Module:
    """A network built by a user's function.

    Args:
        name: `"package.module:function"`.
        shape: of one input, handed to the function.
        outputs: logits, handed to the function.
        **args: the function's other arguments.

    Returns:
        What the function returns.

    Raises:
        SpecError: the function does not exist or returns no `nn.Module`.
    """
    module = resolve(name)(shape, outputs, **args)
    if not isinstance(module, nn.Module):
        raise SpecError([f"{name!r} must return a torch.nn.Module, found {type(module).__name__}"])
    return module
