"""Sizes measured on a network against those counted by hand; memory against what torch's own profiler saw."""

import gc
from itertools import accumulate

import pytest
import torch
from packs import recipe
from torch import Tensor, nn

from trainables.build import build_task
from trainables.catalog import model_arguments
from trainables.footprint import footprint, step_seconds
from trainables.spec import Recipe
from trainables.tasks import Split, Task
from trainables.trace import course_of

BUILT: list[int] = []


def own() -> Task:
    """A user's task: 3 channels of 8x8, a convolution with batch norm, a frozen head."""
    BUILT.append(1)

    def model() -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(320, 4)
        )
        net[4].requires_grad_(False)
        return net

    x, y = torch.randn(40, 3, 8, 8), torch.arange(40) % 4
    return Task(model=model, train=Split(x[:20], y[:20]), valid=Split(x[20:28], y[20:28]), test=Split(x[28:], y[28:]))


OWN = Recipe(task="test_footprint:own", batch_size=8)


def test_sizes_of_an_own_task_are_counted() -> None:
    found = footprint(OWN)
    assert (found.trained, found.frozen, found.buffers) == (3 * 5 * 9 + 5 + 10, 320 * 4 + 4, 2 * 5 + 1)
    assert found.multiply_adds == 5 * 64 * 27 + 320 * 4
    assert (found.inputs, found.outputs, found.stackable) == (192, 4, False)
    assert (found.train, found.valid, found.test, found.probe_sets) == (20, 8, 12, 0)
    assert found.sample_bytes == 192 * 4 + 8
    assert found.draw_bytes == 40 * (192 * 4 + 8)
    assert not found.seeded


def test_the_task_is_not_kept_and_not_built_twice() -> None:
    build_task.cache_clear()
    step_seconds(OWN)
    before = len(BUILT)
    footprint.cache_clear()
    footprint(OWN)
    step_seconds(OWN)
    assert len(BUILT) == before
    assert build_task.cache_info().currsize == 0


def test_torch_is_left_as_it_was() -> None:
    footprint.cache_clear()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    footprint(OWN)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_a_perceptron_by_formula_and_by_measurement() -> None:
    from sweeps.sizes import Sizes

    for model, args in [
        ("mlp_si", {"width": 24, "depth": 3, "head_norm": 10.0, "norm_eps": 1e-7}),
        ("mlp", {"width": 24, "depth": 2, "norm": "none", "dropout": 0.0}),
        ("mlp", {"width": 24, "depth": 3, "norm": "layer", "dropout": 0.0}),
        ("mlp", {"width": 24, "depth": 3, "norm": "batch", "dropout": 0.0}),
        ("mlp", {"width": 24, "depth": 2, "norm": "batch", "dropout": 0.1}),
        *(
            ("mlp_norm", {**model_arguments("mlp_norm"), "width": 24, "depth": 3, "norm": norm, "trains": trains})
            for norm in ("batch", "layer", "none")
            for trains in ("hidden", "all")
        ),
    ]:
        of = recipe(model=model, model_args=args, task_args={"train_size": 64, "test_size": 100, "label_noise": 0.0})
        formula, measured = Sizes._of_perceptron(of, probes=False), footprint(of)
        for name in ("inputs", "trained", "frozen", "buffers", "multiply_adds", "train", "test", "stackable"):
            assert getattr(formula, name) == getattr(measured, name), (model, args, name)


def _profiled(work: object) -> float:
    """The most bytes alive at once, as torch's profiler saw every allocation."""
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = work()  # type: ignore[operator]
    del kept
    events = sorted(
        (event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )  # fmt: skip
    return float(max(accumulate(size for _, size in events)))


@pytest.mark.parametrize("samples", [5, 64])
def test_the_course_foretells_larger_batches(samples: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 300), nn.Tanh(), nn.Linear(300, 7))
    learned = list(net.parameters())

    def work(samples: int, mark: object) -> tuple[Tensor, ...]:
        loss = net(torch.randn(samples, 50)).square().mean()
        mark()  # type: ignore[operator]
        return torch.autograd.grad(loss, learned)

    course = course_of(work, (2, 3), learned)
    assert course.peak(samples) == pytest.approx(_profiled(lambda: work(samples, lambda: None)), rel=0.05)
    # kept for the backward pass: the batch, three activations that a layer reads, the last one squared
    kept = 4 * samples * (50 + 200 + 300 + 7)
    assert kept <= course.alive(0, samples) <= kept + 4 * samples * 207 + 64
    small = course.peak(samples, below=1000.0)
    assert small < course.peak(samples) <= small + course.peak(samples, least=1000.0)


def test_runs_that_differ_are_judged_by_the_larger() -> None:
    def work(samples: int, _: object) -> list[Tensor]:
        return [torch.zeros(1000) for _ in range(samples)]

    assert course_of(work, (2, 3), []).peak(30) == pytest.approx(30 * 4000)


def test_images_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRATLAS_DATA", "/nowhere")  # a CIFAR still to be downloaded: its sizes are known
    args = {"size": 16, "train_size": 100, "valid_size": 0, "test_size": 50, "augment": "crop_flip"}
    found = footprint(recipe(task="cifar10", task_args=args, model="convnet_si", model_args={"width": 4}, batch_size=8))
    assert (found.inputs, found.outputs, found.train, found.test) == (768, 10, 100, 50)
    assert found.prepared_bytes == 2 * 24 * 24 * 3
    assert found.multiply_adds == 256 * 27 * 4 + 9 * (256 * 4 * 8 + 64 * 8 * 16 + 16 * 16 * 32) + 32 * 10
    assert found.seeded
