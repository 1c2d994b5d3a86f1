"""What a budget buys, what it costs, and what an answer means for a training script."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from sweeps.band_config import advice, recommended, snippet
from sweeps.band_cost import calibrate
from sweeps.band_design import Budget, Design, Wish, designs, fitting, read_budget
from sweeps.own_task import try_out
from sweeps.plan import plan
from sweeps.sweep import sweep_from_mapping
from trainables.spec import SpecError

TARGET = "user_tasks:plain"


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", Budget(seconds=90)),
        ("10m", Budget(seconds=600)),
        (" 1.5 H", Budget(seconds=5400)),
        ("120", Budget(members=120)),
        ("36 members", Budget(members=36)),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["", "ten", "10d", "-5m", "0s", "0", "1e3"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(SpecError, match="90s, 10m, 2h"):
        read_budget(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, ("--steps must be at least 1", "found 0")),
        ({"seeds": 0, "per_decade": -1}, ("--seeds must be at least 1", "--per-decade must be at least 1")),
        ({"lr_low": 0.0}, ("--lr-low must be a positive finite number", "found 0")),
        ({"lr_high": math.inf}, ("--lr-high must be a positive finite number", "found inf")),
        ({"finetune_lrs": (0.1, math.nan)}, ("--finetune-lr", "found nan")),
        ({"lr_high": 1e-4}, ("--lr-low must be below --lr-high", "found 0.0001 and 0.0001")),
        ({"optimizer": "sdg"}, ("--optimizer must be one of sgd, adam, adamw", "found 'sdg'")),
        ({"optimizer": "adam", "momentum": 0.9}, ("--momentum belongs to sgd", "leave it out")),
    ],
)
def test_faults_of_a_wish(changes: dict[str, Any], words: Sequence[str]) -> None:
    found = list(Wish(**{"target": TARGET, "steps": 100, **changes}).faults())
    for word in words:
        assert any(word in fault for fault in found), found


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    # The published high rates: 2e-3 for a practical ResNet-18 with SGD, 1e-4 for a ViT with Adam.
    [("sgd", (1e-4, 2.154e-3)), ("adam", (1e-5, 2.154e-4))],
)
def test_small_rates_are_the_lowest_and_one_a_third_of_the_way_up(optimizer: str, rates: tuple[float, float]) -> None:
    wish = Wish(target=TARGET, steps=100, optimizer=optimizer, per_decade=3)
    assert designs(wish)[0].finetune_lrs == pytest.approx(rates, rel=1e-3)
    assert designs(wish)[-1].finetune_lrs == pytest.approx(rates[1:], rel=1e-3)


def test_a_budget_buys_the_dearest_study_within_it() -> None:
    wish = Wish(target=TARGET, steps=1000)
    ladder = designs(wish)
    steps = [design.member_steps for design in ladder]
    assert steps == sorted(steps, reverse=True)
    for design in ladder:
        exactly = fitting(wish, Budget(seconds=design.member_steps / 1000), lambda d: d.member_steps / 1000)
        assert exactly is not None
        assert exactly.member_steps == design.member_steps
        by_count = fitting(wish, Budget(members=design.members), lambda d: 0.0)
        assert by_count is not None
        assert by_count.members <= design.members
    assert fitting(wish, Budget(seconds=steps[-1] / 1000 - 0.001), lambda d: d.member_steps / 1000) is None
    assert fitting(wish, Budget(members=ladder[-1].members - 1), lambda d: 0.0) is None


def test_what_the_user_fixes_stays() -> None:
    fixed = designs(Wish(target=TARGET, steps=100, seeds=7, finetune_lrs=(0.5,)))
    assert {(design.seeds, design.finetune_lrs) for design in fixed} == {(7, (0.5,))}
    assert {design.per_decade for design in fixed} == {4, 3, 2}
    assert len(designs(Wish(target=TARGET, steps=100, seeds=7, per_decade=5, finetune_lrs=(0.5,)))) == 1


@pytest.mark.parametrize("steps", [1, 7, 100, 12_345])
@pytest.mark.parametrize("rung", [0, -1])
def test_a_design_counts_as_the_planner_does(steps: int, rung: int) -> None:
    design = designs(Wish(target=TARGET, steps=steps, lr_low=1e-2, lr_high=0.3))[rung]
    mapping = design.mapping(batch_size=8, per_epoch=4, takes_data_seed=True)
    sweep = sweep_from_mapping(mapping)
    made = plan(sweep, cores=2, memory_bytes=2**33)
    assert design.members == len(made.members)
    assert design.member_steps == made.member_steps
    every = sweep.measure.report_every
    assert design.reports == sum(math.ceil(segment.steps / every) for pack in made.packs for segment in pack.segments)
    assert {member.data_seed for member in made.members} == set(range(design.seeds))
    assert {member.phases[0].lr for member in made.members} == set(design.lrs)
    swa = sweep.phases[0].swa
    assert swa is not None
    reach = (swa.windows[0] - 1) * swa.every
    assert reach < steps
    assert steps < 40 or reach < steps / 4


@pytest.mark.parametrize(("optimizer", "train"), [("sgd", {"momentum": 0.9}), ("adamw", {"optimizer": "adamw"})])
def test_the_optimiser_reaches_the_sweep(optimizer: str, train: dict[str, Any]) -> None:
    design = designs(Wish(target=TARGET, steps=10, optimizer=optimizer, weight_decay=0.01))[0]
    mapping = design.mapping(batch_size=8, per_epoch=4, takes_data_seed=False)
    assert mapping["train"] == {"batch_size": 8, "weight_decay": 0.01, **train}
    sweep_from_mapping(mapping)


def test_calibration_finds_a_time_that_is_known() -> None:
    seconds = 0.01
    design = Design(
        wish=Wish(target="user_tasks:slow", steps=50, lr_low=0.01, lr_high=0.1),
        per_decade=2,
        seeds=2,
        finetune_lrs=(0.01,),
    )
    mapping = design.mapping(batch_size=8, per_epoch=4, takes_data_seed=True)
    mapping["task"]["seconds"] = seconds
    made = plan(sweep_from_mapping(mapping), cores=1, memory_bytes=2**33)
    (pack,) = made.packs
    cost = calibrate(pack, try_out(pack.recipe), executor="loop", device="cpu")
    assert 1 <= cost.rows <= 6
    # The loss sleeps so long in every step, and a linear map of 3 numbers costs little beside it.
    assert seconds < cost.step_seconds < 3 * seconds
    assert cost.final_share == (16 + 32) / 16
    one, two = (cost.seconds(design, lanes, ray=False) for lanes in (1, 2))
    assert one > design.member_steps * seconds
    assert two < one


SWEEP = {
    "train": {"batch_size": 32, "momentum": 0.9, "weight_decay": 5e-4},
    "phases": [
        {"name": "pretrain", "steps": 500, "swa": {"every": 7, "windows": [10]}},
        {"name": "finetune", "steps": 200},
    ],
    "axes": {"finetune_lr": {"values": [1e-4, 2.1544346900318843e-3]}},
}


def answer(quality: str) -> dict[str, Any]:
    rows = [{"lr": lr, "error": {quality: {"value": error}}} for lr, error in ((0.01, 0.2), (0.1, 0.1), (1.0, 0.5))]
    return {"optimum_lr": 0.1, "band": [0.05, 0.2], "quality": quality, "table": rows, "chosen_on": "valid"}


@pytest.mark.parametrize(
    ("quality", "expected", "words"),
    [
        (
            "finetune@2.15e-03",
            {"decay_at_step": 500, "decayed_lr": 2.1544346900318843e-3, "total_steps": 700, "average_last": None},
            "500 steps in batches of 32, then lr = 0.00215 for 200 more",
        ),
        (
            "swa@10",
            {
                "decay_at_step": None,
                "decayed_lr": None,
                "total_steps": 500,
                "average_last": {"weights": 10, "every": 7},
            },
            "average the last 10 weights, one every 7 steps",
        ),
        (
            "final",
            {"decay_at_step": None, "decayed_lr": None, "total_steps": 500, "average_last": None},
            "500 steps in batches of 32, the rate held constant",
        ),
    ],
)
def test_settings_follow_from_the_answer(quality: str, expected: dict[str, Any], words: str) -> None:
    config = recommended(SWEEP, answer(quality))
    assert config is not None
    always = {
        **{"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "initial_lr": 0.1},
        **{"initial_lr_band": [0.05, 0.2], "error": 0.1, "quality": quality, "sweep": SWEEP},
    }
    assert config == {**always, **expected}
    text = "\n".join(snippet(config))
    assert "torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0005)" in text
    assert words in text


def test_no_settings_without_a_solution_and_advice_where_the_grid_ends() -> None:
    assert recommended(SWEEP, {**answer("final"), "optimum_lr": None}) is None
    assert list(advice(answer("final"))) == []
    assert "--lr-high 10" in next(advice({**answer("final"), "optimum_lr": 1.0}))
    assert "--lr-low 0.001" in next(advice({**answer("final"), "optimum_lr": 0.01}))
    assert "--seeds 3" in next(advice({**answer("final"), "gain_verdict": "unknown", "n_seeds": 2}))
    assert "validation split" in next(advice({**answer("final"), "chosen_on": "test"}))
