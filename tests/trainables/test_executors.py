"""What every executor promises, on stored images with augmentation, encoding, norm buffers, Adam, noise and curves."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from packs import facts, recipe, run, separate_pack, shared_pack
from torch import Tensor, nn

from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.curves import Curve, factors
from trainables.executors import base, modules, stacked
from trainables.executors.base import halving
from trainables.executors.choice import fastest
from trainables.order import batches, sample_bits
from trainables.rows import EpochRow
from trainables.spec import Group, Measure, Member, Phase, Recipe, Swa

FULL = Measure(report_every=4, swa={"pretrain": Swa(every=2, windows=(2,))}, norm_statistics="training_set")


def of(**changes: object) -> Recipe:
    arguments = changes.pop("args", {})
    return recipe(**{"task": "tiny:images", "task_args": arguments, "model": None, "model_args": {}, **changes})


def members(
    kind: Recipe, *, lrs: tuple[float, ...], seeds: tuple[int, ...] = (0, 1), steps: int = 10, **phase: object
) -> list[Member]:
    momentum = phase.pop("momentum", 0.0)
    return [
        Member(
            recipe=kind,
            seed=seed,
            data_seed=seed,
            momentum=momentum,  # type: ignore[arg-type]
            phases=(Phase(name="pretrain", steps=steps, lr=lr, **phase),),  # type: ignore[arg-type]
        )
        for lr in lrs
        for seed in seeds
    ]


def weights(folder: Path, member: Member, group: str = "end") -> dict[str, Tensor]:
    return {
        name: value[0]
        for name, value in Checkpoints(folder / "checkpoints").weights([(member.member_id, group)]).items()
    }


def by_torch(member: Member, optimiser: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> nn.Module:
    """The same run with torch's own optimiser, loss and scheduler-free loop, in float64."""
    kind = member.recipe
    task = build_task(kind, member.data_seed)
    torch.manual_seed(member.seed)
    module = task.model().double()
    optim = optimiser([parameter for parameter in module.parameters() if parameter.requires_grad])
    phase = member.phases[0]
    for step in range(phase.steps):
        table = batches([member.seed], len(task.train), kind.batch_size, step, step + 1)
        x = task.train.x[table[0, 0]]
        if task.augment is not None:
            x = task.augment(x, sample_bits([member.seed], table, len(task.train), kind.batch_size, step)[0, 0])
        for group in optim.param_groups:
            group["lr"] = phase.lr * float(factors(phase.curve, phase.steps, step, step + 1)[0])
        loss = nn.functional.cross_entropy(
            module(task.inputs(x, torch.float64)), task.train.y[table[0, 0]], label_smoothing=kind.label_smoothing
        )
        optim.zero_grad()
        loss.backward()
        optim.step()
    return module


CASES = {
    "sgd": ({}, {"momentum": 0.9, "weight_decay": 1e-2}, lambda p: torch.optim.SGD(p, momentum=0.9, weight_decay=1e-2)),
    "nesterov": (
        {"nesterov": True},
        {"momentum": 0.9, "weight_decay": 1e-2},
        lambda p: torch.optim.SGD(p, momentum=0.9, weight_decay=1e-2, nesterov=True),
    ),
    # eps not too small: Adam divides gradients that are zero but for rounding by it
    "adam": (
        {"optimizer": "adam", "eps": 1e-4},
        {"weight_decay": 1e-2},
        lambda p: torch.optim.Adam(p, weight_decay=1e-2, eps=1e-4),
    ),
    "adamw": (
        {"optimizer": "adamw", "eps": 1e-4},
        {"weight_decay": 1e-1},
        lambda p: torch.optim.AdamW(p, weight_decay=1e-1, eps=1e-4),
    ),
}


@pytest.mark.parametrize("executor", ["stacked", "loop", "branches"])
@pytest.mark.parametrize("case", CASES)
def test_equals_torch_in_float64(tmp_path: Path, executor: str, case: str) -> None:
    fields, phase, optimiser = CASES[case]
    kind = of(args={"network": "dense"}, dtype="float64", sphere_radius=None, label_smoothing=0.1, **fields)
    pair = members(kind, lrs=(1e-3, 1e-2), curve=Curve(kind="cosine", warmup=3), **phase)
    run(shared_pack(pair), tmp_path, executor=executor)
    for member in pair:
        expected = by_torch(member, optimiser).state_dict()
        for name, value in weights(tmp_path, member).items():
            assert (value - expected[name]).abs().max() <= 1e-11 * max(1.0, float(expected[name].abs().max())), name


@pytest.mark.parametrize("executor", ["branches", "grouped"])
def test_networks_with_norm_buffers_equal_torch_in_float64(tmp_path: Path, executor: str) -> None:
    kind = of(args={"network": "wide"}, dtype="float64", sphere_radius=None)
    pair = members(kind, lrs=(1e-2, 1e-1, 0.3), seeds=(0,), momentum=0.5)
    run(shared_pack(pair), tmp_path, executor=executor)
    for member in pair:
        expected = by_torch(member, lambda p: torch.optim.SGD(p, momentum=0.5)).state_dict()
        for name, value in weights(tmp_path, member).items():
            assert torch.allclose(value, expected[name], rtol=1e-10, atol=1e-11), name


COMPANY = [*product(["loop", "branches"], ["conv", "dropped"]), ("grouped", "wide")]


@pytest.mark.parametrize(("executor", "network"), COMPANY)
def test_bits_do_not_depend_on_company(tmp_path: Path, executor: str, network: str) -> None:
    arguments = {"network": network, **({"dropout": 0.3} if network == "dropped" else {})}
    noise = {"activation_noise": 0.2} if network == "conv" else {}
    kind = of(args=arguments, sphere_radius=None)
    sane = members(kind, lrs=(1e-2, 1e-1, 1.0), grad_noise=1e-3, weight_decay=0.1, **noise)
    wild = members(kind, lrs=(1e30,), grad_noise=1e-3, weight_decay=0.1, **noise)
    everyone = facts(run(shared_pack([*sane[:2], wild[0], *sane[2:]], measure=FULL), tmp_path / "a", executor=executor))
    reverse = facts(run(shared_pack(sane[::-1], measure=FULL, width=4), tmp_path / "b", executor=executor))
    alone = facts(run(shared_pack(sane[3:4], measure=FULL), tmp_path / "c", executor=executor))
    assert {key: everyone[key] for key in reverse} == reverse
    assert alone == {sane[3].member_id: everyone[sane[3].member_id]}
    assert len({str(rows) for rows in everyone.values()}) == 7


@pytest.mark.parametrize("network", ["conv", "dense"])
def test_resume_and_shared_beginnings_change_no_bit(tmp_path: Path, network: str) -> None:
    curve = Curve(kind="loss", below=1.05, check_every=4, times=0.1)
    kind = of(args={"network": network}, sphere_radius=None, optimizer="adam")
    roots = members(kind, lrs=(1e-2, 3e-2), curve=curve, steps=12)
    tuned = [
        Member(
            recipe=kind,
            seed=root.seed,
            data_seed=root.data_seed,
            phases=(*root.phases, Phase(name="finetune", steps=6, lr=1e-3, fresh_optimizer=True)),
            parent_id=root.member_id,
            branch_step=12,
        )
        for root in roots
    ]
    pack = shared_pack([*roots, *tuned], measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor="loop"))
    rates = {row["lr"] for row in whole[roots[0].member_id].values() if "lr" in row}  # type: ignore[operator, index]
    assert rates == {1e-2, 1e-3}, "the curve must have waited and then dropped"
    for looks in range(1, 9):
        count = iter(range(1000))
        folder = tmp_path / f"stopped-{looks}"
        seen: list[object] = list(run(pack, folder, executor="loop", stop=lambda c=count, s=looks: next(c) >= s))
        seen += run(pack, folder, executor="auto", attempt=1)
        assert facts(seen) == whole  # type: ignore[arg-type]
    for member in tuned[:2]:
        run(separate_pack(member, measure=FULL), tmp_path / "separate", executor="loop")
        for name, value in weights(tmp_path / "separate", member).items():
            assert torch.equal(value, weights(tmp_path / "whole", member)[name])


def test_executor_may_change_in_mid_run_and_is_recorded(tmp_path: Path) -> None:
    kind = of(args={"network": "dense"}, dtype="float64", sphere_radius=None, optimizer="adamw", eps=1e-4)
    pair = members(kind, lrs=(1e-3, 1e-2), steps=12)
    pack = shared_pack(pair, measure=FULL)
    run(pack, tmp_path / "whole", executor="loop")
    for first, second in (("loop", "stacked"), ("stacked", "branches")):
        count = iter(range(1000))
        folder = tmp_path / first
        run(pack, folder, executor=first, stop=lambda c=count: next(c) >= 2)
        run(pack, folder, executor=second, attempt=1)
        for member in pair:
            for name, value in weights(tmp_path / "whole", member).items():
                assert torch.allclose(value, weights(folder, member)[name], rtol=1e-11, atol=1e-12)
        assert f'"executor": "{second}"' in next((folder / "checkpoints").glob("*.json")).read_text()


@pytest.mark.parametrize("rows", [1, 3])
def test_odd_number_of_rows_may_go_on_in_pairs(tmp_path: Path, rows: int) -> None:
    kind = of(args={"network": "wide"}, dtype="float64", sphere_radius=None)
    some = members(kind, lrs=(1e-3, 1e-2, 1e-1)[:rows], seeds=(0,), steps=12)
    pack = shared_pack(some, measure=Measure(report_every=4, swa={"pretrain": Swa(every=2, windows=(5,))}))
    run(pack, tmp_path / "whole", executor="loop")
    count = iter(range(1000))
    run(pack, tmp_path / "changed", executor="loop", stop=lambda: next(count) >= 2)
    run(pack, tmp_path / "changed", executor="grouped", attempt=1)
    for member in some:
        for group in ("end", "swa@5"):
            for name, value in weights(tmp_path / "whole", member, group).items():
                assert torch.allclose(value, weights(tmp_path / "changed", member, group)[name], rtol=1e-10, atol=1e-11)


def test_choice_is_the_fastest_that_works() -> None:
    class Fake:
        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.seconds = name, seconds

        def step(self, population: object, block: object, hyper: object) -> None:
            import time

            time.sleep(self.seconds)

    class Rows:
        alive = torch.ones(1)

    def broken() -> Fake:
        raise RuntimeError("cannot train here")

    makers = [broken, lambda: Fake("slow", 0.02), lambda: Fake("fast", 0.001)]
    chosen, seconds = fastest(makers, lambda executor: Rows(), [0], None)  # type: ignore[arg-type, list-item, return-value]
    assert chosen.name == "fast"
    assert set(seconds) == {"slow", "fast"}
    with pytest.raises(RuntimeError, match="cannot train here"):
        fastest([broken], lambda executor: Rows(), [0], None)  # type: ignore[arg-type, list-item, return-value]


def test_halving_does_every_row_once_whatever_fits() -> None:
    for rows in range(2, 40):
        for fits in range(2, 12):
            done: list[int] = []

            def work(start: int, stop: int, fits: int = fits, done: list[int] = done) -> None:
                assert stop - start >= 2
                if stop - start > fits + 1:  # a last group may be one larger than asked for, never of one row
                    raise torch.OutOfMemoryError("injected")
                done.extend(range(start, stop))

            halving(rows, 1 << 30, 2, work)
            assert done == list(range(rows))


def test_stacked_pack_that_outgrows_memory_is_halved_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = of(args={"network": "dense"}, sphere_radius=None)
    some = members(kind, lrs=(1e-3, 1e-2, 1e-1), seeds=(0, 1, 2))
    pack = shared_pack(some, measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor="stacked"))
    plain = stacked.StackedExecutor._run

    def small(self: object, start: int, stop: int, *rest: object) -> None:
        if stop - start > 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        plain(self, start, stop, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stacked.StackedExecutor, "_run", small)
    reports = run(pack, tmp_path / "halved", executor="stacked")
    assert facts(reports) == whole
    notes = [report.note for report in reports if report.note]
    assert len(notes) == 1
    assert "memory did not suffice for 9 rows at once; going on with" in notes[0]


def test_evaluation_that_outgrows_memory_takes_fewer_samples_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables import evaluate

    pack = shared_pack(members(of(sphere_radius=None), lrs=(1e-2,)), measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor="loop"))
    judge = evaluate.Yardstick.judge

    def small(self: evaluate.Yardstick, forward: object, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if y.shape[-1] > 12:
            raise torch.OutOfMemoryError("injected")
        return judge(self, forward, x, y)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate.Yardstick, "judge", small)
    halved = facts(run(pack, tmp_path / "halved", executor="loop"))
    for member_id, rows in whole.items():
        for key, row in rows.items():
            for name, value in row.items():  # type: ignore[attr-defined]
                found = halved[member_id][key][name]  # type: ignore[index]
                assert found == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


def test_other_errors_are_not_taken_for_full_memory() -> None:
    assert not base.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert base.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))


def test_test_split_is_looked_at_once_where_choices_can_be_made_on_valid(tmp_path: Path) -> None:
    reports = run(shared_pack(members(of(sphere_radius=None), lrs=(1e-2,)), measure=FULL), tmp_path, executor="loop")
    rows = [row for report in reports for row in report.epochs]
    assert all(row.valid_error is not None and row.test_error is None for row in rows)
    found = {(probe.split, probe.key) for report in reports for probe in report.probes if probe.group == "end"}
    assert ("test", "error") in found


def test_mistake_in_the_users_network_names_the_member(tmp_path: Path) -> None:
    kind = of(task="tiny:failing", sphere_radius=None)
    pair = members(kind, lrs=(1e-2, 1e-1), seeds=(7,))
    with pytest.raises(RuntimeError, match="the user's own mistake") as caught:
        run(shared_pack(pair), tmp_path, executor="loop")
    assert any(pair[1].member_id in note for note in caught.value.__notes__)


def border(tmp_path: Path, dtype: str, lrs: tuple[float, ...]) -> list[bool]:
    """Which rates bring the loss down."""
    kind = of(args={"network": "dense", "augment": False}, sphere_radius=None, dtype=dtype)
    some = members(kind, lrs=lrs, seeds=(0,), steps=150)
    reports = run(shared_pack(some, measure=Measure(report_every=30)), tmp_path / dtype, executor="loop")
    last = {row.member_id: row for report in reports for row in report.epochs if isinstance(row, EpochRow)}
    return [(last[member.member_id].train_loss or 9.0) < 0.05 for member in some]


def test_bfloat16_places_the_convergence_border_in_the_same_grid_cell(tmp_path: Path) -> None:
    lrs = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    exact = border(tmp_path, "float32", lrs)
    assert True in exact
    assert False in exact
    assert border(tmp_path, "bfloat16", lrs) == exact


def test_parameter_groups_reach_the_update(tmp_path: Path) -> None:
    kind = of(sphere_radius=None, groups=(Group(parameters=("conv1.*",), lr=0.0),))
    one = members(kind, lrs=(1e-1,), seeds=(0,))
    run(shared_pack(one), tmp_path, executor="loop")
    torch.manual_seed(0)
    fresh = build_task(kind, 0).model().state_dict()
    after = weights(tmp_path, one[0])
    assert torch.equal(after["conv1.weight"], fresh["conv1.weight"])
    assert not torch.equal(after["conv2.weight"], fresh["conv2.weight"])


def test_branches_run_unrecorded_without_a_gpu() -> None:
    assert modules.BranchesExecutor.name == "branches"
    if not torch.cuda.is_available():
        with pytest.raises((AssertionError, RuntimeError)):
            torch.cuda.CUDAGraph()
