"""From a recipe to a task: built-ins get their model from the recipe, a user's own task brings it."""

import inspect
from collections.abc import Mapping
from functools import lru_cache, partial

from trainables.catalog import MODELS, TASKS, TORCHVISION, faults_of_model, resolve
from trainables.models.outside import own_model, torchvision_model
from trainables.spec import Recipe, Scalar, SpecError
from trainables.tasks.base import ModelBuilder, Task

__all__ = ["build_task", "model_builder"]


def model_builder(name: str, args: Mapping[str, Scalar]) -> ModelBuilder:
    """The function that makes a named network.

    Args:
        name: a built-in's name, `"torchvision:NAME"`, or `"package.module:function"`.
        args: the model's arguments; a built-in's may leave out any that has a default.

    Returns:
        (shape of one input as the network sees it, outputs) to a fresh network.

    Raises:
        SpecError: no such model, or it does not take these arguments.
    """
    if name in MODELS:
        defaults = {key: parameter.default for key, parameter in MODELS[name].parameters.items()}
        return partial(resolve(MODELS[name].target), **{**defaults, **args})
    if faults := faults_of_model(name, args):
        raise SpecError(faults)
    return partial(torchvision_model if name.startswith(TORCHVISION) else own_model, name, **args)


@lru_cache(maxsize=256)
def build_task(recipe: Recipe, data_seed: int) -> Task:
    """Build a recipe's task on one draw of its data.

    Args:
        recipe: names the task and the model.
        data_seed: which draw; ignored by a user's task that takes no such argument.

    Returns:
        The task; the same object for the same arguments.

    Raises:
        SpecError: the user's function does not return a `Task`.
    """
    if recipe.task in TASKS:
        if recipe.model is None:
            raise SpecError([f"task {recipe.task!r} needs a model; legal: {', '.join(MODELS)}"])
        model = model_builder(recipe.model, recipe.model_args)
        function = resolve(TASKS[recipe.task].target)
        return function(model=model, data_seed=data_seed, **recipe.task_args)  # type: ignore[no-any-return]
    function = resolve(recipe.task)
    seeded = {"data_seed": data_seed} if "data_seed" in inspect.signature(function).parameters else {}
    task = function(**recipe.task_args, **seeded)
    if not isinstance(task, Task):
        raise SpecError([f"{recipe.task!r} must return a trainables.tasks.Task, found {type(task).__name__}"])
    return task
