"""From a recipe to a task: built-ins get their model from the recipe, a user's own task brings it."""

import inspect
from functools import lru_cache, partial

from trainables.catalog import MODELS, TASKS, resolve
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Task

__all__ = ["build_task"]


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
        builtin = MODELS[recipe.model]
        defaults = {name: parameter.default for name, parameter in builtin.parameters.items()}
        model = partial(resolve(builtin.target), **{**defaults, **recipe.model_args})
        function = resolve(TASKS[recipe.task].target)
        return function(model=model, data_seed=data_seed, **recipe.task_args)  # type: ignore[no-any-return]
    function = resolve(recipe.task)
    seeded = {"data_seed": data_seed} if "data_seed" in inspect.signature(function).parameters else {}
    task = function(**recipe.task_args, **seeded)
    if not isinstance(task, Task):
        raise SpecError([f"{recipe.task!r} must return a trainables.tasks.Task, found {type(task).__name__}"])
    return task
