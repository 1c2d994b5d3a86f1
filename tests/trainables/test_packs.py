"""What a pack promises: the company a member trains in changes nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packs import SWA, facts, recipe, run, separate_pack, shared_pack, two_phase
from torch import nn

from trainables.build import build_task
from trainables.checkpoint import Checkpoints, load_member
from trainables.order import batches, steps_per_epoch
from trainables.rows import Status
from trainables.spec import Measure, Member

FULL = Measure(report_every=8, swa=SWA, keep=(4, 30))


def by_hand(member: Member) -> nn.Module:
    """The published procedure, step by step: an ordinary module, `torch.optim.SGD`, projection after each step."""
    of = member.recipe
    task = build_task(of, member.data_seed)
    torch.manual_seed(member.seed)
    module = task.model().to(getattr(torch, of.dtype))
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def project() -> None:
        if of.sphere_radius is not None:
            norm = torch.sqrt(sum(parameter.square().sum() for parameter in learned))
            for parameter in learned:
                parameter.mul_(of.sphere_radius / norm)

    with torch.no_grad():
        project()
    optimiser = torch.optim.SGD(learned, lr=1.0, momentum=member.momentum)
    x, y = task.train.x.to(getattr(torch, of.dtype)), task.train.y
    step = 0
    for phase in member.phases:
        for group in optimiser.param_groups:
            group["lr"] = phase.lr * (1.0 if of.sphere_radius is None else of.sphere_radius**2)
            group["weight_decay"] = phase.weight_decay
        for _ in range(phase.steps):
            rows = batches([member.seed], len(x), of.batch_size, step, step + 1)[0, 0]
            loss = task.loss(module(x[rows]), y[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                project()
            step += 1
    return module


@pytest.mark.parametrize("executor", ["stacked", "loop"])
@pytest.mark.parametrize(
    ("radius", "weight_decay", "momentum"), [(1.0, 0.0, 0.0), (3.0, 0.0, 0.0), (None, 0.05, 0.9), (None, 0.1, 0.0)]
)
def test_packed_equals_ordinary_training_in_float64(
    tmp_path: Path, executor: str, radius: float | None, weight_decay: float, momentum: float
) -> None:
    of = recipe(dtype="float64", sphere_radius=radius)
    lrs = (1e-3, 2e-2)
    members = two_phase(of, lrs=lrs, finetune_lrs=(1e-3,), seeds=(0, 5), weight_decay=weight_decay, momentum=momentum)
    run(shared_pack(members), tmp_path, executor=executor)
    kept = Checkpoints(tmp_path / "checkpoints")
    for member in members:
        expected = by_hand(member).state_dict()
        for name, value in kept.weights([(member.member_id, "end")]).items():
            assert (value[0] - expected[name]).abs().max() <= 1e-12 * max(1.0, float(expected[name].abs().max()))


@pytest.mark.slow
def test_bits_do_not_depend_on_pack_size_slot_or_neighbours(tmp_path: Path) -> None:
    members = two_phase(recipe(), lrs=(1e-3, 4e-3, 1.6e-2), finetune_lrs=(1e-3, 1e-4), seeds=(0, 1, 2))
    roots, tuned = members[:9], members[9:]
    everyone = facts(run(shared_pack(members, measure=FULL), tmp_path / "all"))
    reverse = facts(run(shared_pack([*roots[::-1], *tuned[::-1]], measure=FULL), tmp_path / "reversed"))
    narrow = facts(run(shared_pack(members, width=4, measure=FULL), tmp_path / "narrow"))
    pair = [roots[4], roots[7]]
    few = facts(run(shared_pack(pair, measure=FULL), tmp_path / "pair"))
    alone = facts(run(shared_pack(pair[:1], measure=FULL), tmp_path / "alone"))
    assert everyone == reverse == narrow
    assert few == {member.member_id: everyone[member.member_id] for member in pair}
    assert alone == {pair[0].member_id: everyone[pair[0].member_id]}


@pytest.mark.slow
def test_shared_beginning_equals_separate_training(tmp_path: Path) -> None:
    members = two_phase(recipe(), lrs=(1e-3, 2e-2), finetune_lrs=(1e-3, 1e-4), seeds=(0, 1))
    run(shared_pack(members, measure=FULL), tmp_path / "shared")
    shared = Checkpoints(tmp_path / "shared" / "checkpoints")
    for member in members[4:]:
        run(separate_pack(member, measure=FULL), tmp_path / "separate")
    separate = Checkpoints(tmp_path / "separate" / "checkpoints")
    for member in members[4:]:
        key = [(member.member_id, "end")]
        for name, value in separate.weights(key).items():
            assert torch.equal(value, shared.weights(key)[name])


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_member_that_overflows_changes_nobody(tmp_path: Path, executor: str) -> None:
    of = recipe(sphere_radius=None)
    sane = two_phase(of, lrs=(1e-2,), finetune_lrs=(1e-3,), seeds=(0, 1, 2), weight_decay=0.1)
    wild = two_phase(of, lrs=(1e6,), finetune_lrs=(1e-3,), seeds=(1,), weight_decay=0.1)
    members = [*sane[:2], wild[0], sane[2], *sane[3:], wild[1]]
    without = run(shared_pack(sane, measure=FULL), tmp_path / "without", executor=executor)
    reports = run(shared_pack(members, measure=FULL), tmp_path / "with", executor=executor)
    found = facts(reports)
    assert {member.member_id: found[member.member_id] for member in sane} == facts(without)
    statuses = reports[-1].statuses
    assert statuses is not None
    assert statuses[wild[0].member_id].status is Status.NONFINITE
    assert "between steps 0 and 8, at lr 1e+06" in statuses[wild[0].member_id].status_reason
    assert statuses[wild[1].member_id].status is Status.NONFINITE
    assert all(statuses[member.member_id].status is Status.COMPLETED for member in sane)
    assert list(found[wild[0].member_id]) == [(8,)]


@pytest.mark.parametrize("executor", ["stacked", "loop"])
def test_resumed_equals_uninterrupted(tmp_path: Path, executor: str) -> None:
    members = two_phase(recipe(), lrs=(1e-3, 2e-2), finetune_lrs=(1e-3,), seeds=(0, 1), momentum=0.5)
    pack = shared_pack(members, width=3, measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor=executor))
    for calls in range(1, 12):
        seen: list[object] = []
        folder = tmp_path / f"stopped-{calls}"
        count = iter(range(10_000))
        stop_at = calls
        first = run(pack, folder, executor=executor, stop=lambda c=count, s=stop_at: next(c) >= s)
        seen += first
        assert not first or not first[-1].done or calls > 4  # how often it looks depends on how fast it is
        seen += run(pack, folder, executor=executor, attempt=1)
        assert facts(seen) == whole, f"stopped at the {calls}. look"  # type: ignore[arg-type]


def test_finished_pack_is_not_trained_again(tmp_path: Path) -> None:
    pack = shared_pack(two_phase(recipe(), lrs=(1e-3,), seeds=(0, 1)))
    first = run(pack, tmp_path)
    again = run(pack, tmp_path, attempt=1)
    assert len(again) == 1
    assert again[0].done
    assert not again[0].epochs
    assert again[0].statuses == first[-1].statuses
    assert again[0].member_steps == pack.member_steps


def test_unsaved_rows_come_again_under_the_same_part(tmp_path: Path) -> None:
    pack = shared_pack(two_phase(recipe(), lrs=(1e-3,), seeds=(0, 1)), measure=Measure(report_every=4))
    whole = run(pack, tmp_path / "whole", save_seconds=0.0)
    parts: dict[int, dict[object, object]] = {}
    killed = 0
    for attempt in range(40):
        from trainables.loop import train

        rows: dict[int, dict[object, object]] = {}
        finished = False
        for position, report in enumerate(
            train(pack, folder=tmp_path / "killed", attempt=attempt, executor="stacked", save_seconds=0.0)
        ):
            rows.setdefault(report.part, {}).update({(r.member_id, r.step): r.test_loss for r in report.epochs})
            if report.flush and report.part in rows:
                parts[report.part] = rows[report.part]
            finished = report.done
            if position == 3:
                killed += 1
                break  # as if killed: between making rows durable and saving the state, or before
        if finished:
            break
    expected = {(r.member_id, r.step): r.test_loss for report in whole for r in report.epochs}
    joined = [item for part in parts.values() for item in part.items()]
    assert killed > 1
    assert len(joined) == len(dict(joined))
    assert dict(joined) == expected


def test_averages_are_means_of_kept_weights(tmp_path: Path) -> None:
    members = two_phase(recipe(), lrs=(1e-2,), seeds=(0, 1))
    pack = shared_pack(members, measure=Measure(report_every=8, swa=SWA, keep=(18, 20, 22, 24)))
    run(pack, tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints")
    for member in members:
        for window, steps in ((2, (22, 24)), (4, (18, 20, 22, 24))):
            parts = kept.weights([(member.member_id, f"step@{step}") for step in steps])
            for name, average in kept.weights([(member.member_id, f"swa@{window}")]).items():
                torch.testing.assert_close(average[0], parts[name].mean(0), rtol=1e-6, atol=1e-7)


def test_weights_load_into_a_plain_module(tmp_path: Path) -> None:
    members = two_phase(recipe(), lrs=(1e-2,), seeds=(0, 3))
    reports = run(shared_pack(members), tmp_path)
    for member in members:
        module = load_member(tmp_path / "checkpoints", member.member_id)
        test = build_task(member.recipe, member.data_seed).test
        error = (module(test.x.float()).argmax(1) != test.y).float().mean()
        row = facts(reports)[member.member_id][24, "final", "test", "end", "error"]
        assert error.item() == pytest.approx(row["value"], abs=1e-6)  # type: ignore[index]


def test_sphere_holds_its_radius(tmp_path: Path) -> None:
    reports = run(shared_pack(two_phase(recipe(sphere_radius=2.0), lrs=(1e-3, 0.3), seeds=(0,))), tmp_path)
    norms = [row.weight_norm_sq for report in reports for row in report.epochs]
    assert norms == pytest.approx([4.0] * len(norms), rel=1e-5)


@pytest.mark.slow
def test_same_rows_in_another_process(tmp_path: Path) -> None:
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]);"
        "from packs import *; from pathlib import Path;"
        "found = facts(run(shared_pack(two_phase(recipe(), lrs=(1e-3, 2e-2), seeds=(0, 1))), Path(sys.argv[2])));"
        "print(json.dumps({m: sorted(map(str, rows.items())) for m, rows in found.items()}))"
    )
    here = Path(__file__).parent
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script, str(here), str(tmp_path / str(i))],
            capture_output=True,
            text=True,
            check=True,
            cwd=here.parents[1],
        ).stdout
        for i in range(2)
    ]
    assert outputs[0] == outputs[1]
    members = two_phase(recipe(), lrs=(1e-3, 2e-2), seeds=(0, 1))
    mine = facts(run(shared_pack(members), tmp_path / "mine"))
    assert json.loads(outputs[0]) == {m: sorted(map(str, rows.items())) for m, rows in mine.items()}
    other = facts(run(shared_pack(two_phase(recipe(), lrs=(1e-3,), seeds=(7, 8))), tmp_path / "other"))
    assert not set(other) & set(mine)
    losses = [
        {row["train_loss"] for rows in f.values() for row in rows.values() if "train_loss" in row}
        for f in (mine, other)
    ]  # type: ignore[operator,index]
    assert not losses[0] & losses[1]


def test_batches_are_epochs_of_permutations() -> None:
    table = batches([3, 9], 50, 8, 0, 18)
    per_epoch = steps_per_epoch(50, 8)
    assert per_epoch == 6
    for seed in range(2):
        for epoch in range(3):
            seen = table[epoch * 6 : epoch * 6 + 6, seed].flatten().tolist()
            assert len(set(seen)) == 48
    assert not torch.equal(table[:6], table[6:12])
    assert not torch.equal(table[:, 0], table[:, 1])
    assert torch.equal(batches([9], 50, 8, 7, 11)[:, 0], table[7:11, 1])
    counts = torch.bincount(batches(range(200), 50, 8, 0, 1).flatten(), minlength=50)
    assert float((counts - 32).square().sum() / 32) < 95  # chi-square with 49 degrees of freedom: 1e-4 beyond 95
