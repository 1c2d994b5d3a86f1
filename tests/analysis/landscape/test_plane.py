"""Planes through three solutions: their edges are lines, their coordinates distances."""

import numpy as np
import pytest
import torch
from between import costing, cross_entropy, ends, images, perceptron, trained_convnet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from analysis.figures.plane import draw_plane, plane_table
from analysis.figures.style import render
from analysis.landscape.angles import angle_matrix, angles, compared_weights
from analysis.landscape.line import lines
from analysis.landscape.mixtures import stacked
from analysis.landscape.plane import plane
from analysis.landscape.points import ModulePoints
from trainables.spec import SpecError


class Place(nn.Module):
    """Says its two weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        return self.w.expand(len(x), 2)


def _places(loss, **arguments):
    x = torch.zeros(1, 1)
    splits = {"train": (x, x)}
    return ModulePoints(Place(), splits, loss, error=lambda out, y: out[:, 0] > 0, **arguments)


def _three(*corners):
    return {"w": torch.as_tensor(np.array(corners))}


def test_coordinates_are_distances_and_values_those_of_the_points():
    corners = np.array([[1.0, 1.0], [1.0, 4.0], [3.0, 2.0]])  # B lies 3 up from A, C 2 to the right and 1 up
    found = plane(
        _places(lambda out, y: out[:, 0] + 10 * out[:, 1]),
        _three(*corners),
        splits=("train",),
        resolution=6,
        margin=0.5,
    )
    np.testing.assert_allclose(found.corners, [[0, 0], [3, 0], [1, 2]], atol=1e-12)
    np.testing.assert_allclose(found.x, np.linspace(-1.5, 4.5, 6))
    np.testing.assert_allclose(found.y, np.linspace(-1, 3, 6))
    # x runs along the second weight from 1, y along the first from 1
    expected = (1 + found.y[:, None]) + 10 * (1 + found.x[None, :])
    np.testing.assert_allclose(found.loss["train"], expected)
    np.testing.assert_array_equal(found.error["train"], np.broadcast_to(1 + found.y[:, None] > 0, (6, 6)))
    np.testing.assert_allclose(found.corner_loss["train"], corners @ [1, 10])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=18, max_size=18).filter(lambda v: np.std(v) > 0.5))
def test_corners_are_as_far_apart_as_the_solutions(values):
    flat = torch.tensor(values, dtype=torch.float64).view(3, 6)

    class Six(Place):
        def __init__(self):
            nn.Module.__init__(self)
            self.w = nn.Parameter(torch.zeros(6, dtype=torch.float64))

        def forward(self, x):
            return self.w.expand(len(x), 6)

    x = torch.zeros(1, 1)
    points = ModulePoints(Six(), {"train": (x, x)}, lambda out, y: out.sum(1), error=lambda out, y: y[:, 0])
    try:
        found = plane(points, {"w": flat}, splits=("train",), resolution=2)
    except SpecError:
        return  # three points on one line
    for a, b in ((0, 1), (0, 2), (1, 2)):
        distance = float((flat[a] - flat[b]).norm())
        assert np.linalg.norm(found.corners[a] - found.corners[b]) == pytest.approx(distance, rel=1e-6, abs=1e-9)


def test_the_edge_from_a_to_b_is_the_line_between_them():
    modules = [trained_convnet(seed) for seed in range(3)]
    points = ModulePoints(modules[0], {"train": images(128, 1), "test": images(64, 2)}, cross_entropy)
    solutions = stacked(modules)
    found = plane(points, solutions, resolution=5, margin=0.0)
    ab, ac, bc = lines(points, solutions, [(0, 1), (0, 2), (1, 2)], grid=5, rounds=0)
    assert 0 < found.corners[2, 0] < found.corners[1, 0]  # so that the lowest row runs from A to B
    for split in ("train", "test"):
        own = [ab.loss(split)[0], ab.loss(split)[-1], ac.loss(split)[-1]]
        np.testing.assert_allclose(found.corner_loss[split], own)
        np.testing.assert_array_equal(found.corner_error[split][1:], bc.error(split)[[0, -1]])
        np.testing.assert_allclose(found.loss[split][0], ab.loss(split), rtol=1e-4)
        np.testing.assert_allclose(found.error[split][0], ab.error(split), atol=1e-12)


def test_on_a_sphere_every_point_is_scaled_back_and_the_solutions_stay_where_they_are():
    seen = []

    def norm(out, y):
        seen.append(out.norm(dim=1))
        return out.norm(dim=1)

    points = _places(norm, scale_invariant=["w"])
    seen.clear()
    found = plane(points, _three([2.0, 0.0], [0.0, 5.0], [-2.0, 1.0]), splits=("train",), radius=2.0, resolution=4)
    torch.testing.assert_close(torch.cat(seen), torch.full((19,), 2.0, dtype=torch.float64))
    assert np.linalg.norm(found.corners[1] - found.corners[0]) == pytest.approx(np.sqrt(8))


def test_solutions_on_one_line_and_other_bad_input():
    points = _places(lambda out, y: out[:, 0])
    for third in ([3.0, 3.0], [1.0, 1.0], [0.0, 0.0]):
        with pytest.raises(SpecError, match="do not lie on one line"):
            plane(points, _three([0.0, 0.0], [1.0, 1.0], third), splits=("train",))
    with pytest.raises(SpecError, match="do not lie on one line"):
        plane(costing(lambda w: w), ends(0.0, 1.0, 2.5))
    with pytest.raises(SpecError, match=r"resolution >= 2 and margin >= 0, found 1 and 0\.2"):
        plane(points, _three([0.0, 0.0], [1.0, 0.0], [0.0, 1.0]), resolution=1)
    with pytest.raises(SpecError, match="NaN or infinity in a solution of the plane"):
        plane(points, _three([0.0, 0.0], [1.0, float("nan")], [0.0, 1.0]), splits=("train",))


# Angles


def test_angles_of_turned_vectors_keep_their_digits():
    turns = [0.0, 1e-7, 1e-3, 1.0, np.pi / 2, 3.0, np.pi]
    solutions = {"w": torch.tensor([[2 * np.cos(turn), 2 * np.sin(turn)] for turn in turns], dtype=torch.float64)}
    found = angles(solutions, [(0, number) for number in range(len(turns))], ["w"])
    np.testing.assert_allclose(found, turns, rtol=1e-8)
    matrix = angle_matrix(solutions, ["w"])
    np.testing.assert_allclose(matrix, np.abs(np.subtract.outer(turns, turns)), rtol=1e-7, atol=1e-15)
    np.testing.assert_array_equal(matrix, matrix.T)


def test_angles_feel_neither_scale_nor_what_is_not_named():
    modules = [perceptron(seed) for seed in range(3)]
    solutions = stacked(modules)
    names = ["0.weight", "2.weight"]
    scaled = {
        name: tensor * torch.tensor([1.0, 7.0, 0.1]).view(-1, *[1] * (tensor.dim() - 1))
        for name, tensor in solutions.items()
    }
    changed = scaled | {"4.weight": torch.randn_like(scaled["4.weight"])}
    np.testing.assert_allclose(angle_matrix(changed, names), angle_matrix(solutions, names), atol=1e-6)
    flat = torch.cat([solutions[name].flatten(1).double() for name in names], 1).numpy()
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert angle_matrix(solutions, names)[0, 1] == pytest.approx(np.arccos(cosine))


def test_which_weights_are_compared():
    points = _places(lambda out, y: out[:, 0])
    assert compared_weights(points) == ("trained", ("w",))
    assert compared_weights(_places(lambda out, y: out[:, 0], scale_invariant=["w"])) == ("scale_invariant", ("w",))
    with pytest.raises(SpecError, match="names of parameters, found 'v'"):
        angles(_three([0.0, 1.0], [1.0, 0.0]), [(0, 1)], ["v"])
    assert np.isnan(angles(_three([0.0, 0.0], [1.0, 0.0]), [(0, 1)], ["w"])).all()


# The figure


def test_the_map_holds_the_grid_and_marks_the_three_solutions():
    x = torch.zeros(4, 1)
    points = ModulePoints(
        Place(),
        {"train": (x, x), "test": (x, x)},
        lambda out, y: out.square().sum(1),
        error=lambda out, y: out[:, 0] > 1,
    )
    found = plane(points, _three([0.0, 0.0], [2.0, 0.0], [1.0, 2.0]), resolution=7)
    table = plane_table(found, ("low", "high", "swa"))
    assert table["point"].tolist() == ["low", "high", "swa", *["grid"] * 49]
    assert table["train_loss"][:3].tolist() == [0, 4, 5]
    np.testing.assert_allclose(table["train_loss"], table["x"] ** 2 + table["y"] ** 2, atol=1e-9)
    np.testing.assert_array_equal(table["test_error"], table["x"] > 1)
    drawing = render(draw_plane(table))
    assert drawing.png.startswith(b"\x89PNG")
    text = drawing.svg.decode()
    for words in ("training loss, nats", "test error, %", "low: 0", "high: 4", "swa: 5", "high: 100"):
        assert f">{words}<" in text


def test_a_map_without_heights_is_drawn_without_lines():
    x = torch.zeros(4, 1)
    points = ModulePoints(
        Place(), {"train": (x, x), "test": (x, x)}, lambda out, y: 0 * out[:, 0], error=lambda out, y: y[:, 0]
    )
    found = plane(points, _three([0.0, 0.0], [2.0, 0.0], [1.0, 2.0]), resolution=3)
    assert b"swa: 0" in render(draw_plane(plane_table(found, ("low", "high", "swa")))).svg
