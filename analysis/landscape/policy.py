"""With which statistics batch norms normalise while a solution is looked at: it can change sharpness a hundredfold."""

from enum import StrEnum

__all__ = ["Norms", "PathNorms"]


class Norms(StrEnum):
    """Where batch-norm statistics come from. Networks without batch norms are the same under all three."""

    REESTIMATED = "reestimated"
    """Eval mode, after the running statistics were computed anew on the training inputs."""
    STORED = "stored"
    """Eval mode with the running statistics as they are."""
    BATCH = "batch"
    """The statistics of each batch, as in training; running statistics are neither used nor changed."""


class PathNorms(StrEnum):
    """With which statistics batch norms normalise between solutions; without batch norms all three are the same."""

    REESTIMATED = "reestimated"
    """Eval mode after re-estimation on the training inputs at every point, on every split."""
    TRAIN_BATCH = "train_batch"
    """The training split with the statistics of each batch, as in training; other splits as above."""
    MIXED = "mixed"
    """Running statistics are mixed as weights are. It can hide a barrier; for comparison only."""
