"""The byte budget: which weights are left out, in which order, and that the trainables keep exactly the rest."""

import json
from pathlib import Path

import pytest
import small
import torch

from sweeps.plan import Plan, plan
from sweeps.schema import Sweep
from sweeps.sweep import sweep_from_mapping
from trainables.checkpoint import Checkpoints
from trainables.loop import train
from trainables.spec import SpecError

BYTES = 4 * (3 * 2 + 2)
"""Weights of the small tasks' linear network."""


def sweep(budget: str | None, **changes: object) -> Sweep:
    """2 initial rates x 3 seeds, each fine-tuned at 4 rates; two windows of averages; one step in the middle."""
    content = small.content(
        phases=[
            {"name": "pretrain", "steps": 60, "swa": {"every": 5, "windows": [2, 3]}},
            {"name": "finetune", "steps": 20},
        ],
        axes={
            "pretrain_lr": {"values": [0.1, 0.5]},
            "finetune_lr": {"values": [0.01, 0.02, 0.04, 0.08]},
            "seed": {"range": 3},
        },
        headline={},
        analysis={"kind": "band", "metric": "auto"},
        measure={"report_every": 10, "keep": [30]},
        run={"executor": "loop", "checkpoint_budget": budget},
    )
    return sweep_from_mapping({**content, **changes})


def planned(budget: str | None) -> Plan:
    return plan(sweep(budget), cores=1, memory_bytes=2**33)


WHOLE = 6 * (1 + 2 + 1) + 24
"""Of each pre-training: its end, two averages, the step; of each fine-tuning: its end."""


def entries(made: Plan) -> dict[tuple[str, str], float]:
    """(member, group) to the fine-tuning's learning rate (0 for pre-trained members), as the plan keeps them."""
    found: dict[tuple[str, str], float] = {}
    for pack in made.packs:
        for segment in pack.segments:
            groups = ["end"] if segment.ends else []
            if segment.parent is None:
                groups += ["swa@2", "swa@3", "step@30"]
            lr = 0.0 if segment.parent is None else segment.phase.lr
            found |= {(segment.owner.member_id, g): lr for g in groups if segment.keeps(g)}
    return found


@pytest.mark.parametrize(
    ("kept", "groups", "lrs", "words"),
    [
        (WHOLE, {"end", "swa@2", "swa@3", "step@30"}, {0.0, 0.01, 0.02, 0.04, 0.08}, None),
        (WHOLE - 6, {"end", "swa@3", "step@30"}, {0.0, 0.01, 0.02, 0.04, 0.08}, "largest window"),
        (WHOLE - 12, {"end", "swa@3"}, {0.0, 0.01, 0.02, 0.04, 0.08}, "measure.keep"),
        (WHOLE - 24, {"end", "swa@3"}, {0.0, 0.01, 0.08}, "lowest and the highest"),
    ],
)
def test_kinds_are_left_out_in_order(kept: int, groups: set[str], lrs: set[float], words: str | None) -> None:
    made = planned(f"{kept * BYTES}B")
    assert made.kept_weights_bytes == kept * BYTES == made.as_json()["kept_weights_bytes"]
    found = entries(made)
    assert len(found) == kept
    assert {group for _, group in found} == groups
    assert set(found.values()) == lrs
    notes = [note for note in made.notes if "checkpoint_budget" in note]
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]
    if words is not None:  # one byte less leaves out the next kind, or seeds
        assert planned(f"{kept * BYTES - 1}B").kept_weights_bytes < kept * BYTES


def test_then_the_first_seeds_stay_whole() -> None:
    of_a_seed = 2 * (1 + 1 + 2)
    made = planned(f"{2 * of_a_seed * BYTES + 5}B")
    assert made.kept_weights_bytes == 2 * of_a_seed * BYTES
    seeds = {segment.owner.member_id: segment.owner.seed for pack in made.packs for segment in pack.segments}
    assert {seeds[member] for member, _ in entries(made)} == {0, 1}
    assert any("all but the first 2 of 3 seeds" in note for note in made.notes)
    with pytest.raises(SpecError, match=rf"weights of one seed, which take {of_a_seed * BYTES} B .* found 255 B"):
        planned(f"{of_a_seed * BYTES - 1}B")


def test_a_budget_changes_no_id_and_no_limit_keeps_all() -> None:
    free, tight = planned(None), planned("300B")
    assert free.checkpoint_budget_bytes is None
    assert free.kept_weights_bytes == WHOLE * BYTES
    assert free.members == tight.members
    assert [pack.pack_id for pack in free.packs] == [pack.pack_id for pack in tight.packs]
    assert planned("300B") == tight or planned("300B").packs == tight.packs


def test_trainables_keep_what_the_plan_says_and_measure_everything(tmp_path: Path) -> None:
    measured = []
    for name, budget in (("free", None), ("seeds", "300B")):
        made = planned(budget)
        rows = set()
        for pack in made.packs:
            for report in train(pack, folder=tmp_path / name, attempt=1, executor="loop"):
                rows |= {(row.member_id, row.group, row.key, row.value) for row in report.probes}
        checkpoints = Checkpoints(tmp_path / name / "checkpoints")
        assert set(checkpoints.entries()) == set(entries(made))
        held = [tensor.numel() * 4 for path in checkpoints.entries() for tensor in checkpoints.weights([path]).values()]
        assert sum(held) == made.kept_weights_bytes
        measured.append(rows)
    assert measured[0] == measured[1]
    assert torch.is_tensor(next(iter(checkpoints.weights([next(iter(checkpoints.entries()))]).values())))
    assert json.dumps(made.as_json())
