"""The two-variable loss that gradient descent with weight decay finds the bottom of and leaves again."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from packs import run, shared_pack

from trainables.invariance import scale_invariant_parameters
from trainables.spec import Measure, Member, Phase, Recipe
from trainables.tasks.toy import ratio

LR, STEPS = 0.1, 4000


def by_hand(weight_decay: float, steps: int) -> list[float]:
    """Losses before each step of (1 - lr wd) w - lr g, in float64."""
    x = y = 1.0
    losses = []
    for _ in range(steps):
        total = x * x + y * y
        losses.append(x * x / total)
        along_x, along_y = 2 * x * y * y / total**2, -2 * x * x * y / total**2
        x, y = (1 - LR * weight_decay) * x - LR * along_x, (1 - LR * weight_decay) * y - LR * along_y
    return losses


def recipe(batch_size: int = 1) -> Recipe:
    return Recipe(task="trainables.tasks.toy:ratio", batch_size=batch_size, dtype="float64")


def by_training(weight_decay: float, steps: int, folder: Path, batch_size: int = 1) -> list[float]:
    """The same through a pack, with weight decay as part of the gradient."""
    of = recipe(batch_size)
    phase = Phase(name="descent", steps=steps, lr=LR, weight_decay=weight_decay)
    pack = shared_pack([Member(recipe=of, seed=0, phases=(phase,))], measure=Measure(report_every=1))
    return [row.train_loss or 0.0 for report in run(pack, folder, executor="loop") for row in report.epochs]


def crossings(losses: list[float], level: float = 1e-3) -> int:
    """How often a series rises through a level in its last 3000 steps."""
    late = losses[-3000:]
    return sum(a < level <= b for a, b in pairwise(late))


@pytest.mark.parametrize(("weight_decay", "times"), [(0.0, 0), (0.1, 31), (0.5, 150)])
def test_the_loss_leaves_its_minimum_as_often_as_published(weight_decay: float, times: int) -> None:
    assert crossings(by_hand(weight_decay, STEPS)) == times


def test_the_minimum_is_found_first() -> None:
    losses = by_hand(0.1, STEPS)
    assert min(losses[:200]) == losses[150] == pytest.approx(2.0e-102, rel=0.01)
    assert max(losses[200:]) == pytest.approx(0.65, abs=0.01)
    assert by_hand(0.0, STEPS)[-1] < 1e-300


def test_a_pack_follows_the_plain_loop(tmp_path: Path) -> None:
    for weight_decay in (0.0, 0.1):
        expected = by_hand(weight_decay, 160)
        found = by_training(weight_decay, 160, tmp_path / str(weight_decay))
        assert found == pytest.approx(expected, rel=1e-9, abs=0)
    assert found[150] < 1e-100


@pytest.mark.slow
def test_a_pack_comes_back_as_often(tmp_path: Path) -> None:
    # After the first return rounding decides when the next one comes, and a pack takes the same sums in another order.
    assert 25 <= crossings(by_training(0.1, STEPS, tmp_path / "less")) <= 40
    assert 140 <= crossings(by_training(0.5, STEPS, tmp_path / "more")) <= 170
    assert by_training(0.0, STEPS, tmp_path / "none")[-1] < 1e-300


def test_the_batch_makes_no_difference(tmp_path: Path) -> None:
    one, two = (by_training(0.1, 160, tmp_path / str(size), batch_size=size) for size in (1, 2))
    assert one == two


def test_a_sweep_takes_it() -> None:
    from sweeps.own_task import try_out

    trial = try_out(recipe())
    assert (trial.trained, trial.train, trial.test, trial.loss) == (2, 2, 2, 0.5)


def test_its_tensor_is_scale_invariant_as_declared() -> None:
    assert scale_invariant_parameters(ratio()) == ("weight",)
    assert scale_invariant_parameters(replace(ratio(), scale_invariant=None)) == ("weight",)
