"""Curves against torch's own schedulers, and what the prefix tree relies on."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from trainables.curves import FLAT, Curve, factor, factors, stretches
from trainables.faults import SpecError
from trainables.spec import Phase


@st.composite
def curves(draw: st.DrawFn, steps: int) -> Curve:
    """Any curve that fits into so many steps."""
    warmup = draw(st.integers(0, steps))
    kind = draw(st.sampled_from(["constant", "linear", "cosine", "steps", "loss"]))
    if kind in ("linear", "cosine"):
        decay = draw(st.none() | st.integers(1, steps - warmup)) if warmup < steps else None
        return Curve(kind=kind, warmup=warmup, decay_steps=decay, end=draw(st.sampled_from([0.0, 0.05, 0.3, 2.0])))
    if kind == "steps" and warmup < steps:
        milestones = draw(st.lists(st.integers(warmup, steps - 1), min_size=1, max_size=3, unique=True))
        return Curve(kind=kind, warmup=warmup, milestones=tuple(sorted(milestones)), times=draw(st.floats(0.1, 2)))
    if kind == "loss":
        return Curve(kind=kind, warmup=warmup, below=0.1, check_every=draw(st.integers(1, steps)))
    return Curve(warmup=warmup)


def scheduled(steps: int, make: object) -> list[float]:
    """The rates that a torch scheduler gives to a base rate of 1."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)  # type: ignore[operator]
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def after_warmup(warmup: int, then: object) -> object:
    """torch's composition of a linear warm-up and what follows it."""

    def make(optimiser: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(optimiser, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)
        return lr_scheduler.SequentialLR(optimiser, [rise, then(optimiser)], milestones=[warmup])  # type: ignore[operator]

    return make


@pytest.mark.parametrize(
    ("curve", "reference"),
    [
        (Curve(kind="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=40)),
        (Curve(kind="cosine", end=0.2), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=40, eta_min=0.2)),
        (Curve(kind="linear", end=0.1), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=40)),
        (Curve(kind="linear", end=3.0), lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 + 2 * t / 40)),
        (
            Curve(kind="steps", milestones=(10, 25), times=0.3),
            lambda o: lr_scheduler.MultiStepLR(o, milestones=[10, 25], gamma=0.3),
        ),
        (Curve(warmup=7), after_warmup(7, lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0))),
        (
            Curve(kind="cosine", warmup=8, end=0.1),
            after_warmup(8, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=32, eta_min=0.1)),
        ),
        (Curve(kind="linear", warmup=8), after_warmup(8, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=32))),
        (
            Curve(kind="linear", decay_steps=15),
            lambda o: lr_scheduler.LambdaLR(o, lambda t: 1.0 if t < 25 else (40 - t) / 15),
        ),
    ],
)  # fmt: skip
def test_curves_equal_torch_schedulers(curve: Curve, reference: object) -> None:
    expected = torch.tensor(scheduled(40, reference), dtype=torch.float64)
    torch.testing.assert_close(factors(curve, 40, 0, 40), expected, rtol=1e-12, atol=1e-15)


def test_warmup_stable_decay() -> None:
    found = factors(Curve(kind="linear", warmup=4, decay_steps=5), 20, 0, 20).tolist()
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4:16] == [1.0] * 12
    assert found[16:] == pytest.approx([0.8, 0.6, 0.4, 0.2], rel=1e-15)


def test_the_loss_drops_the_rate_for_the_rest() -> None:
    curve = Curve(kind="loss", warmup=2, below=0.5, times=0.1, check_every=3)
    assert factors(curve, 6, 0, 6).tolist() == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors(curve, 6, 0, 6, triggered=True).tolist() == [0.05, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert curve.waits
    assert not Curve(kind="cosine").waits


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 60), st.booleans())
def test_any_part_is_a_part_of_the_whole(data: st.DataObject, steps: int, triggered: bool) -> None:
    curve = data.draw(curves(steps))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, steps), st.integers(0, steps))))
    whole = factors(curve, steps, 0, steps, triggered)
    assert torch.equal(factors(curve, steps, start, stop, triggered), whole[start:stop])
    assert whole.tolist() == [factor(curve, steps, t, triggered) for t in range(steps)]
    assert whole.dtype == torch.float64
    assert bool((whole >= 0).all())
    assert curve.is_flat <= bool((whole == 1).all())


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 60))
def test_stretches_say_all_that_the_factors_depend_on(data: st.DataObject, steps: int) -> None:
    curve = data.draw(curves(steps))
    found = stretches(curve, steps)
    bounds = [0, *(stretch.stop for stretch in found)]
    assert bounds[-1] == steps
    assert all(low < high for low, high in pairwise(bounds))
    for start, stretch in zip(bounds, found, strict=False):
        if stretch.factor is not None:
            assert factors(curve, steps, start, stretch.stop).tolist() == [stretch.factor] * (stretch.stop - start)
    # A second curve: wherever a stretch of both begins at one step and is the same, the factors are.
    other_steps = data.draw(st.integers(1, 60))
    other = data.draw(curves(other_steps))
    others = stretches(other, other_steps)
    starts = dict(zip([0, *(stretch.stop for stretch in others)], others, strict=False))
    for start, stretch in zip(bounds, found, strict=False):
        if starts.get(start) == stretch:
            same = factors(other, other_steps, start, stretch.stop)
            assert torch.equal(factors(curve, steps, start, stretch.stop), same)


def test_shared_stretches_of_different_lengths() -> None:
    short, long = (stretches(Curve(kind="cosine", warmup=5, decay_steps=10), steps) for steps in (40, 80))
    assert short[0] == long[0]
    assert [stretch.stop for stretch in short] == [4, 31, 40]  # the decay's first update is still at the full rate
    assert [stretch.stop for stretch in long] == [4, 71, 80]
    assert stretches(FLAT, 9) == stretches(Curve(warmup=1), 9)


FAULTS = [
    ({"kind": "cosin"}, "curve.kind must be one of constant, linear, cosine, steps, loss; found 'cosin'"),
    ({"warmup": -1}, "curve.warmup must be at least 0, found -1"),
    ({"kind": "linear", "decay_steps": 0}, "curve.decay_steps must be at least 1, found 0"),
    ({"kind": "cosine", "end": -0.1}, "curve.end must be a finite number of at least 0, found -0.1"),
    ({"kind": "steps", "milestones": [3, 3]}, "must rise"),
    ({"kind": "steps", "milestones": [3], "warmup": 4}, "come after the 4 steps of warm-up, found 3"),
    ({"kind": "steps", "milestones": [3], "times": 0}, "curve.times must be a positive finite number, found 0"),
    ({"kind": "loss", "below": 0.0}, "curve.below must be the positive training loss to wait for, found 0.0"),
    ({"kind": "loss", "below": 0.1, "check_every": 0}, "curve.check_every must be at least 1, found 0"),
    ({"kind": "linear", "times": 0.2}, "curve.times belongs to the kinds steps and loss, found it with linear"),
    ({"decay_steps": 5}, "curve.decay_steps belongs to the kinds linear and cosine, found it with constant"),
]


@pytest.mark.parametrize(("fields", "words"), FAULTS)
def test_a_wrong_curve_is_told(fields: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        Curve(**fields)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 1
    assert words in caught.value.faults[0]


def test_all_faults_of_a_phase_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        Phase(name="a", steps=10, lr=-1.0, grad_noise=-1.0, curve=Curve(kind="linear", warmup=8, decay_steps=3))
    assert len(caught.value.faults) == 3
    assert "phase 'a': curve.warmup + curve.decay_steps must be at most the phase's 10 steps" in caught.value.faults[2]


def test_curves_load_no_torch() -> None:
    text = (
        "import sys, trainables.spec, trainables.curves as c; c.factor(c.FLAT, 9, 3); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
