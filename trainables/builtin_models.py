"""The models that ship with the project."""

from collections.abc import Mapping

from trainables.parameters import Builtin, Parameter

__all__ = ["MODELS"]


def _count(default: int, low: int = 1, high: int = 65536) -> Parameter:
    return Parameter(kind=int, default=default, low=low, high=high)


def _rate(default: float) -> Parameter:
    return Parameter(kind=float, default=default, low=0.0, high=0.95)


def _switch(default: bool) -> Parameter:
    return Parameter(kind=bool, default=default)


HEAD_NORM = Parameter(kind=float, default=10.0, low=1e-6, high=1e6)
NORM_EPS = Parameter(kind=float, default=1e-5, low=0.0, high=1.0)  # torch's own
# oneDNN, torch's library on a CPU, writes outside its memory in the backward pass of 1x1 convolutions of stride 2 with
# fewer than 8 channels in (uxlfoundation/oneDNN issue 6035): wrong gradients or a crash.
FEWEST_CHANNELS = 8

_MODELS = (
    Builtin(
        name="mlp_si",
        target="trainables.models.mlp:mlp_si",
        summary="scale-invariant MLP: no biases, affine-free LayerNorm + ReLU after each hidden layer, frozen head",
        parameters={
            "width": _count(32, low=2),
            "depth": _count(2, high=64),
            "head_norm": HEAD_NORM,
            "norm_eps": Parameter(kind=float, default=1e-7, low=0.0, high=1.0),
        },
    ),
    Builtin(
        name="mlp_norm",
        target="trainables.models.mlp:mlp_norm",
        summary="MLP without biases, with batch, layer or no norm, trained wholly or in its hidden weights alone",
        parameters={
            "width": _count(32, low=2),
            "depth": _count(2, high=64),
            "norm": Parameter(kind=str, default="batch", choices=("batch", "layer", "none")),
            "trains": Parameter(kind=str, default="hidden", choices=("hidden", "all")),
            "head_norm": HEAD_NORM,
            "norm_eps": Parameter(kind=float, default=1e-8, low=0.0, high=1.0),
            "head_seed": Parameter(kind=int, default=-1, low=-1, high=2**31 - 1),
        },
    ),
    Builtin(
        name="mlp",
        target="trainables.models.mlp:mlp",
        summary="ordinary MLP: biases, an optional norm, ReLU; every parameter trained",
        parameters={
            "width": _count(64),
            "depth": _count(2, high=64),
            "norm": Parameter(kind=str, default="none", choices=("none", "layer", "batch")),
            "dropout": _rate(0.0),
        },
    ),
    Builtin(
        name="convnet_si",
        target="trainables.models.convnet:convnet_si",
        summary="scale-invariant ConvNet: four 3x3 convolutions with affine-free BatchNorm, max pools, frozen head",
        parameters={
            "width": _count(32, high=4096),
            "head_norm": HEAD_NORM,
            "head_bias": _switch(True),
            "norm_eps": NORM_EPS,
        },
    ),
    Builtin(
        name="convnet_plain",
        target="trainables.models.convnet:convnet_plain",
        summary="the same ConvNet without norms, which is not scale-invariant: a negative control",
        parameters={"width": _count(32, high=4096), "head_norm": HEAD_NORM, "head_bias": _switch(True)},
    ),
    Builtin(
        name="resnet18_si",
        target="trainables.models.resnet:resnet18_si",
        summary="scale-invariant pre-activation ResNet-18: affine-free BatchNorm everywhere, frozen head",
        parameters={
            "width": _count(32, low=FEWEST_CHANNELS, high=4096),
            "head_norm": HEAD_NORM,
            "head_bias": _switch(False),
            "norm_eps": NORM_EPS,
        },
    ),
    Builtin(
        name="resnet18",
        target="trainables.models.resnet:resnet18",
        summary="practical pre-activation ResNet-18 for small images: affine BatchNorm, every parameter trained",
        parameters={
            "width": _count(64, low=FEWEST_CHANNELS, high=4096),
            "head_bias": _switch(False),
            "norm_eps": NORM_EPS,
        },
    ),
    Builtin(
        name="preact_resnet32",
        target="trainables.models.resnet:preact_resnet32",
        summary="PreResNet-32, with affine BatchNorm and a trained head, or without both (scale-invariant)",
        parameters={
            "width": _count(16, low=FEWEST_CHANNELS, high=4096),
            "affine": _switch(True),
            "head_norm": HEAD_NORM,
            "norm_eps": NORM_EPS,
        },
    ),
    Builtin(
        name="wide_resnet",
        target="trainables.models.resnet:wide_resnet",
        summary="Wide ResNet of any depth 6n + 4 and width; every parameter trained",
        parameters={
            "depth": _count(16, low=10, high=1000),
            "widen": _count(10, high=256),
            "dropout": _rate(0.0),
            "norm_eps": NORM_EPS,
        },
    ),
    Builtin(
        name="vit_small",
        target="trainables.models.vit:vit_small",
        summary="ViT-small for small images: shifted patches, learned temperature, masked diagonal, norms in the MLPs",
        parameters={
            "patch": _count(4, high=256),
            "width": _count(512),
            "depth": _count(6, high=256),
            "heads": _count(8, high=256),
            "head_width": _count(64, high=4096),
            "hidden": _count(512),
            "dropout": _rate(0.1),
            "embedding_dropout": _rate(0.1),
            "mlp_norms": _switch(True),
        },
    ),
)

MODELS: Mapping[str, Builtin] = {builtin.name: builtin for builtin in _MODELS}
