"""The parts under a pack: batched forward, optimiser, scale invariance, evaluation, averages of norm statistics."""

import numpy as np
import pytest
import torch
from packs import facts, recipe, run, separate_pack, shared_pack, two_phase
from torch import nn

from trainables.arena import StackedSplit
from trainables.build import build_task
from trainables.evaluate import Evaluator, Yardstick, evaluate_loop, evaluate_stacked
from trainables.executors import stacked
from trainables.invariance import scale_invariant_parameters
from trainables.models.mlp import mlp_si
from trainables.norm_statistics import reestimate_norms
from trainables.population import fresh, to_module_layout
from trainables.spec import Measure, Member, Phase, Recipe, SpecError
from trainables.stacking import NotStackable, stack
from trainables.tasks import Split, Task
from trainables.tasks.base import per_sample_cross_entropy

AS_STORED = Yardstick(per_sample_cross_entropy, lambda x: x, autocast=False)
PLAIN = {"momentum": False, "squares": False}


def mixed_network() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 7),
        nn.LayerNorm(7),
        nn.GELU(),
        nn.Sequential(nn.Linear(7, 7, bias=False), nn.LayerNorm(7, elementwise_affine=False), nn.SiLU()),
        nn.Identity(),
        nn.Linear(7, 3),
        nn.Tanh(),
    )


@pytest.mark.parametrize(
    "build", [mixed_network, lambda: mlp_si((12,), 3, width=9, depth=3, head_norm=10.0, norm_eps=1e-7)]
)
def test_stacked_forward_equals_each_module(build: object) -> None:
    model = stack(build())  # type: ignore[operator]
    population = fresh(build, [3, 1, 4], transposed=model.transposed, **PLAIN, dtype=torch.float64)  # type: ignore[arg-type]
    x = torch.randn(3, 5, 3, 4, dtype=torch.float64) if build is mixed_network else torch.randn(3, 5, 12).double()
    out = model({**population.trained, **population.frozen}, x)
    for row, seed in enumerate([3, 1, 4]):
        torch.manual_seed(seed)
        module = build().double()  # type: ignore[operator]
        torch.testing.assert_close(out[row], module(x[row]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3),
        nn.BatchNorm2d(4),
        nn.BatchNorm1d(4, momentum=None),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.Dropout(),
        nn.GELU(approximate="tanh"),
    ],
)
def test_layers_without_batched_form_are_named(layer: nn.Module) -> None:
    with pytest.raises(NotStackable, match=type(layer).__name__):
        stack(nn.Sequential(nn.Linear(4, 4), layer))


def test_shared_parameters_are_refused() -> None:
    linear = nn.Linear(4, 4)
    with pytest.raises(NotStackable, match="share"):
        stack(nn.Sequential(linear, nn.ReLU(), linear))


def _task(build: object, classes: int = 3) -> Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 2, 6, 6, generator=generator)
    y = torch.randint(0, classes, (80,), generator=generator)
    return Task(model=build, train=Split(x, y), test=Split(x[:20], y[:20]))  # type: ignore[arg-type]


def conv_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 3),
    )


def test_scale_invariance_is_found_by_measurement() -> None:
    for of in (recipe(), recipe(task="tick_features", task_args={"train_size": 64})):
        task = build_task(of, 0)
        assert scale_invariant_parameters(task) == ("0.weight", "3.weight")
        torch.manual_seed(5)
        module, x, y = task.model().double(), task.train.x, task.train.y
        before = task.loss(module(x), y)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if name in ("0.weight", "3.weight"):
                    parameter.mul_(1.7)
        torch.testing.assert_close(task.loss(module(x), y), before, rtol=1e-4, atol=1e-6)
    found = scale_invariant_parameters(_task(conv_network))
    assert "0.weight" in found  # norm without affine right behind it
    assert not {"4.weight", "4.bias", "7.weight", "7.bias"} & set(found)
    assert "3.bias" not in found  # the norm behind it takes it away: the loss does not depend on it at all
    assert scale_invariant_parameters(_task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 3)))) == ()


def test_zero_bias_is_not_mistaken_for_invariant() -> None:
    def build() -> nn.Module:
        linear = nn.Linear(72, 3)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(nn.Flatten(), linear)

    assert scale_invariant_parameters(_task(build)) == ()


def test_sphere_without_invariant_parameters_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    task = _task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 3)))
    monkeypatch.setattr("trainables.arena.build_task", lambda _recipe, _seed: task)
    member = Member(
        recipe=Recipe(task="mine:task", batch_size=8, sphere_radius=1.0),
        seed=0,
        phases=(Phase(name="pretrain", steps=2, lr=0.1),),
    )
    with pytest.raises(SpecError, match="needs scale-invariant parameters"):
        run(shared_pack([member]), tmp_path)  # type: ignore[arg-type]


def test_any_module_trains_in_the_loop_and_its_norms_are_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    task = _task(conv_network)
    monkeypatch.setattr("trainables.arena.build_task", lambda _recipe, _seed: task)
    of = Recipe(task="mine:task", batch_size=8)
    members = [
        Member(recipe=of, seed=seed, phases=(Phase(name="pretrain", steps=12, lr=lr),))
        for seed, lr in ((0, 0.05), (1, 0.05), (0, 0.2))
    ]
    together = facts(run(shared_pack(members, measure=Measure(report_every=6)), tmp_path / "together", executor="loop"))  # type: ignore[operator]
    for index, member in enumerate(members):
        alone = facts(
            run(shared_pack([member], measure=Measure(report_every=6)), tmp_path / str(index), executor="loop")
        )  # type: ignore[operator]
        assert alone[member.member_id] == together[member.member_id]
    first, last = together[members[0].member_id][6,], together[members[0].member_id][12,]
    assert last["train_loss"] < first["train_loss"]  # type: ignore[index]


@pytest.mark.parametrize("network", [mixed_network, conv_network])
def test_parameters_keep_their_places_over_branches_and_resumes(
    network: object, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 4) if network is mixed_network else (2, 6, 6)
    x, y = torch.randn(80, *shape, generator=generator), torch.randint(0, 3, (80,), generator=generator)
    task = Task(model=network, train=Split(x, y), test=Split(x[:20], y[:20]))  # type: ignore[arg-type]
    monkeypatch.setattr("trainables.arena.build_task", lambda _recipe, _seed: task)
    members = two_phase(
        Recipe(task="mine:task", batch_size=8), lrs=(0.05, 0.2), finetune_lrs=(0.01,), seeds=(0, 1), data_seed=0
    )
    loop = {"executor": "loop"}  # each run would choose for itself by time, and two executors have two roundings
    whole = facts(run(shared_pack(members), tmp_path / "whole", **loop))  # type: ignore[operator]
    for looks in (2,):
        count = iter(range(1000))
        seen = run(
            shared_pack(members),
            tmp_path / str(looks),
            stop=lambda c=count, s=looks: next(c) >= s,  # type: ignore[operator,misc]
            **loop,
        )
        seen += run(shared_pack(members), tmp_path / str(looks), attempt=1, **loop)  # type: ignore[operator]
        assert facts(seen) == whole
    alone = facts(run(separate_pack(members[-1]), tmp_path / "alone", **loop))[members[-1].member_id]  # type: ignore[operator]
    end = whole[members[-1].member_id]
    assert {key: alone[key] for key in end} == end


def test_norm_statistics_are_exact_averages() -> None:
    module = conv_network()
    x = torch.randn(1, 60, 2, 6, 6) * 3 + 1
    state = {name: torch.stack([t, t]) for name, t in module.state_dict().items()}
    split = StackedSplit(x, torch.zeros(1, 60, dtype=torch.long))
    reestimate_norms(module, state, split, torch.tensor([0, 0]), AS_STORED)
    hidden = module[0](x[0])
    torch.testing.assert_close(state["1.running_mean"][1], hidden.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state["1.running_var"][0], hidden.var((0, 2, 3)), rtol=1e-5, atol=1e-6)
    assert module[1].momentum == 0.1
    assert torch.equal(module[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize("rows", [1, 3, 11])
def test_evaluation_equals_each_module_and_ignores_company(rows: int) -> None:
    model = stack(mlp_si((12,), 4, width=9, depth=2, head_norm=10.0, norm_eps=1e-7))

    def build() -> nn.Module:
        return mlp_si((12,), 4, width=9, depth=2, head_norm=10.0, norm_eps=1e-7)

    split = StackedSplit(torch.randn(2, 30_000, 12), torch.randint(0, 4, (2, 30_000)))
    population = fresh(build, range(11), transposed=model.transposed, **PLAIN, dtype=torch.float32)
    parameters = {name: t[:rows] for name, t in (population.trained | population.frozen).items()}
    everything = population.trained | population.frozen
    draws = torch.arange(11) % 2
    few = evaluate_stacked(model, parameters, split, draws[:rows], AS_STORED)
    all_rows = evaluate_stacked(model, everything, split, draws, AS_STORED)
    assert torch.equal(few.loss, all_rows.loss[:rows])
    assert torch.equal(few.error, all_rows.error[:rows])
    looped = evaluate_loop(build(), to_module_layout(everything, model.transposed), split, draws, AS_STORED)
    torch.testing.assert_close(all_rows.loss, looped.loss, rtol=1e-5, atol=1e-5)
    assert few.n == 30_000
    assert (all_rows.error - looped.error).abs().max() < 1e-3


def test_evaluator_reads_module_layout() -> None:
    of = recipe()
    evaluator = Evaluator(of, [0, 1])
    task = build_task(of, 1)
    torch.manual_seed(0)
    module = task.model()
    weights = {name: t.unsqueeze(0) for name, t in module.state_dict().items()}
    found = evaluator(weights, [1], "test")
    logits = module(task.test.x.float())
    assert found.loss.item() == pytest.approx(task.loss(logits, task.test.y).mean().item(), rel=1e-5)
    assert found.error.item() == pytest.approx((logits.argmax(1) != task.test.y).double().mean().item(), abs=1e-6)
    assert evaluator.trained == ("0.weight", "3.weight")
    assert evaluator.scale_invariant == ("0.weight", "3.weight")


def test_without_a_compiler_the_pack_trains_and_says_so_once(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    members = two_phase(recipe(), lrs=(1e-3, 2e-2), finetune_lrs=(1e-3,), seeds=(0, 1))
    compiled = facts(run(shared_pack(members), tmp_path / "compiled"))  # type: ignore[operator]

    def refuse(*_args: object, **_more: object) -> object:
        def broken(*_inputs: object) -> None:
            raise RuntimeError("no working C++ compiler found")

        return broken

    monkeypatch.setattr(stacked, "_compiled", refuse)
    reports = run(shared_pack(members), tmp_path / "plain")  # type: ignore[operator]
    notes = [report.note for report in reports if report.note]
    assert len(notes) == 1
    assert "could not be compiled" in notes[0]
    assert "no working C++ compiler found" in notes[0]
    plain = facts(reports)
    assert plain.keys() == compiled.keys()
    for member_id, rows in plain.items():
        for key, row in rows.items():
            for name in ("test_loss", "train_loss"):
                if name in row:  # type: ignore[operator]
                    np.testing.assert_allclose(row[name], compiled[member_id][key][name], rtol=2e-3)  # type: ignore[index]
