"""Tasks: what is drawn is what was promised."""

import numpy as np
import pytest
import torch

from trainables.build import build_task
from trainables.catalog import MODELS, TASKS, faults_of_model, faults_of_task, resolve
from trainables.spec import Recipe, SpecError
from trainables.tasks.shapes import HALF_SIDE, SHAPES, draw, draw_border

MLP = {"width": 16, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}


def digits(**args: object) -> Recipe:
    return Recipe(task="digits", task_args=args, model="mlp_si", model_args=MLP, batch_size=16)  # type: ignore[arg-type]


def features(**args: object) -> Recipe:
    return Recipe(task="tick_features", task_args=args, model="mlp_si", model_args=MLP, batch_size=16)  # type: ignore[arg-type]


def test_digits_draws_are_disjoint_and_seeded() -> None:
    task = build_task(digits(train_size=300, test_size=1200), 4)
    assert (len(task.train), len(task.test)) == (300, 1200)
    assert task.train.x.mean().item() == pytest.approx(0, abs=1e-12)
    assert task.train.x.std(correction=0).item() == pytest.approx(1, abs=1e-12)
    rows = {tuple(row) for row in task.train.x.round(decimals=9).tolist()}
    assert not rows & {tuple(row) for row in task.test.x.round(decimals=9).tolist()}
    other = build_task(digits(train_size=300, test_size=1200), 5)
    assert not torch.equal(task.train.x, other.train.x)


def test_label_noise_hits_labels_only_at_the_stated_rate() -> None:
    wrong = 0
    for seed in range(20):
        clean, noisy = (build_task(digits(train_size=500, label_noise=rate), seed) for rate in (0.0, 0.2))
        assert torch.equal(clean.train.x, noisy.train.x)
        assert torch.equal(clean.test.y, noisy.test.y)
        wrong += int((clean.train.y != noisy.train.y).sum())
    # a replaced label stays right once in ten: 0.18 of 10,000, standard error 38
    assert abs(wrong - 1800) < 5 * 38


@pytest.mark.parametrize("name", SHAPES)
def test_points_lie_where_their_class_is(name: str) -> None:
    shape, rng = SHAPES[name], np.random.default_rng(3)
    classes = rng.integers(0, 2, 4000)
    points = draw(shape, classes, 0.1, rng)
    x1, x2 = points.T
    assert np.abs(points).max() <= HALF_SIDE
    np.testing.assert_array_equal(shape.classes(x1, x2), classes)
    # nothing of the other class within the margin: judged by walking around each point, not by the formula
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        moved = shape.classes(x1 + 0.0999 * np.cos(angle), x2 + 0.0999 * np.sin(angle))
        np.testing.assert_array_equal(moved, classes)


@pytest.mark.parametrize("name", SHAPES)
def test_border_points_have_both_classes_next_to_them(name: str) -> None:
    shape = SHAPES[name]
    x1, x2 = draw_border(shape, (2000,), np.random.default_rng(5)).T
    around = [shape.classes(x1 + 1e-6 * np.cos(a), x2 + 1e-6 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12)]
    assert np.all(np.min(around, axis=0) != np.max(around, axis=0))


def test_tick_is_the_published_one() -> None:
    shape, rng = SHAPES["tick"], np.random.default_rng(8)
    margin = np.sqrt(2) * 0.1
    x1, x2 = draw(shape, np.zeros(5000, dtype=np.int64), 0.1, rng).T
    level = x2 - np.abs(x1)
    assert (level >= -2 + margin - 1e-12).all()
    assert (level <= -margin + 1e-12).all()
    x1, x2 = draw(shape, np.ones(5000, dtype=np.int64), 0.1, rng).T
    level = x2 - np.abs(x1)
    assert ((level >= margin - 1e-12) | (level <= -2 - margin + 1e-12)).all()
    x1, x2 = draw_border(shape, (4000,), rng).T
    upper = np.isclose(x2, np.abs(x1), atol=1e-9)
    lower = np.isclose(x2, np.abs(x1) - 2, atol=1e-9)
    assert (upper | lower).all()
    assert abs(upper.mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)
    assert abs(np.mean(x1)) < 5 * 2 / np.sqrt(3 * 4000)  # x1 is uniform on [-2, 2]


def test_each_feature_alone_tells_the_class() -> None:
    task = build_task(features(), 2)
    shape = SHAPES["tick"]
    for split in (task.train, task.test):
        points = split.x.view(len(split), 16, 2).numpy()
        for feature in range(16):
            np.testing.assert_array_equal(shape.classes(*points[:, feature].T), split.y.numpy())
    assert len(task.probes) == 16
    for index, (name, probe) in enumerate(task.probes.items()):
        assert name == f"feature_{index:02d}"
        points = probe.x.view(len(probe), 16, 2).numpy()
        distances = shape.distance(points[..., 0], points[..., 1])
        np.testing.assert_array_equal(shape.classes(*points[:, index].T), probe.y.numpy())
        assert distances[:, index].min() >= 0.1
        assert np.delete(distances, index, axis=1).max() < 1e-9


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (faults_of_task("digit", {}), ["unknown task 'digit'", "did you mean 'digits'", "tick_features"]),
        (faults_of_task("digits", {"label_nose": 0.1}), ["'label_nose'", "label_noise"]),
        (faults_of_task("digits", {"label_noise": 1.5}), ["label_noise", "between 0 and 1", "1.5"]),
        (faults_of_task("digits", {"label_noise": float("nan")}), ["label_noise", "finite", "nan"]),
        (faults_of_task("digits", {"train_size": 12.5}), ["train_size", "whole number", "12.5"]),
        (faults_of_task("digits", {"train_size": 900, "test_size": 900}), ["1797", "1800"]),
        (faults_of_task("tick_features", {"shape": "tock"}), ["tick", "union_jack", "'tock'"]),
        (faults_of_task("no_such_module_here:task", {}), ["no_such_module_here"]),
        (faults_of_task("json:task", {}), ["'json'", "no function 'task'"]),
        (faults_of_task("json:dumps", {}), ["json:dumps", "obj"]),
        (faults_of_model("mlp_s", {}), ["unknown model 'mlp_s'", "did you mean 'mlp_si'"]),
        (faults_of_model("mlp_si", {"width": "wide"}), ["width", "finite number", "'wide'"]),
    ],
)
def test_faults_name_the_rule_and_the_value(faults: list[str], words: list[str]) -> None:
    assert len(faults) == 1
    for word in words:
        assert word in faults[0]


def test_catalog_agrees_with_the_functions() -> None:
    import inspect

    for builtin in (*TASKS.values(), *MODELS.values()):
        signature = inspect.signature(resolve(builtin.target)).parameters
        keywords = {name: p for name, p in signature.items() if p.kind is p.KEYWORD_ONLY}
        keywords = {name: p for name, p in keywords.items() if name not in ("model", "data_seed")}
        assert set(keywords) == set(builtin.parameters)
        for name, parameter in keywords.items():
            if parameter.default is not parameter.empty:
                assert parameter.default == builtin.parameters[name].default


def test_own_task_must_return_a_task() -> None:
    with pytest.raises(SpecError, match="must return"):
        build_task(Recipe(task="json:dumps", task_args={"obj": 1}, batch_size=4), 0)
