"""Lines between solutions: known curves, a plain loop, batch norms by policy, and an untouched caller."""

import copy

import numpy as np
import pytest
import torch
from between import OneWeight, convnet, costing, cross_entropy, ends, images, perceptron, trained_convnet
from torch import nn
from torch.optim.swa_utils import update_bn

from analysis.landscape.barriers import Definition
from analysis.landscape.line import lines
from analysis.landscape.mixtures import mixed, stacked
from analysis.landscape.points import ModulePoints
from analysis.landscape.policy import PathNorms
from trainables.spec import SpecError


def double_well(w):
    return (w**2 - 1) ** 2


# Known curves


def test_from_a_point_to_itself_there_is_no_barrier():
    module = trained_convnet(0)
    points = ModulePoints(module, {"train": images(64, 1), "test": images(32, 2)}, cross_entropy)
    (line,) = lines(points, stacked([module, module]), [(0, 1)])
    for split in ("train", "test"):
        for definition in Definition:
            assert line.loss_barrier(split, definition).value < 1e-6
            assert line.error_barrier(split, definition).value == 0
    assert len(line.alphas) == 21  # and nothing is refined


def test_of_a_quadratic():
    (hill,) = lines(costing(lambda w: -(w**2)), ends(-1.0, 2.0), [(0, 1)])
    assert hill.loss_barrier("train").value == pytest.approx(9 / 4)  # (distance / 2)^2
    assert hill.loss_barrier("test").value == pytest.approx(9 / 2)
    assert hill.loss_barrier("train").at == 0.5
    (valley,) = lines(costing(lambda w: w**2), ends(-1.0, 2.0), [(0, 1)])
    assert valley.loss_barrier("train").value == 0
    assert valley.loss_barrier("train", Definition.MEAN).value == pytest.approx(1.5)


def test_of_a_double_well_is_its_ridge():
    (line,) = lines(costing(double_well), ends(-1.0, 1.0), [(0, 1)])
    for definition in Definition:
        assert line.loss_barrier("train", definition).value == pytest.approx(1.0)
        assert line.error_barrier("test", definition).value == 1.0


@pytest.mark.parametrize("end", [1.1, 1.22, 1.3])
def test_a_ridge_between_grid_points_is_found(end):
    alphas = np.linspace(0, 1, 1_000_001)
    curve = double_well((1 - alphas) * -1 + alphas * end)
    truth = (curve - alphas * curve[-1]).max()
    points, solutions = costing(double_well), ends(-1.0, end)
    found = [lines(points, solutions, [(0, 1)], grid=10, rounds=rounds)[0].loss_barrier("train") for rounds in (0, 4)]
    missing = [truth - each.value for each in found]
    assert 0 <= missing[1] < 2e-4
    assert missing[0] > 10 * missing[1]
    assert found[1].at == pytest.approx(alphas[(curve - alphas * curve[-1]).argmax()], abs=1 / 9 / 2**4)


def test_a_narrow_bump_is_climbed_from_its_flank():
    points = costing(lambda w: torch.exp(-(((w - 0.4663) / 0.01) ** 2) / 2))
    solutions = ends(0.0, 1.0)
    grid, refined = (lines(points, solutions, [(0, 1)], rounds=rounds)[0] for rounds in (0, 4))
    assert grid.loss_barrier("train").value < 0.3
    assert refined.loss_barrier("train").value > 0.99
    assert len(refined.alphas) <= 21 + 2 * 4 * 4  # every curve's maximum lies there, so that few points are added
    assert refined.error_barrier("train").value == 1
    assert grid.error_barrier("train").value == 0


def test_pairs_judged_together_are_as_if_judged_alone_and_ends_are_shared():
    judged = []

    class Counting(ModulePoints):
        def samples(self, weights, data_seeds, split):
            judged.append(len(data_seeds))
            return super().samples(weights, data_seeds, split)

    x = torch.zeros(2, 1)
    points = Counting(OneWeight(), {"train": (x, x[:, 0])}, lambda out, y: double_well(out[:, 0]) + 0.1 * out[:, 0])
    solutions, pairs = ends(-1.1, 1.3, 0.2), [(0, 1), (0, 2), (1, 2), (1, 0)]
    together = lines(points, solutions, pairs, splits=("train",), rounds=0)
    assert sum(judged) == 3 + 4 * 19
    for pair, line in zip(pairs, lines(points, solutions, pairs, splits=("train",)), strict=True):
        (alone,) = lines(points, solutions, [pair], splits=("train",))
        np.testing.assert_array_equal(line.alphas, alone.alphas)
        np.testing.assert_array_equal(line.losses["train"], alone.losses["train"])
    np.testing.assert_allclose(together[0].loss("train"), together[3].loss("train")[::-1])


# Against what a user would write


def test_against_a_plain_loop():
    a, b = perceptron(0), perceptron(1)
    draw = torch.Generator().manual_seed(0)
    splits = {
        name: (torch.randn(n, 6, generator=draw), torch.randint(0, 3, (n,), generator=draw))
        for name, n in (("train", 50), ("test", 33))
    }
    points = ModulePoints(a, splits, cross_entropy, at_once=20)
    (line,) = lines(points, stacked([a, b]), [(0, 1)])
    assert len(line.alphas) > 21
    for number, alpha in enumerate(line.alphas):
        mix = copy.deepcopy(a)
        mix.load_state_dict({k: (1 - alpha) * v + alpha * b.state_dict()[k] for k, v in a.state_dict().items()})
        for split, (x, y) in splits.items():
            out = mix(x)
            np.testing.assert_allclose(line.losses[split][number], cross_entropy(out, y).detach(), atol=1e-6)
            np.testing.assert_array_equal(line.wrong[split][number], out.argmax(1) != y)


def _mixture(a, b, alpha):
    mix = copy.deepcopy(a)
    states = a.state_dict(), b.state_dict()
    mix.load_state_dict(
        {k: (1 - alpha) * v + alpha * states[1][k] if v.is_floating_point() else v for k, v in states[0].items()}
    )
    return mix


def test_batch_norms_by_policy_against_a_plain_loop():
    a, b = trained_convnet(0), trained_convnet(1)
    x, y = images(256, 1)
    points = ModulePoints(a, {"train": (x, y), "test": images(90, 2)}, cross_entropy, batch_size=128)
    solutions = stacked([a, b])
    found = {norms: lines(points, solutions, [(0, 1)], grid=5, rounds=0, norms=norms)[0] for norms in PathNorms}
    for number, alpha in enumerate(np.linspace(0, 1, 5)):
        mix = _mixture(a, b, alpha).eval()
        for split, (inputs, targets) in {"train": (x, y), "test": images(90, 2)}.items():
            stored = cross_entropy(mix(inputs), targets).detach()
            np.testing.assert_allclose(found["mixed"].losses[split][number], stored, rtol=1e-4, atol=1e-5)
        batch = copy.deepcopy(mix).train()
        own = torch.cat([cross_entropy(batch(x[part]), y[part]) for part in (slice(128), slice(128, 256))]).detach()
        np.testing.assert_allclose(found["train_batch"].losses["train"][number], own, rtol=1e-4, atol=1e-5)
        for layer in mix.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None
        update_bn([x], mix)
        for split, (inputs, targets) in {"train": (x, y), "test": images(90, 2)}.items():
            right = cross_entropy(mix.eval()(inputs), targets).detach()
            np.testing.assert_allclose(found["reestimated"].losses[split][number], right, rtol=1e-4, atol=1e-5)
            if split == "test":
                np.testing.assert_array_equal(found["train_batch"].losses[split], found["reestimated"].losses[split])


def test_a_barrier_that_mixed_statistics_hide():
    a, b = trained_convnet(0), trained_convnet(1)
    points = ModulePoints(a, {"train": images(256, 1), "test": images(256, 2)}, cross_entropy)
    found = {norms: lines(points, stacked([a, b]), [(0, 1)], norms=norms)[0] for norms in PathNorms}
    assert found["mixed"].loss_barrier("train").value == 0
    for norms in ("reestimated", "train_batch"):
        assert found[norms].loss_barrier("train").value > 1
        assert found[norms].error_barrier("train").value > 0.5
        assert found[norms].norms == norms


# Spheres


def test_mixtures_and_ends_are_put_on_the_sphere():
    class Angle(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.w.expand(len(x), 2)

    x = torch.zeros(1, 1)
    points = ModulePoints(
        Angle(), {"train": (x, x)}, lambda out, y: out.norm(dim=1), error=lambda out, y: y[:, 0], scale_invariant=["w"]
    )
    solutions = {"w": torch.tensor([[3.0, 0.0], [0.0, 2.0]])}
    (line,) = lines(points, solutions, [(0, 1)], radius=2.0, splits=("train",))
    np.testing.assert_allclose(line.loss("train"), 2.0, rtol=1e-6)
    (flat,) = lines(points, solutions, [(0, 1)], splits=("train",))
    assert flat.loss("train").min() < 1.7
    assert solutions["w"].tolist() == [[3.0, 0.0], [0.0, 2.0]]


def test_mixing_is_exact_at_the_ends_and_keeps_counters():
    draw = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(2, 50, generator=draw), "count": torch.tensor([3, 9])}
    found = mixed(weights, [0, 0, 0], [1, 1, 1], [0.0, 1.0, 0.25])
    assert torch.equal(found["w"][:2], weights["w"])
    torch.testing.assert_close(found["w"][2], 0.75 * weights["w"][0] + 0.25 * weights["w"][1])
    assert found["count"].tolist() == [3, 3, 3]


# The caller


@pytest.mark.parametrize("norms", list(PathNorms))
def test_the_caller_and_the_random_state_stay_as_they_are(norms):
    modules = [trained_convnet(0), trained_convnet(1).eval()]
    next(modules[0].parameters()).requires_grad_(False)
    states = [copy.deepcopy(module.state_dict()) for module in modules]
    solutions = stacked(modules)
    kept = copy.deepcopy(solutions)
    random = torch.get_rng_state()
    points = ModulePoints(modules[0], {"train": images(64, 1), "test": images(64, 2)}, cross_entropy)
    lines(points, solutions, [(0, 1)], grid=3, rounds=1, norms=norms)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in modules] == [True, False]
    assert [p.requires_grad for p in modules[0].parameters()] == [False] + [True] * 7
    assert all(layer.momentum == 0.1 for layer in modules[0].modules() if isinstance(layer, nn.BatchNorm2d))
    for module, state in zip(modules, states, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in solutions.items())


# Bad input


def test_bad_input_is_refused_in_one_sentence():
    points, solutions = costing(double_well), ends(-1.0, 1.0)
    with pytest.raises(SpecError, match="at least 3 points, found 2"):
        lines(points, solutions, [(0, 1)], grid=2)
    with pytest.raises(SpecError, match="rows of the 2 solutions, found 2"):
        lines(points, solutions, [(0, 2)])
    with pytest.raises(SpecError, match="one draw of the data"):
        lines(points, solutions, [(0, 1)], data_seeds=[1, 2])
    with pytest.raises(SpecError, match="NaN or infinity in solution 1"):
        lines(points, ends(-1.0, float("nan")), [(0, 1)])
    with pytest.raises(SpecError, match="split must be one of train, test, found 'valid'"):
        lines(points, solutions, [(0, 1)], splits=("valid",))
    with pytest.raises(SpecError, match="norm_split must be one of train, test, found 'all'"):
        costing(double_well, norm_split="all")


def test_solutions_of_two_architectures_are_refused():
    other = convnet()
    other[0] = nn.Conv2d(1, 4, 3)
    with pytest.raises(SpecError, match=r"solution 1 holds '0.weight' as \(4, 1, 3, 3\) instead of \(8, 1, 3, 3\)"):
        stacked([convnet(), other])
    with pytest.raises(SpecError, match=r"solution 1 has no '0\.weight'"):
        stacked([convnet(), OneWeight()])
    with pytest.raises(SpecError, match="NaN or infinity in solution 1"):
        stacked([OneWeight(), OneWeight(float("nan"))])


def test_a_loss_that_depends_on_chance_is_refused():
    class Noisy(OneWeight):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x) + 1)  # forgets to ask for the mode

    x = torch.zeros(60, 1)
    with pytest.raises(SpecError, match=r"must not depend on chance, found .* and .* for one sample of split 'train'"):
        ModulePoints(Noisy(), {"train": (x, x)}, lambda out, y: out[:, 0], error=lambda out, y: out[:, 0] < 0)
