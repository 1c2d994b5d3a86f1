"""How many classes a study's task has: what a guess that knows nothing achieves."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from trainables.builtin_tasks import IMAGE_TASKS
from trainables.spec import Recipe, SpecError

__all__ = ["classes_of"]

_BUILT_IN = {"tick_features": 2, "digits": 10, "cifar10": 10, "cifar100": 100}


def classes_of(members: pd.DataFrame, manifest: Mapping[str, Any]) -> int | None:
    """Number of classes of a study's task.

    A built-in's is known, or its labels are counted where they lie; a user's own task is built and its targets are
    counted, which loads torch.

    Args:
        members: the table `members`.
        manifest: of the results folder; its `recipes` say how to build the task.

    Returns:
        The number; None where the task cannot be built here or its targets are no classes.
    """
    if "task" not in members:
        return None
    name = str(members["task"].iloc[0])
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    recipes = list((manifest.get("recipes") or {}).values())
    if recipes and name in IMAGE_TASKS:
        return _labelled(name, recipes[0])
    if ":" not in name or not recipes:
        return None
    return _counted(recipes[0], int(members["data_seed"].iloc[0]) if "data_seed" in members else 0)


def _labelled(name: str, recipe: Mapping[str, Any]) -> int | None:
    """From the label column or the folders' names; decodes no image."""
    from trainables.images.facts import image_facts

    try:
        facts = image_facts(name, recipe.get("task_args") or {})
    except (SpecError, ImportError, OSError):
        return None  # the report must not depend on the images still being there
    return facts.classes if facts else None


def _counted(recipe: Mapping[str, Any], data_seed: int) -> int | None:
    from trainables.build import build_task

    known = {name: value for name, value in recipe.items() if name in Recipe.__dataclass_fields__}
    try:
        targets = build_task(Recipe(**known), data_seed).train.y
    except (SpecError, ImportError, OSError):
        return None  # the report must not depend on the task's code and data still being there
    distinct = len(set(targets.flatten().tolist()))
    return distinct if 2 <= distinct <= max(2, len(targets) // 2) else None
