"""What is recorded of a network's layers, against the same layers applied by hand."""

import copy
import random

import pytest
import torch
from torch import nn

from analysis.representation.activations import SMALL, Maps, activations, layer_of, record
from trainables.models.convnet import convnet_si
from trainables.models.layers import GlobalAveragePool
from trainables.models.mlp import mlp_si
from trainables.models.vit import vit_small
from trainables.spec import SpecError


@pytest.fixture
def perceptron():
    torch.manual_seed(0)
    return mlp_si((6,), 1, width=5, depth=2, head_norm=10.0, norm_eps=1e-7)


@pytest.fixture
def inputs():
    return torch.randn(23, 6, generator=torch.Generator().manual_seed(1))


def test_outputs_of_relus_and_the_input_of_the_head(perceptron, inputs):
    with torch.no_grad():
        hidden = perceptron[:3](inputs)
        features = perceptron[3:6](hidden)
    found = activations(perceptron, inputs, batch_size=10)
    assert list(found) == ["2", "penultimate"]  # layer 5 is what the head reads
    torch.testing.assert_close(found["2"], hidden)
    torch.testing.assert_close(found["penultimate"], features)
    named = activations(perceptron, inputs, ["5", "1", "penultimate"], samples=7)
    assert list(named) == ["1", "5", "penultimate"]
    torch.testing.assert_close(named["5"], features[:7])
    seen = record(perceptron, inputs)
    torch.testing.assert_close(seen.outputs, perceptron(inputs).detach())
    torch.testing.assert_close(seen.head, perceptron[6].weight.detach())


class Functional(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4) if norm else nn.Identity()

    def forward(self, x):
        x = torch.relu_(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)))


def test_networks_that_call_relu_as_a_function_are_seen_by_their_norms_or_linear_maps(inputs):
    assert list(activations(Functional(norm=True), inputs)) == ["norm", "penultimate"]
    module = Functional(norm=False)
    found = activations(module, inputs)
    assert list(found) == ["first", "second", "penultimate"]
    with torch.no_grad():
        torch.testing.assert_close(found["first"], module.first(inputs))  # not what the in-place ReLU made of it
        torch.testing.assert_close(found["penultimate"], found["second"].relu())


@pytest.mark.parametrize("maps", Maps)
def test_what_runs_next_does_not_write_into_what_was_recorded(maps):
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(activations(module, x, ["0"], maps=maps)["0"], module[0](x).detach())


def test_a_layer_used_twice_has_two_entries(inputs):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.relu, self.head = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(2 * self.relu(self.linear(self.relu(x))))

    found = activations(Twice(), inputs)
    assert list(found) == ["relu", "relu#2", "penultimate"]
    torch.testing.assert_close(found["relu"], inputs.relu())
    torch.testing.assert_close(found["penultimate"], 2 * found["relu#2"])


def test_images_are_averaged_over_places_or_flattened():
    torch.manual_seed(3)
    module = convnet_si((3, 8, 8), 4, width=2, head_norm=10.0, head_bias=True, norm_eps=1e-5)
    x = torch.randn(9, 3, 8, 8)
    with torch.no_grad():
        first = copy.deepcopy(module).eval()[:3](x)
    mean, flat = (activations(module, x, maps=maps) for maps in Maps)
    assert list(mean) == ["relu1", "relu2", "relu3", "relu4", "penultimate"]
    torch.testing.assert_close(mean["relu1"], first.mean((2, 3)))
    torch.testing.assert_close(flat["relu1"], first.flatten(1))
    assert mean["penultimate"].shape == (9, 16)
    pooled = nn.Sequential(module.conv1, nn.ReLU(), GlobalAveragePool(), nn.Linear(2, 3))
    assert list(activations(pooled, x)) == ["1", "penultimate"]  # equal on average, not in their zeros
    with pytest.raises(SpecError, match="at most 16384 units, found 20000"):
        activations(nn.Sequential(nn.Linear(2, 20000), nn.ReLU()), torch.zeros(1, 2))


def test_zeros_small_values_and_dead_channels_of_images():
    maps = torch.tensor([[[[0.0, 3.0], [0.0, 4.0]], [[0.0] * 2] * 2], [[[1.0, 1.0], [1.0, 0.002]], [[0.0] * 2] * 2]])
    seen = layer_of(maps)
    torch.testing.assert_close(seen.units, torch.tensor([[1.75, 0.0], [3.002 / 4, 0.0]]))
    torch.testing.assert_close(seen.zeros, torch.tensor([6 / 8, 4 / 8]))
    torch.testing.assert_close(seen.small, torch.tensor([6 / 8, 5 / 8]))  # 0.002 is below a hundredth of 0.61
    assert SMALL == 0.01
    assert seen.alive.tolist() == [True, False]
    assert layer_of(maps, Maps.FLAT).alive.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_unit_is_alive_if_it_speaks_anywhere_once(batch_size):
    images = torch.full((4, 3, 2, 2), -1.0)
    images[0, 0, 1, 0] = images[3, 2, 0, 0] = 1.0
    seen = record(nn.Sequential(nn.ReLU()), images, batch_size=batch_size).layers["0"]
    assert seen.alive.tolist() == [True, False, True]
    torch.testing.assert_close(seen.zeros, torch.tensor([11 / 12, 1.0, 1.0, 11 / 12]))


def test_tokens_have_their_channels_last():
    torch.manual_seed(0)
    tokens = torch.randn(4, 7, 3)
    torch.testing.assert_close(layer_of(tokens).units, tokens.mean(1))
    assert layer_of(torch.randn(4)).units.shape == (4, 1)


class Noisy(nn.Sequential):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


def test_the_callers_module_and_random_state_stay_as_they_are(inputs):
    module = Noisy(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)).train()
    module[0].weight.requires_grad_(False)
    before = copy.deepcopy(module)
    states = torch.get_rng_state(), random.getstate()
    found = record(module, inputs, batch_size=5)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert [p.requires_grad for p in module.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in module.parameters())
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks for part in module.modules())
    assert not found.outputs.requires_grad
    torch.testing.assert_close(found.layers["penultimate"].units, found.layers["penultimate"].units.relu())


def test_batch_norms_use_the_statistics_they_have(inputs):
    module = nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 2)).train()
    module[0].running_mean.fill_(1.0)
    torch.testing.assert_close(activations(module, inputs)["penultimate"], (inputs - 1).relu(), atol=1e-4, rtol=1e-4)


def test_the_head_is_known_only_where_its_output_is_the_networks(inputs):
    torch.manual_seed(0)
    assert record(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softmax(1)), inputs).head is None
    assert record(nn.Sequential(nn.Flatten(), nn.Identity()), inputs).head is None


def test_a_transformer_of_this_project_is_seen_by_its_feed_forward_layers_and_class_token():
    torch.manual_seed(0)
    sizes = {"patch": 4, "width": 8, "depth": 2, "heads": 2, "head_width": 4, "hidden": 12}
    module = vit_small((3, 8, 8), 5, **sizes, dropout=0.1, embedding_dropout=0.1, mlp_norms=True)
    x = torch.randn(6, 3, 8, 8)
    found = activations(module, x)
    assert [units.shape for units in found.values()] == [(6, 12), (6, 12), (6, 8)]
    torch.testing.assert_close(module.head(found["penultimate"]), module.eval()(x))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 3)

    def forward(self, x):
        return self.lstm(x)[0]


def test_faults_are_one_sentence(perceptron, inputs):
    cases = [
        (perceptron, inputs, ["nowhere"], "names of the module's own, found \\['nowhere'\\]"),
        (perceptron, inputs[:0], None, "at least one sample, found 0"),
        (perceptron, inputs * torch.nan, None, "finite, found NaN or infinity in '2'"),
        (Pair(), inputs, ["lstm"], "a row for each sample, found \\['lstm'\\]"),
        (nn.LSTM(6, 3), inputs, None, "return one tensor, found a tuple"),
    ]
    for module, x, layers, words in cases:
        with pytest.raises(SpecError, match=words):
            activations(module, x, layers)


def test_signals_have_their_channels_before_their_places():
    module = nn.Sequential(
        nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    with torch.no_grad():
        module[1].bias[0] = -100.0  # a dead channel
    x = torch.randn(50, 2, 20)
    seen = record(module, x, ["2"]).layers["2"]
    torch.testing.assert_close(seen.units, module.eval()[:3](x).mean(2))
    assert seen.alive.tolist() == [False] + [True] * 5
    back = nn.Sequential(nn.Conv1d(2, 6, 3), nn.Linear(18, 5), nn.ReLU(), nn.Flatten(), nn.Linear(30, 3))
    tokens = record(back, x, ["2"]).layers["2"]  # a linear map after it has turned its last axis into channels
    assert tokens.units.shape == (50, 5)
