"""A task of the user's own by its name: found, and tried out before anything starts. Loads torch only for one."""

import sys
from collections.abc import Sequence
from pathlib import Path

from trainables.catalog import resolve
from trainables.spec import Recipe, SpecError

__all__ = ["check_own_tasks", "find_target", "is_own"]


def is_own(recipe: Recipe) -> bool:
    """True for a recipe whose task is the user's own.

    Args:
        recipe: any recipe.
    """
    return ":" in recipe.task


def check_own_tasks(recipes: Sequence[Recipe], *, keep: bool = False) -> None:
    """Build each own task and step it once, so that broken code fails here and now.

    Args:
        recipes: of a sweep.
        keep: keep the built tasks for training in this process.

    Raises:
        SpecError: every fault found, none twice; errors of the user's code with the user's traceback.
    """
    own = [recipe for recipe in recipes if is_own(recipe)]
    if own:
        from sweeps.own_task import try_out_all

        try_out_all(own, keep=keep)


def find_target(text: str) -> str:
    """The task's function, as `module:function`.

    Args:
        text: that, or the path of a Python file instead of the module.

    Returns:
        A name that can be imported here and in every worker.

    Raises:
        SpecError: there is no such module or function, or its name cannot be told; what is legal.
    """
    place, colon, function = text.rpartition(":")
    if not colon or not function:
        if text.endswith(".py"):
            raise SpecError([f"the task must name a function in the file, found {text!r}; write {text}:FUNCTION"])
        raise SpecError(
            [
                f"the task must be MODULE:FUNCTION, found {text!r}; for a built-in task write a sweep file and "
                "`lratlas run` it"
            ]
        )
    name = _module_of(Path(place)) if place.endswith(".py") else place
    here = str(Path.cwd())
    if here not in (str(Path(entry or ".").resolve()) for entry in sys.path):
        sys.path.append(here)
    resolve(f"{name}:{function}")
    return f"{name}:{function}"


def _module_of(path: Path) -> str:
    """The module that a file in this folder or below it is."""
    absolute, here = path.resolve(), Path.cwd().resolve()
    if not absolute.is_file():
        raise SpecError([f"the task's file must exist, found none at {path}; name it from the folder you are in"])
    if not absolute.is_relative_to(here):
        raise SpecError(
            [
                f"the task's file must lie in the folder you are in, found it in {absolute.parent}; run "
                f"`cd {absolute.parent}` first, then name it as {absolute.stem}:FUNCTION"
            ]
        )
    parts = absolute.relative_to(here).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise SpecError(
            [f"the task's file must be importable, found {path}; give it and its folders names without - and spaces"]
        )
    return ".".join(parts)
