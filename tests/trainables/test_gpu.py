"""What the executors promise on a GPU: the same mathematics, and bits that neither company nor a stop changes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from packs import facts, recipe, run, shared_pack
from torch import Tensor

from trainables.checkpoint import Checkpoints
from trainables.executors import modules, stacked
from trainables.executors.base import ExecutorName
from trainables.executors.capture import Graph
from trainables.rows import Status
from trainables.setting import Setting
from trainables.spec import Labels, Measure, Member, Phase, Recipe, Swa

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
FULL = Measure(
    report_every=4,
    swa={"pretrain": Swa(every=2, windows=(2,))},
    norm_statistics="training_set",
    trace={"pretrain": 3},
    labels=Labels(steps=(6,), samples=20),
)
LRS = (1e-3, 3e-3, 1e-2, 3e-2)
EVERYWHERE = [
    ("loop", "conv"),
    ("branches", "conv"),
    ("branches", "dropped"),
    ("branches", "dense"),
    ("stacked", "dense"),
    ("stacked", "normed"),
]


@pytest.fixture(autouse=True)
def without_leftovers() -> Iterator[None]:
    """What one test leaves in the allocator is not the next one's problem."""
    yield
    with contextlib.suppress(RuntimeError):
        torch.cuda.empty_cache()


def of(network: str, **changes: object) -> Recipe:
    arguments = {"network": network, **({"dropout": 0.3} if network == "dropped" else {})}
    fields = {"task": "tiny:images", "task_args": arguments, "model": None, "model_args": {}, "sphere_radius": None}
    return recipe(**{**fields, **changes})


def members(
    kind: Recipe, *, lrs: tuple[float, ...] = LRS, seeds: tuple[int, ...] = (0, 1), **phase: object
) -> list[Member]:
    fields = {"name": "pretrain", "steps": 12, "weight_decay": 1e-2, **phase}
    momentum = 0.0 if kind.optimizer.adapts else 0.9
    return [
        Member(recipe=kind, seed=seed, momentum=momentum, phases=(Phase(**fields, lr=lr),))  # type: ignore[arg-type]
        for lr in lrs
        for seed in seeds
    ]


def trained(some: list[Member], folder: Path, executor: str, device: str = DEVICE) -> dict[str, dict[str, Tensor]]:
    """Final weights and buffers of each member, on the CPU."""
    reports = run(shared_pack(some, measure=FULL), folder, executor=executor, device=device)
    assert not [report.note for report in reports if report.note]  # a step that was not recorded would say so here
    kept = Checkpoints(folder / "checkpoints")
    return {
        one.member_id: {name: value[0] for name, value in kept.weights([(one.member_id, "end")]).items()}
        for one in some
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("network", ["conv", "dense", "dropped", "normed"])
def test_executors_and_the_cpu_agree_in_float64(tmp_path: Path, network: str, optimizer: str) -> None:
    kind = of(network, dtype="float64", optimizer=optimizer)
    some = members(kind, grad_noise=1e-3)
    reference = trained(some, tmp_path / "cpu", "loop", "cpu")
    for executor in ("loop", "branches", *(["stacked"] if network in ("dense", "normed") else [])):
        found = trained(some, tmp_path / executor, executor)
        for member, weights in reference.items():
            for name, weight in weights.items():
                torch.testing.assert_close(found[member][name], weight, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("executor", "network"), EVERYWHERE)
def test_bits_do_not_depend_on_company(tmp_path: Path, executor: str, network: str, dtype: str) -> None:
    kind = of(network, dtype=dtype)
    sane, wild = members(kind), members(kind, lrs=(1e30,), seeds=(5,))
    options = {"executor": executor, "device": DEVICE}
    everyone = run(shared_pack([*sane[:3], *wild, *sane[3:]], measure=FULL), tmp_path / "nine", **options)
    reverse = facts(run(shared_pack(sane[::-1], measure=FULL), tmp_path / "reverse", **options))
    half = facts(run(shared_pack(sane[:4], measure=FULL), tmp_path / "half", **options))
    ended = {key: value for report in everyone for key, value in (report.statuses or {}).items()}
    assert ended[wild[0].member_id].status is Status.NONFINITE
    found = facts(everyone)
    for member in sane:
        assert reverse[member.member_id] == found[member.member_id]
    for member in sane[:4]:
        assert half[member.member_id] == found[member.member_id]
    assert len({str(found[member.member_id]) for member in sane}) == len(sane)


@pytest.mark.parametrize(("executor", "network"), EVERYWHERE)
def test_resume_changes_no_bit(tmp_path: Path, executor: str, network: str) -> None:
    pack = shared_pack(members(of(network, dtype="float32")), measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor=executor, device=DEVICE))
    for looks in (0, 1):
        count = iter(range(1000))
        folder = tmp_path / f"stopped-{looks}"
        seen = run(
            pack, folder, executor=executor, device=DEVICE, stop=lambda c=count, s=looks: next(c) >= s, save_seconds=0.0
        )
        assert not seen[-1].done
        seen += run(pack, folder, executor=executor, device=DEVICE, attempt=1)
        assert seen[-1].done
        assert facts(seen) == whole


@pytest.mark.parametrize("module", [modules, stacked])
def test_full_memory_while_recording_costs_speed_and_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    executor, network = ("branches", "conv") if module is modules else ("stacked", "dense")
    pack = shared_pack(members(of(network)), measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor=executor, device=DEVICE))
    tries: list[int] = []

    def full_at_first(step: object, inputs: object, changed: list[Tensor]) -> Graph:
        tries.append(len(changed[0]))
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return Graph(step, inputs, changed)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "Graph", full_at_first)
    reports = run(pack, tmp_path / "halved", executor=executor, device=DEVICE)
    assert len(tries) > 1
    assert facts(reports) == whole
    notes = [report.note for report in reports if report.note]
    assert len(notes) == 1
    assert "memory did not suffice" in notes[0]
    assert "with the same results" in notes[0]


def test_a_step_that_cannot_be_recorded_runs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = members(of("conv"))
    pack = shared_pack(some, measure=FULL)
    plain = modules.LoopExecutor._differentiate

    def reads_back(self: modules.LoopExecutor, *args: object) -> None:
        plain(self, *args)  # type: ignore[arg-type]
        args[6].sum().item()  # type: ignore[attr-defined] # losses: no graph can hold a look at a number

    recorded = facts(run(pack, tmp_path / "recorded", executor="branches", device=DEVICE))
    monkeypatch.setattr(modules.LoopExecutor, "_differentiate", reads_back)
    reports = run(pack, tmp_path / "not", executor="branches", device=DEVICE)
    assert facts(reports) == recorded
    assert [report.note for report in reports if "could not be recorded as a CUDA graph" in report.note]
    assert torch.ones(2, device=DEVICE).sum().item() == 2  # the device is none the worse


def test_bfloat16_follows_float32_on_float32_masters(tmp_path: Path) -> None:
    some = {dtype: members(of("conv", dtype=dtype), steps=40) for dtype in ("float32", "bfloat16")}
    last: dict[str, list[float]] = {}
    for dtype, of_type in some.items():
        pack = shared_pack(of_type, measure=Measure(report_every=40))
        reports = run(pack, tmp_path / dtype, executor="branches", device=DEVICE)
        rows = {row.member_id: row for report in reports for row in report.epochs}
        last[dtype] = [rows[member.member_id].train_loss or 0.0 for member in of_type]
        kept = Checkpoints(tmp_path / dtype / "checkpoints").weights([(of_type[0].member_id, "end")])
        assert {value.dtype for value in kept.values() if value.is_floating_point()} == {torch.float32}
    assert last["bfloat16"] == pytest.approx(last["float32"], rel=0.25)  # 40 steps of a tiny network
    assert last["bfloat16"] != last["float32"]


def test_float32_is_not_rounded_to_tf32(tmp_path: Path) -> None:
    Setting(shared_pack(members(of("conv"))), tmp_path, ExecutorName.LOOP, DEVICE)
    run(shared_pack(members(of("conv"), lrs=(1e-3,), seeds=(0,), steps=1)), tmp_path, executor="loop", device=DEVICE)
    generator = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(8, 64, 16, 16, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    exact = torch.nn.functional.conv2d(x.double(), kernel.double())
    here = torch.nn.functional.conv2d(x.to(DEVICE), kernel.to(DEVICE)).cpu().double()
    assert (here - exact).norm() / exact.norm() < 2e-6  # TF32 has 10 bits: 3e-4
    a, b = torch.randn(256, 256, generator=generator), torch.randn(256, 256, generator=generator)
    product = (a.to(DEVICE) @ b.to(DEVICE)).cpu().double()
    assert (product - a.double() @ b.double()).norm() / product.norm() < 2e-6
