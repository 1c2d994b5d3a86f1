"""Which tasks and models exist and which arguments they take; loads nothing heavy.

A built-in is a function `module:name` whose arguments are listed here with their types and ranges, so that a sweep
file can be checked, with every fault at once, before torch is loaded. A user's own task is any `module:function` that
returns a `Task`, a user's own model any that makes a network of (shape, outputs); `torchvision:resnet18` and the like
are torchvision's classifiers.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainables.blame import in_words
from trainables.builtin_models import MODELS
from trainables.builtin_tasks import IMAGE_TASKS, TASKS
from trainables.faults import did_you_mean
from trainables.parameters import Builtin, Parameter
from trainables.spec import Scalar, SpecError

__all__ = [
    "MODELS",
    "TASKS",
    "TORCHVISION",
    "Builtin",
    "Parameter",
    "faults_of_model",
    "faults_of_task",
    "model_arguments",
    "resolve",
    "task_arguments",
]

TORCHVISION = "torchvision:"
"""What the name of a torchvision model begins with."""


def _unknown(kind: str, name: str, legal: Mapping[str, object], hint: str = "") -> str:
    return f"unknown {kind} {name!r}{did_you_mean(name, legal)}; legal: {', '.join(legal)}{hint}"


def _argument_faults(builtin: Builtin, where: str, args: Mapping[str, object]) -> list[str]:
    faults = []
    for key, value in args.items():
        if key not in builtin.parameters:
            faults.append(_unknown(f"{where} argument", key, builtin.parameters))
        elif fault := builtin.parameters[key].fault(f"{where} {key}", value):
            faults.append(fault)
    return faults


def resolve(target: str) -> Callable[..., Any]:
    """Import `"package.module:function"`.

    Args:
        target: where the function is.

    Returns:
        The function.

    Raises:
        SpecError: the module or the function does not exist; the sentence says which.
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise SpecError([in_words(f"module {module_name!r}", error)]) from error
        raise SpecError(
            [f"{target!r}: no module {error.name!r}; install it or run from the folder that holds it"]
        ) from None
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise SpecError([in_words(f"module {module_name!r}", error)]) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if callable(value)]
        guess = did_you_mean(attribute, functions)
        raise SpecError([f"{target!r}: module {module_name!r} has no function {attribute!r}{guess}"])
    return function  # type: ignore[no-any-return]


def _own_faults(kind: str, name: str, args: Mapping[str, object], *given: object) -> list[str]:
    """What is wrong with a user's function that is called with `given` and the sweep file's arguments."""
    try:
        function = resolve(name)
    except SpecError as error:
        return error.faults
    signature = inspect.signature(function)
    try:
        signature.bind(*given, **args)
    except TypeError as error:
        called = "(shape, outputs, ...)" if given else "these arguments"
        return [f"{kind} {name!r} does not take {called}: {error}; its signature is {signature}"]
    return []


def faults_of_task(name: str, args: Mapping[str, object]) -> list[str]:
    """Everything wrong with a task's name and arguments.

    Args:
        name: a built-in's name or `"package.module:function"`.
        args: its arguments, `data_seed` excepted.

    Returns:
        One sentence for each fault; empty when all is well.
    """
    if ":" in name:
        return _own_faults("task", name, args)
    if name not in TASKS:
        return [_unknown("task", name, TASKS, hint=', or your own as "package.module:function"')]
    faults = _argument_faults(TASKS[name], "task", args)
    if name == "digits" and not faults:
        total = sum(int(args.get(key, TASKS[name].parameters[key].default)) for key in ("train_size", "test_size"))  # type: ignore[call-overload]
        if total > 1797:
            faults.append(f"task train_size + test_size must be at most 1797 (the images there are), found {total}")
    if name in IMAGE_TASKS:
        from trainables.images.facts import image_faults  # loads pyarrow

        known = TASKS[name].parameters
        wrong = {key for key in known if key in args and known[key].fault(key, args[key])}
        faults += image_faults(name, {key: args[key] for key in known if key in args and key not in wrong}, wrong)
    return faults


def faults_of_model(name: str, args: Mapping[str, object]) -> list[str]:
    """Everything wrong with a model's name and arguments.

    Args:
        name: a built-in's name, `"torchvision:NAME"`, or `"package.module:function"`.
        args: its arguments.

    Returns:
        One sentence for each fault; empty when all is well.
    """
    if name.startswith(TORCHVISION):
        from trainables.models.outside import faults_of_torchvision  # loads torchvision

        return faults_of_torchvision(name, args)
    if ":" in name:
        return _own_faults("model", name, args, (3, 32, 32), 10)
    if name not in MODELS:
        hint = f', "{TORCHVISION}NAME", or your own as "package.module:function"'
        return [_unknown("model", name, MODELS, hint=hint)]
    faults = _argument_faults(MODELS[name], "model", args)
    if name == "wide_resnet" and not faults:
        depth = int(args.get("depth", MODELS[name].parameters["depth"].default))  # type: ignore[call-overload]
        if (depth - 4) % 6:
            faults.append(f"model depth of wide_resnet must be 6n + 4 (10, 16, 22, 28, ...), found {depth}")
    return faults


def model_arguments(name: str) -> dict[str, Scalar]:
    """Legal arguments of a model and their defaults, the shape and the number of outputs excepted.

    Args:
        name: a built-in's name, `"torchvision:NAME"`, or `"package.module:function"`.

    Returns:
        Argument name to default (None where a user's function states none); empty for torchvision's, whose builders
        do not list theirs.
    """
    if name in MODELS:
        return {key: parameter.default for key, parameter in MODELS[name].parameters.items()}
    if name.startswith(TORCHVISION):
        return {}
    return {p.name: default for p, default in _named(name)[2:]}


def task_arguments(name: str) -> dict[str, Scalar]:
    """Legal arguments of a task and their defaults, `data_seed` excepted.

    Args:
        name: a built-in's name or `"package.module:function"`.

    Returns:
        Argument name to default (None where a user's function states none).
    """
    if name in TASKS:
        return {key: parameter.default for key, parameter in TASKS[name].parameters.items()}
    return {p.name: default for p, default in _named(name) if p.name != "data_seed"}


def _named(name: str) -> list[tuple[inspect.Parameter, Scalar]]:
    """Arguments that a user's function lists, with their defaults."""
    parameters = inspect.signature(resolve(name)).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [(p, None if p.default is p.empty else p.default) for p in parameters if p.kind not in several]
