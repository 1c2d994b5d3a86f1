"""Small tasks of stored images, for every part of the engine at once."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.images.augment import CropFlip
from trainables.images.encode import Normalise
from trainables.models.convnet import convnet_si
from trainables.models.mlp import mlp
from trainables.tasks import Split, Task


def _split(samples: int, seed: int) -> Split:
    """Images whose classes differ in colour, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (samples,), generator=generator)
    x = torch.randint(0, 200, (samples, 8, 8, 3), generator=generator, dtype=torch.uint8)
    x[torch.arange(samples), :, :, y] += 50
    return Split(x, y)


def images(*, network: str = "conv", augment: bool = True, dropout: float = 0.0, data_seed: int = 0) -> Task:
    def conv() -> nn.Module:
        return convnet_si((3, 8, 8), 3, width=2, head_norm=10.0, head_bias=True, norm_eps=1e-5)

    def wide() -> nn.Module:
        return convnet_si((3, 8, 8), 3, width=8, head_norm=10.0, head_bias=True, norm_eps=1e-5)

    def dense() -> nn.Module:
        return mlp((3, 8, 8), 3, width=12, depth=2, norm="layer", dropout=0.0)

    def normed() -> nn.Module:
        return mlp((3, 8, 8), 3, width=16, depth=2, norm="batch", dropout=0.0)

    def dropped() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))

    builders: dict[str, Callable[[], nn.Module]] = {
        "conv": conv,
        "wide": wide,
        "dense": dense,
        "normed": normed,
        "dropped": dropped,
    }
    return Task(
        model=builders[network],
        train=_split(48, 2 * data_seed),
        test=_split(40, 2 * data_seed + 1),
        valid=_split(32, 1000 + data_seed),
        augment=CropFlip(padding=1, mode="zero") if augment else None,
        encode=Normalise((0.4, 0.4, 0.4), (0.25, 0.25, 0.25)),
    )


def failing(*, after: int = 3) -> Task:
    """A network that raises in its forward pass from a call on."""
    calls = iter(range(10_000))

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            if next(calls) >= after:
                raise RuntimeError("this is the user's own mistake")
            return self.layer(x)

    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return Task(
        model=Broken, train=Split(x, (x[:, 0] > 0).long()), test=Split(x, (x[:, 0] > 0).long()), scale_invariant=()
    )
