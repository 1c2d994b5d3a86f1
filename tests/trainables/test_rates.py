"""Learning rates of rows and blocks against what one torch optimiser per row would use."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from trainables.curves import Curve
from trainables.rates import needs_momenta, needs_squares, rates, reported_lr
from trainables.spec import Member, Phase, Recipe, Segment, SpecError

SGD = Recipe(task="t:t", batch_size=4)
ADAM = Recipe(task="t:t", batch_size=4, optimizer="adam", beta1=0.8, beta2=0.95)  # type: ignore[arg-type]


def segment(phases: Sequence[Phase], at: int, recipe: Recipe = SGD, start: int | None = None) -> Segment:
    """Phase number `at` of a member, or the part of it from schedule step `start` on."""
    phase_start = sum(phase.steps for phase in phases[:at])
    begun = phase_start if start is None else start
    return Segment(
        segment_id="s",
        parent=None,
        start=begun,
        steps=phase_start + phases[at].steps - begun,
        phase=phases[at],
        phase_start=phase_start,
        phase_end=True,
        owner=Member(recipe=recipe, seed=0, phases=tuple(phases)),
        ends=True,
    )


def phase(steps: int = 20, lr: float = 0.1, **more: object) -> Phase:
    return Phase(name="p", steps=steps, lr=lr, **more)  # type: ignore[arg-type]


def found(rows: Sequence[Segment], start: int, stop: int, recipe: Recipe = SGD, **more: object) -> torch.Tensor:
    return rates(rows, recipe, start, stop, torch.float64, "cpu", **more).lr  # type: ignore[arg-type]


def test_constant_rates_are_one_number_each() -> None:
    made = rates([segment([phase(lr=lr)], 0) for lr in (0.1, 1e-3, 0.3)], SGD, 5, 9, torch.float32, "cpu")
    assert torch.equal(made.lr, torch.tensor([[0.1, 1e-3, 0.3]] * 4))
    assert made.lr.stride(0) == 0  # nothing is computed or stored for each step
    assert made.root is None


def test_rows_on_different_curves() -> None:
    before = phase(steps=30)
    rows = [
        segment([before, phase(lr=0.5, curve=Curve(kind="cosine", warmup=4))], 1),
        segment([before, phase(lr=0.2)], 1),
        segment([before, phase(lr=0.4, curve=Curve(kind="steps", milestones=(7,)))], 1),
    ]
    made = found(rows, 30, 50)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    rise = lr_scheduler.LinearLR(optimiser, start_factor=1 / 4, total_iters=3)
    cosine = lr_scheduler.CosineAnnealingLR(optimiser, T_max=16)
    scheduler = lr_scheduler.SequentialLR(optimiser, [rise, cosine], milestones=[4])
    for t in range(20):
        assert made[t, 0].item() == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)
        optimiser.step()
        scheduler.step()
    assert made[:, 1].tolist() == [0.2] * 20
    assert made[:, 2].tolist() == pytest.approx([0.4] * 7 + [0.04] * 13, rel=1e-15)
    # Blocks, neighbours and cuts of the trunk change no bit.
    assert torch.equal(torch.cat([found(rows, 30, 37), found(rows, 37, 50)]), made)
    assert torch.equal(found(rows[:1], 33, 41)[:, 0], made[3:11, 0])
    cut = segment([before, rows[0].phase], 1, start=40)
    assert torch.equal(found([cut], 40, 50)[:, 0], made[10:, 0])


def test_a_row_that_waits_for_its_loss() -> None:
    waiting = Curve(kind="loss", below=0.1, times=0.2, check_every=5)
    rows = [segment([phase(lr=lr, curve=curve)], 0) for lr, curve in ((0.5, waiting), (0.5, waiting), (0.5, Curve()))]
    made = found(rows, 0, 3, triggered=torch.tensor([True, False, True]))
    assert made.tolist() == [[0.1, 0.5, 0.5]] * 3  # the last row's flag is of no meaning to it
    assert found(rows, 0, 3).tolist() == [[0.5] * 3] * 3
    assert reported_lr(rows[0], 3, True) == 0.1
    assert reported_lr(rows[0], 3, False) == 0.5


def test_adams_corrections_count_from_its_last_fresh_start() -> None:
    first = phase(steps=6)
    rows = [
        segment([first, phase(steps=8), phase()], 2, ADAM),
        segment([first, phase(steps=8, fresh_optimizer=True), phase()], 2, ADAM),
        segment([first, phase(steps=8), phase(fresh_optimizer=True)], 2, ADAM),
    ]
    made = rates(rows, ADAM, 14, 17, torch.float64, "cpu")
    assert made.root is not None
    assert made.root.shape == (3, 3, 2)
    for row, begun in enumerate((0, 6, 14)):
        for t, step in enumerate(range(14, 17)):
            n = step - begun + 1
            expected = [1 - 0.8**n, math.sqrt(1 - 0.95**n)]
            assert made.root[t, row].tolist() == pytest.approx(expected, rel=1e-15)
    later = rates(rows, ADAM, 16, 17, torch.float64, "cpu").root
    assert later is not None
    assert torch.equal(later[0], made.root[2])
    # A fresh start in a later phase does not count before it is reached.
    early = segment([first, phase(steps=8, fresh_optimizer=True)], 0, ADAM)
    begun = rates([early], ADAM, 0, 1, torch.float64, "cpu").root
    assert begun is not None
    assert begun[0, 0, 0].item() == pytest.approx(0.2, rel=1e-12)


def test_the_reported_rate_is_that_of_the_last_update() -> None:
    plain = segment([phase(steps=10), phase(lr=0.3)], 1)
    assert reported_lr(plain, 30) == 0.3
    falling = segment([phase(steps=10), phase(lr=0.5, curve=Curve(kind="linear"))], 1)
    made = found([falling], 10, 30)[:, 0]
    assert [reported_lr(falling, step) for step in range(11, 31)] == made.tolist()
    assert made[0] == 0.5


def test_what_the_optimiser_keeps() -> None:
    still, moving = (Member(recipe=SGD, seed=0, momentum=mu, phases=(phase(),)) for mu in (0.0, 0.9))
    assert not needs_momenta(SGD, [still])
    assert needs_momenta(SGD, [still, moving])
    assert not needs_squares(SGD)
    assert needs_momenta(ADAM, [Member(recipe=ADAM, seed=0, phases=(phase(),))])
    assert needs_squares(ADAM)


def test_members_take_what_belongs_to_their_optimiser() -> None:
    with pytest.raises(SpecError, match=r"momentum belongs to sgd, found 0.9 with adam; set it to 0"):
        Member(recipe=ADAM, seed=0, momentum=0.9, phases=(phase(),))
    nesterov = Recipe(task="t:t", batch_size=4, nesterov=True)
    with pytest.raises(SpecError, match="nesterov needs momentum, found momentum 0"):
        Member(recipe=nesterov, seed=0, phases=(phase(),))
    with pytest.raises(SpecError) as caught:
        Recipe(
            task="t:t", batch_size=4, optimizer="adam", nesterov=True, decoupled=True, beta1=1.0, eps=0.0,  # type: ignore[arg-type]
            label_smoothing=-1.0, dtype="float16",
        )  # fmt: skip
    assert len(caught.value.faults) == 6
    with pytest.raises(SpecError, match="optimizer must be one of sgd, adam, adamw; found 'lion'"):
        Recipe(task="t:t", batch_size=4, optimizer="lion")  # type: ignore[arg-type]
