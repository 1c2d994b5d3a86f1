"""The numbers of the display against sums done by hand, and what is drawn from them."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sweeps.display import LogDisplay, clock, count, draw, line
from sweeps.runner import Progress
from sweeps.tally import Snapshot, Tally, Totals
from trainables.rows import Status

TOTALS = Totals(
    name="study",
    place="runs/study",
    members=10,
    packs=2,
    member_steps=1000,
    lr_of={"a": 1e-3, "b": 2e-2},
    lr_name="pretrain_lr",
)


def report(pack: str, steps: int, **changes: Any) -> Progress:
    return Progress(pack_id=pack, member_steps=steps, **changes)


def test_numbers_of_two_packs_are_added_up() -> None:
    tally = Tally(TOTALS, now=100.0)
    tally.see(report("p", 100, best_error=0.3, best_member_id="a"), now=105.0)
    tally.see(report("q", 50, best_error=0.2, best_member_id="b"), now=107.0)
    tally.see(report("p", 250, statuses={Status.COMPLETED: 2, Status.NONFINITE: 1}, best_error=0.3), now=110.0)
    assert tally.snapshot(now=110.0) == Snapshot(
        steps_done=300,
        steps=1000,
        rate=30.0,
        seconds_left=700 / 30,
        by_status={Status.RUNNING: 7, Status.COMPLETED: 2, Status.NONFINITE: 1},
        packs_done=0,
        packs=2,
        best_error=0.2,
        best_lr=2e-2,
        elapsed=10.0,
    )


def test_rate_is_that_of_the_last_half_minute() -> None:
    tally = Tally(TOTALS, now=0.0)
    for now in range(1, 101):
        tally.see(report("p", now if now <= 50 else 50 + 4 * (now - 50)), now=float(now))
    assert tally.snapshot(now=100.0).rate == pytest.approx(4.0)


def test_rate_is_unknown_before_anything_was_trained() -> None:
    snapshot = Tally(TOTALS, now=0.0).snapshot(now=5.0)
    assert (snapshot.rate, snapshot.seconds_left, snapshot.best_error) == (None, None, None)
    assert snapshot.by_status == {Status.RUNNING: 10}


def test_first_few_steps_foretell_nothing() -> None:
    tally = Tally(replace(TOTALS, member_steps=1_000_000), now=0.0)
    tally.see(report("p", 9), now=30.0)
    early = tally.snapshot(now=30.0)
    assert (early.rate, early.seconds_left) == (pytest.approx(0.3), None)
    tally.see(report("p", 3000), now=60.0)
    assert tally.snapshot(now=60.0).seconds_left == pytest.approx(997_000 / 99.7)


def test_what_a_resumed_pack_brings_along_is_not_counted_as_trained_now() -> None:
    totals = replace(TOTALS, resumed=True, packs_done=1, steps_done=500, ended={Status.COMPLETED: 5})
    tally = Tally(totals, now=0.0)
    tally.see(report("q", 300), now=10.0)
    assert tally.snapshot(now=10.0).rate is None
    tally.see(report("q", 400), now=20.0)
    snapshot = tally.snapshot(now=20.0)
    assert snapshot.steps_done == 900
    assert snapshot.rate == pytest.approx(5.0)
    assert snapshot.packs_done == 1
    assert snapshot.by_status == {Status.RUNNING: 5, Status.COMPLETED: 5}


def test_pack_does_not_go_backwards_and_notes_come_once() -> None:
    tally = Tally(TOTALS, now=0.0)
    assert tally.see(report("p", 200, note="no compiler"), now=1.0) == "no compiler"
    assert tally.see(report("q", 0, note="no compiler"), now=2.0) is None
    assert tally.see(report("p", 100), now=3.0) is None
    assert tally.snapshot(now=3.0).steps_done == 200


@pytest.mark.parametrize(("seconds", "text"), [(None, "-:--"), (0, "0:00"), (61.2, "1:01"), (3723, "1:02:03")])
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (9999, "10.0k"), (12345, "12.3k"), (28_800_000, "28.8M"), (2.99e8, "299M")],
)
def test_count(number: float, text: str) -> None:
    assert count(number) == text


def test_line_and_drawing_say_the_same() -> None:
    tally = Tally(TOTALS, now=0.0)
    tally.see(
        report("p", 500, statuses={Status.COMPLETED: 4}, best_error=0.031, best_member_id="b", done=True), now=10.0
    )
    snapshot = tally.snapshot(now=10.0)
    screen = Console(file=io.StringIO(), width=100)
    screen.print(draw(snapshot, TOTALS, stopping=False))
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    for part in ("6 running · 4 completed", "error 3.1 % at pretrain_lr 0.02", "0:10"):
        assert part in drawn
        assert part in line(snapshot, "pretrain_lr")
    assert "500 of 1.00k" in drawn
    assert "50.0 %" in line(snapshot, "pretrain_lr")


def test_log_has_no_control_characters_and_ends_with_the_last_state() -> None:
    console = Console(file=io.StringIO(), width=40)
    with LogDisplay(TOTALS, console) as display:
        display.update(report("p", 500, note="[a note] with brackets"))
        display.update(report("p", 1000, done=True))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("study: 10 members in 2 packs")
    assert lines[1] == "note: [a note] with brackets"
    assert "100.0 %" in lines[-1]
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
