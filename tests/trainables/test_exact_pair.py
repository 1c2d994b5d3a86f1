"""The exact symmetry of SGD on scale-invariant weights: found to rounding where it holds, missed clearly where not."""

import math
from typing import Any

import pytest
import torch
from packs import recipe

from trainables.build import build_task
from trainables.catalog import model_arguments
from trainables.exact_pair import SCALES, ExactPair, exact_pair
from trainables.order import batches
from trainables.spec import Group, Recipe, SpecError

FIXED = Group(parameters=("@other",), lr=0.05, weight_decay=2e-3)
DATA = {"train_size": 1000, "test_size": 100, "label_noise": 0.1}


def card(*, model: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """The published small recipe: digits, 64-32-32-10, batch norm, frozen head, batches of 32."""
    arguments = {**model_arguments("mlp_norm"), **(model or {})}
    fields = {"task_args": DATA, "model": "mlp_norm", "model_args": arguments, "batch_size": 32, "sphere_radius": None}
    return recipe(**{**fields, **changes})


def pair(of: Recipe, **changes: Any) -> ExactPair:
    return exact_pair(of, **{"lr": 0.2, "weight_decay": 0.02, **changes})


HOLDS: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "batch": (card(), {}),
    "layer": (card(model={"norm": "layer"}), {}),
    "momentum": (card(), {"momentum": 0.9}),
    "nesterov": (card(nesterov=True), {"momentum": 0.9}),
    "decoupled": (card(decoupled=True), {"momentum": 0.9}),
    "smoothed": (card(label_smoothing=0.1), {}),
    "others fixed": (card(model={"trains": "all"}, groups=(FIXED,)), {}),
}


@pytest.mark.parametrize("case", HOLDS)
def test_scaled_runs_are_the_same_run_to_rounding(case: str) -> None:
    of, changes = HOLDS[case]
    found = pair(of, **changes)
    assert found.steps == 200
    assert found.nonfinite_step is None
    assert found.scale_invariant == 64 * 32 + 32 * 32
    assert 0 < found.loss_difference < 1e-10  # a factor of sqrt(10) cannot be without any rounding
    assert found.loss_difference == max(found.by_scale)
    assert found.by_scale[:2] == (0.0, 0.0)  # powers of 2 are
    assert 0 < found.norm_error < 1e-10
    assert found.norm_eps == 0.0


def test_an_eps_that_is_felt_breaks_it() -> None:
    given = pair(card(), norm_eps=1e-5)
    assert given.loss_difference > 1e-4
    own = pair(card(model={"norm_eps": 1e-5}), norm_eps=None)
    assert own.norm_eps is None
    assert own.by_scale == given.by_scale
    assert own.by_scale[0] > own.by_scale[1]  # small weights feel it more


def test_a_parameter_outside_the_symmetry_breaks_it() -> None:
    found = pair(card(model={"trains": "all"}))
    assert min(found.by_scale) > 0.1
    assert found.norm_error > 1e-2


def test_differences_are_those_of_two_plain_runs() -> None:
    of, lr, decay, c, steps = card(model={"norm_eps": 1e-5}), 0.2, 0.02, 0.5, 20
    task = build_task(of, 3)
    losses = []
    for factor in (1.0, c):
        torch.manual_seed(7)
        module = task.model().double()
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        with torch.no_grad():
            for parameter in learned:
                parameter.mul_(factor)
        sgd = torch.optim.SGD(learned, lr=factor**2 * lr, weight_decay=decay / factor**2, momentum=0.9)
        losses.append([])
        for step in range(steps):
            rows = batches([7], len(task.train), 32, step, step + 1)[0, 0]
            loss = task.loss(module(task.train.x[rows].double()), task.train.y[rows]).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            losses[-1].append(loss.item())
    expected = max(abs(a - b) for a, b in zip(*losses, strict=True))
    found = exact_pair(
        of, data_seed=3, seed=7, lr=lr, weight_decay=decay, momentum=0.9, scales=(c,), steps=steps, norm_eps=None
    )
    assert found.scales == (c,)
    assert found.loss_difference == pytest.approx(expected, rel=1e-6)


def test_convolutions_with_augmented_images() -> None:
    of = recipe(task="tiny:images", task_args={"network": "conv"}, model=None, model_args={}, sphere_radius=None)
    assert pair(of, steps=8).loss_difference < 1e-10
    assert pair(of, steps=8, norm_eps=None).loss_difference > 1e-7


def test_a_run_that_overflows_is_said_and_not_equal() -> None:
    found = pair(card(), lr=1e200)
    assert (found.nonfinite_step, found.steps) == (1, 0)
    assert found.by_scale == (math.inf,) * len(SCALES)
    assert found.norm_error == math.inf


def test_only_the_scale_that_overflows_is_infinite() -> None:
    found = pair(card(), lr=1e150, weight_decay=0.0, scales=(2.0, 1e10), steps=3)
    assert found.nonfinite_step == 1
    assert math.isfinite(found.by_scale[0])
    assert found.by_scale[1] == math.inf


def test_time_that_runs_out_is_said() -> None:
    assert pair(card(), seconds=0.0).steps == 0
    assert pair(card(), steps=3, seconds=60.0).steps == 3


@pytest.mark.parametrize(
    ("of", "changes", "words"),
    [
        (card(model={"norm": "none"}), {}, "needs scale-invariant weights, and this network has none"),
        (card(sphere_radius=2.0), {}, "found sphere_radius 2; set it to null"),
        (card(optimizer="adam"), {}, "law of sgd, found optimizer adam"),
        (card(optimizer="adamw"), {}, "law of sgd, found optimizer adamw"),
        (card(), {"scales": ()}, "scales must be positive"),
        (card(), {"scales": (2.0, -1.0)}, "scales must be positive"),
        (card(), {"norm_eps": -1e-5}, "norm_eps must be at least 0"),
        (card(), {"lr": 0.0}, "lr must be a positive finite number"),
        (card(), {"momentum": 1.0}, "momentum must be in"),
        (card(batch_size=1001), {}, "batch_size must be at most"),
    ],
)
def test_what_has_no_such_law_is_refused_in_a_sentence(of: Recipe, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        pair(of, **changes)
    assert len(caught.value.faults) == 1
