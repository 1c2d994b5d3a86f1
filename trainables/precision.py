"""In which floating type what is held and computed."""

import torch

from trainables.spec import Recipe

__all__ = ["computes_in_bfloat16", "master_dtype"]


def computes_in_bfloat16(recipe: Recipe) -> bool:
    """Whether forward and backward passes run in bfloat16.

    Args:
        recipe: its `dtype` says so.
    """
    return recipe.dtype == "bfloat16"


def master_dtype(recipe: Recipe) -> torch.dtype:
    """Type of weights, momentum, norm statistics, losses and inputs at rest.

    Args:
        recipe: its `dtype`, except that bfloat16 computes on float32 masters.

    Returns:
        float32 or float64.
    """
    return torch.float32 if computes_in_bfloat16(recipe) else getattr(torch, recipe.dtype)
