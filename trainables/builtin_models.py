"""The models that ship with the project."""

from collections.abc import Mapping

from trainables.parameters import Builtin, Parameter

__all__ = ["MODELS"]

MODELS: Mapping[str, Builtin] = {
    "mlp_si": Builtin(
        name="mlp_si",
        target="trainables.models.mlp:mlp_si",
        summary="scale-invariant MLP: no biases, affine-free LayerNorm + ReLU after each hidden layer, frozen head",
        parameters={
            "width": Parameter(kind=int, default=32, low=2, high=65536),
            "depth": Parameter(kind=int, default=2, low=1, high=64),
            "head_norm": Parameter(kind=float, default=10.0, low=1e-6, high=1e6),
            "norm_eps": Parameter(kind=float, default=1e-7, low=0.0, high=1.0),
        },
    ),
}
