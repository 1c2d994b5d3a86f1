"""A few networks as one by grouped convolutions: the same mathematics, and the same bits in every place."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from trainables.executors.grouped import places_agree
from trainables.grouping import Grouped, grouped_form
from trainables.models.convnet import convnet_si


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_grouped_form_equals_each_module_in_float64(rows: int, affine: bool) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, bias=affine),
            nn.BatchNorm2d(4, affine=affine, momentum=0.3),
            nn.Tanh(),
            nn.MaxPool2d(3, 1, 1),
            nn.Sequential(nn.Conv2d(4, 5, 3, padding=1, dilation=1), nn.GELU()),
            nn.Flatten(),
            nn.Linear(5 * 16, 6, bias=affine),
            nn.ReLU(),
            nn.Linear(6, 2),
        ).double()

    form = grouped_form(build())
    assert form is not None
    torch.manual_seed(rows)
    modules = [build() for _ in range(rows)]
    x = [torch.randn(7, 3, 10, 10, dtype=torch.float64) for _ in modules]
    states = [module.state_dict() for module in modules]
    state = {name: torch.stack([each[name].clone() for each in states]) for name in states[0]}
    out = form(state, x)
    for row, module in enumerate(modules):
        assert torch.allclose(out[row], module(x[row]), rtol=1e-12, atol=1e-13)
        for name, buffer in module.named_buffers():
            assert torch.allclose(state[name][row].double(), buffer.double(), rtol=1e-12), name


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Dropout(),
        nn.GELU(approximate="tanh"),
    ],
)
def test_layers_without_grouped_form_are_left_to_the_loop(layer: nn.Module) -> None:
    assert grouped_form(nn.Sequential(nn.Conv2d(3, 4, 3), layer)) is None


def test_network_with_other_bits_in_the_second_place_is_not_grouped() -> None:
    torch.manual_seed(0)
    network = convnet_si((3, 8, 8), 3, width=8, head_norm=10.0, head_bias=True, norm_eps=1e-5)
    form = grouped_form(network)
    assert form is not None
    first = network.state_dict()
    state = {name: torch.stack([value, value.flatten().flip(0).view_as(value)]) for name, value in first.items()}
    learned = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    x = torch.randn(16, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    assert places_agree(form, state, learned, x)

    class Uneven(Grouped):
        def __call__(self, state: Mapping[str, Tensor], x: list[Tensor]) -> Tensor:
            return super().__call__(state, x) * torch.tensor([1.0, 1.0 + 1e-6]).view(2, 1, 1)

    assert not places_agree(Uneven(form.layers), state, learned, x)
