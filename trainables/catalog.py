"""Which tasks and models exist and which arguments they take; loads nothing heavy.

A built-in is a function `module:name` whose arguments are listed here with their types and ranges, so that a sweep
file can be checked, with every fault at once, before torch is loaded. A user's own task is any `module:function` that
returns a `Task`.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainables.builtin_models import MODELS
from trainables.builtin_tasks import TASKS
from trainables.parameters import Builtin, Parameter
from trainables.spec import Scalar, SpecError

__all__ = ["MODELS", "TASKS", "Builtin", "Parameter", "faults_of_model", "faults_of_task", "resolve", "task_arguments"]


def _unknown(kind: str, name: str, legal: Mapping[str, object], hint: str = "") -> str:
    near = difflib.get_close_matches(name, legal, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {name!r}{guess}; legal: {', '.join(legal)}{hint}"


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
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise SpecError(
            [f"{target!r}: no module {error.name!r}; install it or run from the folder that holds it"]
        ) from None
    function = getattr(module, attribute, None)
    if not callable(function):
        raise SpecError([f"{target!r}: module {module_name!r} has no function {attribute!r}"])
    return function  # type: ignore[no-any-return]


def _own_task_faults(name: str, args: Mapping[str, object]) -> list[str]:
    try:
        signature = inspect.signature(resolve(name))
    except SpecError as error:
        return error.faults
    try:
        signature.bind(**args)
    except TypeError as error:
        return [f"task {name!r} does not take these arguments: {error}; its signature is {signature}"]
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
        return _own_task_faults(name, args)
    if name not in TASKS:
        return [_unknown("task", name, TASKS, hint=', or your own as "package.module:function"')]
    faults = _argument_faults(TASKS[name], "task", args)
    if name == "digits" and not faults:
        total = sum(int(args.get(key, TASKS[name].parameters[key].default)) for key in ("train_size", "test_size"))  # type: ignore[call-overload]
        if total > 1797:
            faults.append(f"task train_size + test_size must be at most 1797 (the images there are), found {total}")
    return faults


def faults_of_model(name: str, args: Mapping[str, object]) -> list[str]:
    """Everything wrong with a model's name and arguments.

    Args:
        name: a built-in's name.
        args: its arguments.

    Returns:
        One sentence for each fault; empty when all is well.
    """
    if name not in MODELS:
        return [_unknown("model", name, MODELS)]
    return _argument_faults(MODELS[name], "model", args)


def task_arguments(name: str) -> dict[str, Scalar]:
    """Legal arguments of a task and their defaults, `data_seed` excepted.

    Args:
        name: a built-in's name or `"package.module:function"`.

    Returns:
        Argument name to default (None where a user's function states none).
    """
    if name in TASKS:
        return {key: parameter.default for key, parameter in TASKS[name].parameters.items()}
    parameters = inspect.signature(resolve(name)).parameters.values()
    return {p.name: None if p.default is p.empty else p.default for p in parameters if p.name != "data_seed"}
