"""Batch norms of many networks at once: the mathematics of torch, statistics that travel with the rows, dead rows."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import SWA, facts, recipe, run, separate_pack, shared_pack, two_phase
from torch import Tensor, nn

from analysis.landscape.norms import with_norms
from analysis.landscape.policy import Norms
from trainables import norm_statistics
from trainables.arena import StackedSplit
from trainables.build import build_task
from trainables.catalog import model_arguments
from trainables.checkpoint import Checkpoints
from trainables.evaluate import Evaluator, Yardstick
from trainables.executors.base import ExecutorName
from trainables.norm_statistics import even_batches, reestimate_norms, reestimate_stacked
from trainables.order import batches
from trainables.population import fresh, to_module_layout
from trainables.rows import Status
from trainables.setting import Setting
from trainables.spec import Measure, Member, Recipe
from trainables.stacking import Stacked, stack
from trainables.tasks.base import per_sample_cross_entropy

FULL = Measure(report_every=8, swa=SWA, keep=(4, 30), norm_statistics="training_set")
AS_STORED = Yardstick(per_sample_cross_entropy, lambda x: x, autocast=False)
EXACT = {"rtol": 1e-12, "atol": 1e-13}


def of(*, model: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    arguments = {**model_arguments("mlp_norm"), "width": 8, **(model or {})}
    return recipe(**{"model": "mlp_norm", "model_args": arguments, "sphere_radius": None, **changes})


def affine() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 7),
        nn.BatchNorm1d(7, momentum=0.3, eps=1e-3),
        nn.GELU(),
        nn.Sequential(nn.Linear(7, 6, bias=False), nn.BatchNorm1d(6, affine=False), nn.LayerNorm(6)),
        nn.Linear(6, 3),
    )


def channels() -> nn.Module:
    """A norm over channels that are followed by an axis of positions."""
    return nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"affine": affine, "channels": channels}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_equal_plain_modules_in_float64(network: str, momentum: float) -> None:
    """Outputs, gradients, weights and running statistics of some steps of SGD; then outputs as they are measured."""
    build, seeds = NETWORKS[network], [3, 1, 4]
    model = stack(build())
    rows = fresh(build, seeds, transposed=model.transposed, momentum=momentum > 0, squares=False, dtype=torch.float64)
    modules, optimisers = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        modules.append(build().double().train())
        optimisers.append(torch.optim.SGD(modules[-1].parameters(), lr=0.1, momentum=momentum, weight_decay=0.01))
    weights, buffers = dict(rows.trained), dict(rows.buffers)
    velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _ in range(5):
        x = 2 * torch.randn(3, 8, 3, 4, dtype=torch.float64) + 1
        before = {name: value.clone() for name, value in buffers.items()}

        def total(
            weights: dict[str, Tensor], x: Tensor = x, buffers: dict[str, Tensor] = buffers
        ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
            out, moved = model.train({**weights, **buffers}, x)
            return out.sin().mean((1, 2)).sum(), (out, moved)

        gradients, (out, moved) = torch.func.grad(total, has_aux=True)(weights)
        assert all(torch.equal(buffers[name], value) for name, value in before.items())  # nothing handed in changes
        assert set(moved) == set(buffers) == set(model.statistics)
        buffers = moved
        for row, (module, optimiser) in enumerate(zip(modules, optimisers, strict=True)):
            expected = module(x[row])
            torch.testing.assert_close(out[row], expected, **EXACT)
            optimiser.zero_grad()
            expected.sin().mean().backward()
            optimiser.step()
            laid = to_module_layout(gradients, model.transposed)
            for name, parameter in module.named_parameters():
                torch.testing.assert_close(laid[name][row], _gradient(parameter), **EXACT)
            for name, buffer in module.named_buffers():
                torch.testing.assert_close(moved[name][row], buffer, **EXACT)
        for name, weight in weights.items():
            velocity[name] = momentum * velocity[name] + gradients[name] + 0.01 * weight
            weights[name] = weight - 0.1 * velocity[name]
    x = torch.randn(3, 5, 3, 4, dtype=torch.float64)
    out = model({**weights, **buffers}, x)
    for row, module in enumerate(modules):
        torch.testing.assert_close(out[row], module.eval()(x[row]), **EXACT)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_one_value_of_each_channel_has_no_variance() -> None:
    model = stack(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    rows = fresh(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        [0, 1],
        transposed=model.transposed,
        momentum=False,
        squares=False,
        dtype=torch.float32,
    )
    with pytest.raises(ValueError, match="more than one value"):
        model.train({**rows.trained, **rows.buffers}, torch.randn(2, 1, 4))


def test_statistics_of_bfloat16_are_taken_in_float32() -> None:
    model = stack(nn.Sequential(nn.BatchNorm1d(5, affine=False)))
    buffers = {
        "0.running_mean": torch.zeros(2, 5),
        "0.running_var": torch.ones(2, 5),
        "0.num_batches_tracked": torch.zeros(2, dtype=torch.long),
    }
    x = (torch.randn(2, 300, 5) + 4).bfloat16()
    out, moved = model.train(buffers, x)
    assert out.dtype == torch.bfloat16
    assert {value.dtype for value in moved.values()} == {torch.float32, torch.long}
    torch.testing.assert_close(moved["0.running_mean"], 0.1 * x.float().mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(moved["0.running_var"], 0.9 + 0.1 * x.float().var(1), rtol=1e-6, atol=0)


def by_hand(member: Member) -> dict[str, Tensor]:
    """State after an ordinary module's training with `torch.optim.SGD`, in float64."""
    task, phase = build_task(member.recipe, member.data_seed), member.phases[0]
    torch.manual_seed(member.seed)
    module = task.model().double().train()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    sgd = torch.optim.SGD(learned, lr=phase.lr, momentum=member.momentum, weight_decay=phase.weight_decay)
    for step in range(phase.steps):
        rows = batches([member.seed], len(task.train), member.recipe.batch_size, step, step + 1)[0, 0]
        sgd.zero_grad()
        task.loss(module(task.train.x[rows].double()), task.train.y[rows]).mean().backward()
        sgd.step()
    return module.state_dict()


@pytest.mark.parametrize(
    ("executor", "trains"),
    [("stacked", "all"), pytest.param("stacked", "hidden", marks=pytest.mark.slow), ("loop", "all")],
)
def test_packed_equals_ordinary_training_in_float64(tmp_path: Path, executor: str, trains: str) -> None:
    kind = of(model={"trains": trains}, dtype="float64")
    members = two_phase(kind, lrs=(1e-2, 0.3), seeds=(0, 5), weight_decay=0.01, momentum=0.9)
    run(shared_pack(members), tmp_path, executor=executor)
    for member in members:
        expected = by_hand(member)
        found = Checkpoints(tmp_path / "checkpoints").weights([(member.member_id, "end")])
        assert set(found) == set(expected)
        for name, value in found.items():
            torch.testing.assert_close(value[0].to(expected[name].dtype), expected[name], rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("trains", ["hidden", "all"])
def test_bits_do_not_depend_on_company(tmp_path: Path, trains: str) -> None:
    kind = of(model={"trains": trains})
    members = two_phase(kind, lrs=(0.01, 0.1, 1.0), finetune_lrs=(0.01,), seeds=(0, 1, 2), weight_decay=0.01)
    roots, tuned = members[:9], members[9:]
    options = {"executor": "stacked"}
    everyone = facts(run(shared_pack(members, measure=FULL), tmp_path / "all", **options))
    reverse = shared_pack([*roots[::-1], *tuned[::-1]], width=5, measure=FULL)
    assert facts(run(reverse, tmp_path / "reversed", **options)) == everyone
    for some in (roots[4:5], [roots[7], roots[4]]):
        few = facts(run(shared_pack(some, measure=FULL), tmp_path / str(len(some)), **options))
        assert few == {member.member_id: everyone[member.member_id] for member in some}
    run(separate_pack(tuned[4], measure=FULL), tmp_path / "separate", **options)
    for group in ("end", "swa@4"):
        one = [(tuned[4].member_id if group == "end" else roots[4].member_id, group)]
        where = tmp_path / ("separate" if group == "end" else "1") / "checkpoints"
        shared = Checkpoints(tmp_path / "all" / "checkpoints").weights(one)
        for name, value in Checkpoints(where).weights(one).items():
            assert torch.equal(value, shared[name]), name


@pytest.mark.slow
def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    pack = shared_pack(two_phase(of(), lrs=(0.01, 0.3), finetune_lrs=(0.01,), seeds=(0, 1)), width=3, measure=FULL)
    whole = facts(run(pack, tmp_path / "whole", executor="stacked"))
    for looks in (1, 3, 6):
        count = iter(range(1000))
        folder = tmp_path / f"stopped-{looks}"
        seen = run(pack, folder, executor="stacked", stop=lambda c=count, s=looks: next(c) >= s)
        seen += run(pack, folder, executor="auto", attempt=1)
        assert facts(seen) == whole


def test_statistics_of_a_dead_row_stay_and_its_neighbours_feel_nothing(tmp_path: Path) -> None:
    sane = two_phase(of(), lrs=(0.1,), seeds=(0, 1, 2))
    wild = two_phase(of(), lrs=(1e25,), seeds=(1,))[0]
    without = facts(run(shared_pack(sane, measure=FULL), tmp_path / "without", executor="stacked"))
    reports = run(shared_pack([sane[0], wild, *sane[1:]], measure=FULL), tmp_path / "with", executor="stacked")
    found, statuses = facts(reports), reports[-1].statuses or {}
    assert statuses[wild.member_id].status is Status.NONFINITE
    assert {member.member_id: found[member.member_id] for member in sane} == without

    setting = Setting(shared_pack([sane[0], wild]), tmp_path, ExecutorName.STACKED, "cpu")
    cohort = setting.cohorts[0]
    rows = setting.populate(cohort)
    seeds, hyper = setting.hyper(cohort, len(rows))
    before = {name: value.clone() for name, value in rows.buffers.items()}
    setting.executor.step(rows, setting.block(cohort, seeds, len(rows), 0, 6), hyper)
    assert rows.alive.tolist() == [True, False]
    counted = rows.buffers["1.num_batches_tracked"].tolist()
    assert counted[0] == 6
    assert counted[1] < 6
    kept = {name: value[1].clone() for name, value in rows.buffers.items()}
    assert all(value.isfinite().all() for value in kept.values())
    setting.executor.step(rows, setting.block(cohort, seeds, len(rows), 6, 9), hyper)
    for name, value in rows.buffers.items():
        assert torch.equal(value[1], kept[name]), name
        assert not torch.equal(value[0], before[name][0]), name


@pytest.mark.parametrize("samples", [40, 500, 501, 1203])
def test_reestimated_statistics_equal_the_loops(samples: int) -> None:
    model = stack(affine())
    rows = fresh(affine, range(5), transposed=model.transposed, momentum=False, squares=False, dtype=torch.float64)
    split = StackedSplit(
        torch.randn(2, samples, 12, dtype=torch.float64) * 3 + 1, torch.zeros(2, samples, dtype=torch.long)
    )
    draws = torch.tensor([0, 1, 0, 1, 1])
    state = {**rows.trained, **{name: torch.full_like(value, 7) for name, value in rows.buffers.items()}}
    looped = to_module_layout(state, model.transposed)
    reestimate_norms(affine(), looped, split, draws, AS_STORED)
    few = {name: value[:1].clone() for name, value in state.items()}
    reestimate_stacked(model, state, split, draws, AS_STORED)
    reestimate_stacked(model, few, split, draws[:1], AS_STORED)
    for name in model.statistics:
        torch.testing.assert_close(state[name], looped[name], **EXACT)
        assert torch.equal(few[name], state[name][:1])  # whoever else is there
    parts = -(-samples // 500)
    assert state["2.num_batches_tracked"].tolist() == [parts] * 5
    if parts == 1:  # then they are plain statistics of the training set, whatever else is in the network
        hidden = split.x[1] @ state["1.weight"][3] + state["1.bias"][3]
        torch.testing.assert_close(state["2.running_mean"][3], hidden.mean(0), **EXACT)
        torch.testing.assert_close(state["2.running_var"][3], hidden.var(0), **EXACT)


@pytest.mark.parametrize("samples", [1, 2, 499, 500, 501, 502, 512, 999, 1001, 50_000])
def test_batches_for_statistics_count_alike(samples: int) -> None:
    parts = list(even_batches(samples))
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(samples))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) <= 500
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-samples // 500)


@pytest.mark.parametrize("samples", [502, 700])
def test_statistics_do_not_hang_on_the_last_few_samples(samples: int) -> None:
    norm = nn.BatchNorm1d(3)
    x = torch.randn(1, samples, 3, generator=torch.Generator().manual_seed(0)).double()
    x[0, -2:] += 100  # which a small last batch would let count for half of all
    state = {name: value[None].clone() for name, value in norm.double().state_dict().items()}
    split = StackedSplit(x, torch.zeros(1, samples, dtype=torch.long))
    reestimate_norms(norm, state, split, torch.tensor([0]), AS_STORED)
    torch.testing.assert_close(state["running_mean"][0], x[0].mean(0), **EXACT)
    library = with_norms(copy.deepcopy(norm), Norms.REESTIMATED, x[0])
    assert torch.equal(library.running_mean, state["running_mean"][0])
    assert torch.equal(library.running_var, state["running_var"][0])


def test_reestimation_leaves_dropout_off_and_chance_alone() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).train()
    x = torch.randn(1, 300, 4)
    state = {name: value[None].clone() for name, value in module.state_dict().items()}
    before = torch.random.get_rng_state()
    reestimate_norms(
        module, state, StackedSplit(x, torch.zeros(1, 300, dtype=torch.long)), torch.tensor([0]), AS_STORED
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    hidden = module[0](x[0])
    torch.testing.assert_close(state["2.running_mean"][0], hidden.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state["2.running_var"][0], hidden.var(0), rtol=1e-5, atol=1e-6)
    assert all(layer.training for layer in module.modules())


def test_reestimation_takes_few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stack(affine())
    rows = fresh(affine, range(5), transposed=model.transposed, momentum=False, squares=False, dtype=torch.float64)
    split = StackedSplit(torch.randn(1, 700, 12, dtype=torch.float64), torch.zeros(1, 700, dtype=torch.long))
    draws = torch.zeros(5, dtype=torch.long)
    whole, parts = ({name: value.clone() for name, value in (rows.trained | rows.buffers).items()} for _ in range(2))
    seen: list[tuple[int, int]] = []
    train = Stacked.train

    def watched(self: Stacked, parameters: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append((x.shape[0], x.shape[1]))
        return train(self, parameters, x)

    monkeypatch.setattr(Stacked, "train", watched)
    reestimate_stacked(model, whole, split, draws, AS_STORED)
    assert set(seen) == {(norm_statistics.ELEMENTS // (500 * 12), 350)}
    seen.clear()
    monkeypatch.setattr(norm_statistics, "ELEMENTS", 3 * 500 * 12)
    reestimate_stacked(model, parts, split, draws, AS_STORED)
    assert seen == [(3, 350)] * 4
    for name in model.statistics:
        torch.testing.assert_close(parts[name], whole[name], **EXACT)


def test_evaluator_rewrites_the_callers_statistics() -> None:
    kind = of(dtype="float64")
    evaluator, task = Evaluator(kind, [0]), build_task(kind, 0)
    torch.manual_seed(0)
    module = task.model().double()
    weights = {name: torch.stack([value, value]) for name, value in module.state_dict().items()}
    evaluator.reestimate_norms(weights, [0, 0])
    looped = {name: torch.stack([value, value]) for name, value in module.state_dict().items()}
    split = StackedSplit(task.train.x.unsqueeze(0), task.train.y.unsqueeze(0))
    reestimate_norms(module, looped, split, torch.tensor([0, 0]), AS_STORED)
    for name, value in weights.items():
        torch.testing.assert_close(value, looped[name], **EXACT)
    found = evaluator(weights, [0, 0], "test")
    module.load_state_dict({name: value[0] for name, value in looped.items()})
    expected = task.loss(module.eval()(task.test.x), task.test.y).mean()
    torch.testing.assert_close(found.loss[1], expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_bfloat16_follows_float32_on_float32_statistics(tmp_path: Path) -> None:
    last = {}
    for dtype in ("float32", "bfloat16"):
        members = two_phase(of(dtype=dtype), lrs=(0.01,), seeds=(0, 1, 2), steps=24)
        reports = run(shared_pack(members, measure=FULL), tmp_path / dtype, executor="stacked")
        assert not [report.note for report in reports if report.note]
        last[dtype] = [row.train_loss for report in reports for row in report.epochs if row.step == 24]
        kept = Checkpoints(tmp_path / dtype / "checkpoints").weights([(members[0].member_id, "end")])
        assert {value.dtype for value in kept.values()} == {torch.float32, torch.long}
    assert last["bfloat16"] == pytest.approx(last["float32"], rel=0.05)
    assert last["bfloat16"] != last["float32"]


@pytest.mark.slow
def test_ordinary_batch_norm_mlp_is_stacked_by_choice(tmp_path: Path) -> None:
    arguments = {"width": 9, "depth": 2, "norm": "batch", "dropout": 0.0}
    members = two_phase(recipe(model="mlp", model_args=arguments, sphere_radius=None), lrs=(0.1,), seeds=(0, 1))
    reports = run(shared_pack(members), tmp_path, executor="auto")
    assert set(reports[-1].seconds_per_step) == {"stacked", "loop"}
