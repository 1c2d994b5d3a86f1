"""The tasks that ship with the project."""

from collections.abc import Mapping

from trainables.parameters import Builtin, Parameter

__all__ = ["TASKS"]

SHAPES = ("tick", "circles", "sectors", "stripe", "diamond", "peaks", "cross", "union_jack")

TASKS: Mapping[str, Builtin] = {
    "digits": Builtin(
        name="digits",
        target="trainables.tasks.digits:digits",
        summary="scikit-learn's 8x8 digits, a random subset for each data seed, labels wrong at a chosen rate",
        parameters={
            "train_size": Parameter(kind=int, default=300, low=10, high=1787),
            "test_size": Parameter(kind=int, default=1200, low=10, high=1787),
            "label_noise": Parameter(kind=float, default=0.0, low=0.0, high=1.0),
        },
    ),
    "tick_features": Builtin(
        name="tick_features",
        target="trainables.tasks.features:tick_features",
        summary="2-D features, each alone enough to tell two classes apart (Sadrtdinov et al., NeurIPS 2024)",
        parameters={
            "features": Parameter(kind=int, default=16, low=1, high=1024),
            "train_size": Parameter(kind=int, default=512, low=2),
            "test_size": Parameter(kind=int, default=2000, low=2),
            "probe_size": Parameter(kind=int, default=1000, low=2),
            "shape": Parameter(kind=str, default="tick", choices=SHAPES),
            "margin": Parameter(kind=float, default=0.1, low=0.0, high=0.2),
            "label_noise": Parameter(kind=float, default=0.0, low=0.0, high=1.0),
        },
    ),
}
