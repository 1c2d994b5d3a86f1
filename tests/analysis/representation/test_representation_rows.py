"""All measures of one solution or a pair as rows; what cannot be made is said and the rest goes on."""

import copy

import pytest
import torch
from torch import nn

from analysis.representation.activations import activations
from analysis.representation.ranks import ranks
from analysis.representation.rows import representation_rows, similarity_rows
from trainables.models.mlp import mlp_si


def _data(n, seed, classes=2):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=generator)
    return torch.randn(n, 6, generator=generator) + 2 * nn.functional.one_hot(y, 6), y


@pytest.fixture
def module():
    torch.manual_seed(0)
    return mlp_si((6,), 1, width=8, depth=2, head_norm=10.0, norm_eps=1e-7)


def _by_key(readings):
    return {(r.probe, r.split, r.key): r for r in readings}


def test_every_measure_of_every_layer(module):
    train, test = _data(200, 0), _data(300, 1)
    train = train[0], train[1].double()  # as one-logit tasks hold their targets
    before = copy.deepcopy(module.state_dict())
    state = torch.get_rng_state()
    readings = representation_rows(module.train(), train, test, classes=2, samples=100)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())
    assert module.training
    found = _by_key(readings)
    assert len(found) == len(readings)
    assert not [r for r in readings if r.probe == "fault"]
    assert {r.probe for r in readings} == {"representation", "linear_probe", "collapse"}
    for layer in ("2", "penultimate"):
        for key in ("effective_rank", "effective_rank_low", "participation_ratio", "zeros", "zeros_high", "dead"):
            assert found["representation", "test", f"{layer}:{key}"].n == 100
        assert found["linear_probe", "test", f"{layer}:selectivity_low"].n == 30
    assert {key for probe, split, key in found if probe == "collapse" and "_" not in key} == {"nc1", "nc3", "nc4"}
    assert found["collapse", "train", "nc1"].n == 100
    own = ranks(activations(module, test[0], samples=100)["2"]).stable_rank
    assert found["representation", "test", "2:stable_rank_high"].value == pytest.approx(own.high)
    x, y = train[0][:100], train[1][:100]
    features = module.eval()[:6](x)
    means = torch.stack([features[y == c].mean(0) for c in (0, 1)])
    nearest, decided = torch.cdist(features, means).argmin(1), (module(x)[:, 0] > 0).long()
    differ = (nearest != decided).double().mean().item()
    assert found["collapse", "train", "nc4"].value == pytest.approx(differ)
    assert differ != (nearest != y).double().mean().item()  # untrained: decisions are not the labels


def test_one_fault_does_not_stop_the_rest(module):
    train, test = _data(100, 0), _data(100, 1)
    assert [r.key for r in representation_rows(module, train, test, classes=1) if r.probe == "fault"] == [
        "linear_probe: targets must be classes 0 to 0, found 1",
        "collapse: targets must be classes 0 to 0, found 1",
    ]
    soft = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1))
    (fault,) = [r for r in representation_rows(soft, train, test, classes=2) if r.probe == "fault"]
    assert (fault.value, fault.n, fault.split) == (None, 0, "train")
    assert fault.key.startswith("collapse: collapse needs a network whose output")
    nn.init.constant_(soft[0].bias, -1e3)
    dead = representation_rows(soft, train, test, classes=2)
    assert _by_key(dead)["representation", "test", "penultimate:dead"].value == 1
    assert _by_key(dead)["representation", "test", "penultimate:gini"].value is None
    assert "representation penultimate: ranks need activations that vary" in " ".join(r.key for r in dead)
    nn.init.constant_(soft[0].weight, torch.nan)
    lost = representation_rows(soft, train, test, classes=2)
    assert {r.probe for r in lost} == {"fault"}
    assert [r.split for r in lost] == ["test", "train"]


def test_pairs_of_solutions_layer_by_layer(module):
    x, _ = _data(80, 0)
    other = copy.deepcopy(module)
    nn.init.normal_(other[3].weight)
    first, second = activations(module, x), activations(other, x)
    readings = similarity_rows(
        {**first, "own": first["2"], "flat": torch.ones(80, 2)}, {**second, "flat": first["2"]}, "test"
    )
    found = _by_key(readings)
    assert {key for _, _, key in found if key.startswith("penultimate")} == {
        f"penultimate{end}" for end in ("", "_low", "_high", ":biased")
    }
    assert found["cka", "test", "2"].value == pytest.approx(1)
    assert found["cka", "test", "2"].n == 80
    assert found["cka", "test", "penultimate"].value < 0.95
    assert [r.key[:9] for r in readings if r.probe == "fault"] == ["cka flat:"]
    assert not any(key.startswith("own") for _, _, key in found)
