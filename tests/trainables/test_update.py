"""The optimiser on rows against torch's own optimisers, and against its neighbours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trainables.groups import PLAIN, GroupRate, resolve_groups
from trainables.losses import training_loss
from trainables.spec import Group, Optimizer, Recipe, SpecError
from trainables.tasks.base import per_sample_binary_cross_entropy, per_sample_cross_entropy
from trainables.update import Rule, make_rule, row_norm_sq, update_rows

FREE = Rule(on_sphere=(True,), radius=None, decoupled=False)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def corrections(rule: Rule, step: int, rows: int, dtype: torch.dtype) -> Tensor | None:
    if not rule.optimizer.adapts:
        return None
    pair = [1 - rule.beta1 ** (step + 1), math.sqrt(1 - rule.beta2 ** (step + 1))]
    return torch.tensor([pair] * rows, dtype=torch.float64).to(dtype)


class Rows:
    """Rows in training, and what is needed to take steps with them."""

    def __init__(self, rule: Rule, weights: Sequence[Tensor], *, momentum: bool = False) -> None:
        self.rule, self.step = rule, 0
        self.weights = [weight.clone() for weight in weights]
        kept = momentum or rule.optimizer.adapts
        self.first = [torch.zeros_like(weight) for weight in weights] if kept else []
        self.second = [torch.zeros_like(weight) for weight in weights] if rule.optimizer.adapts else []

    def update(
        self,
        gradients: Sequence[Tensor],
        *,
        lr: Tensor,
        weight_decay: Tensor | None = None,
        momentum: Tensor | None = None,
        finite: Tensor | None = None,
    ) -> Tensor:
        rows = len(lr)
        alive = update_rows(
            self.rule,
            self.weights,
            self.first,
            self.second,
            gradients,
            finite=torch.ones(rows, dtype=torch.bool) if finite is None else finite,
            lr=lr,
            root=corrections(self.rule, self.step, rows, lr.dtype),
            weight_decay=torch.zeros_like(lr) if weight_decay is None else weight_decay,
            momentum=torch.zeros_like(lr) if momentum is None else momentum,
        )
        self.step += 1
        return alive


@settings(max_examples=30, deadline=None)
@given(
    lr=st.floats(1e-4, 1.0),
    weight_decay=st.sampled_from([0.0, 1e-3, 0.3]),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_update_equals_torch_sgd_bit_for_bit(
    lr: float, weight_decay: float, momentum: float, nesterov: bool, seed: int
) -> None:
    nesterov = nesterov and momentum > 0
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2, 3, 4, generator=generator)
    ours = Rows(replace(FREE, nesterov=nesterov), [start], momentum=momentum > 0)
    theirs = [nn.Parameter(start[row].clone()) for row in range(2)]
    optimisers = [
        torch.optim.SGD(
            [p], lr=lr * (row + 1), momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, foreach=False
        )
        for row, p in enumerate(theirs)
    ]
    # the optimiser rounds its hyperparameters to float32 as our rows are
    rates = torch.tensor([group["lr"] for o in optimisers for group in o.param_groups])
    for _ in range(4):
        gradient = torch.randn(2, 3, 4, generator=generator)
        decay, mu = torch.full((2,), weight_decay), torch.full((2,), momentum)
        ours.update([gradient], lr=rates, weight_decay=decay, momentum=mu)
        for row, (parameter, optimiser) in enumerate(zip(theirs, optimisers, strict=True)):
            parameter.grad = gradient[row].clone()
            optimiser.step()
    for row, parameter in enumerate(theirs):
        assert torch.equal(ours.weights[0][row], parameter.detach())


def test_decoupled_decay_follows_its_definition() -> None:
    weight = torch.randn(2, 5, dtype=torch.float64)
    expected, buffer = weight.clone(), torch.zeros_like(weight)
    lr, decay, mu = (torch.tensor(pair, dtype=torch.float64) for pair in ([0.1, 0.02], [0.3, 0.0], [0.9, 0.0]))
    ours = Rows(Rule(on_sphere=(False,), radius=None, decoupled=True), [weight], momentum=True)
    for _ in range(3):
        gradient = torch.randn(2, 5, dtype=torch.float64)
        buffer = mu[:, None] * buffer + gradient
        expected = expected - (lr * decay)[:, None] * expected - lr[:, None] * buffer
        ours.update([gradient], lr=lr, weight_decay=decay, momentum=mu)
    torch.testing.assert_close(ours.weights[0], expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("optimizer", [Optimizer.ADAM, Optimizer.ADAMW])
@pytest.mark.parametrize(("beta1", "beta2", "eps"), [(0.9, 0.999, 1e-8), (0.0, 0.5, 1e-3), (0.8, 0.95, 1e-6)])
def test_adam_equals_torch_row_by_row(optimizer: Optimizer, beta1: float, beta2: float, eps: float) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(3, 4), (), (5,)]  # a parameter may be a single number
    start = [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    lrs, decays = [1e-3, 0.3, 0.02], [0.0, 0.1, 0.5]
    rule = Rule((False,) * 3, None, optimizer is Optimizer.ADAMW, optimizer, beta1=beta1, beta2=beta2, eps=eps)
    ours = Rows(rule, start)
    theirs = [[nn.Parameter(weight[row].clone()) for weight in start] for row in range(3)]
    make = torch.optim.AdamW if optimizer is Optimizer.ADAMW else torch.optim.Adam
    optimisers = [
        make(ps, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, foreach=False)
        for ps, lr, decay in zip(theirs, lrs, decays, strict=True)
    ]
    for step in range(50):
        gradients = [torch.randn(3, *s, generator=generator, dtype=torch.float64) * 10.0 ** (step % 5) for s in shapes]
        ours.update(
            gradients, lr=torch.tensor(lrs, dtype=torch.float64), weight_decay=torch.tensor(decays, dtype=torch.float64)
        )
        for row, optimiser in enumerate(optimisers):
            for parameter, gradient in zip(theirs[row], gradients, strict=True):
                parameter.grad = gradient[row].clone()
            optimiser.step()
    for row in range(3):
        for parameter, weight in zip(theirs[row], ours.weights, strict=True):
            torch.testing.assert_close(weight[row], parameter.detach(), **EXACT)


# Adam's second form decays by the plain rate, a fixed rate is not the member's: both would break if the bias
# correction were folded into the rate.
GROUPS = (GroupRate(lr=0.05, weight_decay=0.0), GroupRate(lr_times=0.1), GroupRate(weight_decay=0.7), PLAIN)


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_groups_equal_torch_parameter_groups(optimizer: Optimizer) -> None:
    generator = torch.Generator().manual_seed(4)
    start = [torch.randn(2, 6, generator=generator, dtype=torch.float64) for _ in GROUPS]
    lrs, decays = [0.01, 0.2], [0.3, 0.02]
    rule = Rule((False,) * 4, None, optimizer is Optimizer.ADAMW, optimizer, groups=GROUPS)
    for row in range(2):
        parameters = [nn.Parameter(weight[row].clone()) for weight in start]
        values = [
            {
                "params": [parameter],
                "lr": lrs[row] * group.lr_times if group.lr is None else group.lr,
                "weight_decay": decays[row] if group.weight_decay is None else group.weight_decay,
            }
            for parameter, group in zip(parameters, GROUPS, strict=True)
        ]
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
        optimiser = make(values, lr=1.0)  # type: ignore[operator]
        mine = Rows(rule, start)
        for _ in range(20):
            gradients = [torch.randn(2, 6, generator=generator, dtype=torch.float64) for _ in GROUPS]
            mine.update(
                gradients,
                lr=torch.tensor(lrs, dtype=torch.float64),
                weight_decay=torch.tensor(decays, dtype=torch.float64),
            )
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient[row].clone()
            optimiser.step()
        for parameter, weight in zip(parameters, mine.weights, strict=True):
            torch.testing.assert_close(weight[row], parameter.detach(), **EXACT)


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_the_sphere_holds_its_set_and_leaves_the_others(optimizer: Optimizer) -> None:
    generator = torch.Generator().manual_seed(5)
    start = [torch.randn(3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    rule = Rule((True, False, True), 2.0, optimizer is Optimizer.ADAMW, optimizer)
    ours, free = Rows(rule, start), Rows(replace(rule, radius=None, on_sphere=(False,) * 3), start)
    lr = torch.tensor([0.1, 0.02, 1e-3], dtype=torch.float64)
    for _ in range(5):
        gradients = [torch.randn(3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
        before = [weight.clone() for weight in ours.weights]
        ours.update(gradients, lr=lr)
        norms = row_norm_sq(ours.weights, rule.on_sphere)
        torch.testing.assert_close(norms, torch.full((3,), 4.0).double(), **EXACT)
        free.update(gradients, lr=lr)
        assert torch.equal(ours.weights[1], free.weights[1])  # at the plain rate, as on no sphere
        if optimizer is Optimizer.SGD:  # lr is the effective rate: the step is lr * r^2
            stepped = [
                b - 4 * lr[:, None, None] * g if on else b
                for b, g, on in zip(before, gradients, rule.on_sphere, strict=True)
            ]
            scale = 2 / row_norm_sq(stepped, rule.on_sphere).sqrt()
            torch.testing.assert_close(ours.weights[0], stepped[0] * scale[:, None, None], **EXACT)


RULES: list[Callable[[], Rule]] = [
    lambda: replace(FREE, on_sphere=(True, False), nesterov=True),
    lambda: replace(FREE, on_sphere=(True, False), optimizer=Optimizer.ADAM, radius=1.5),
    lambda: Rule((True, False), None, True, Optimizer.ADAMW, groups=(GroupRate(lr_times=0.3), GroupRate(lr=0.01))),
]


@pytest.mark.parametrize("make", RULES)
def test_rows_ignore_their_neighbours_and_dead_ones_stay(make: Callable[[], Rule]) -> None:
    rule, generator = make(), torch.Generator().manual_seed(6)
    start = [torch.randn(4, 3, 5, generator=generator), torch.randn(4, 7, generator=generator)]
    lr = torch.tensor([0.1, 0.02, 0.3, 0.05])
    decay, mu = torch.tensor([0.1, 0.0, 0.2, 0.0]), torch.tensor([0.9, 0.5, 0.9, 0.1])
    whole, alone = Rows(rule, start, momentum=True), Rows(rule, [t[1:3] for t in start], momentum=True)
    finite = torch.ones(4, dtype=torch.bool)
    for step in range(6):
        gradients = [torch.randn(t.shape, generator=generator) for t in start]
        if step == 2:
            gradients[1][0, 3] = math.nan  # row 0 overflows in its gradient, row 3 in its loss
            finite[3] = False
            kept = [t[[0, 3]].clone() for t in [*whole.weights, *whole.first, *whole.second]]
        finite = whole.update(gradients, lr=lr, weight_decay=decay, momentum=mu, finite=finite)
        both = alone.update([g[1:3] for g in gradients], lr=lr[1:3], weight_decay=decay[1:3], momentum=mu[1:3])
        assert both.all()
    assert finite.tolist() == [False, True, True, False]
    for ours, theirs in zip(
        [*whole.weights, *whole.first, *whole.second], [*alone.weights, *alone.first, *alone.second], strict=True
    ):
        assert torch.equal(ours[1:3], theirs)
    for tensor, before in zip([*whole.weights, *whole.first, *whole.second], kept, strict=True):
        assert torch.equal(tensor[[0, 3]], before)


@pytest.mark.slow
@pytest.mark.parametrize("make", RULES)
def test_the_step_compiles_as_one_graph(make: Callable[[], Rule]) -> None:
    rule, generator = make(), torch.Generator().manual_seed(7)
    start = [torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)]
    plain, compiled = Rows(rule, start, momentum=True), Rows(rule, start, momentum=True)
    gradients = [torch.randn(t.shape, generator=generator) for t in start]
    values = {"finite": torch.ones(3, dtype=torch.bool), "lr": torch.tensor([0.1, 0.2, 0.3])}
    values |= {"weight_decay": torch.full((3,), 0.1), "momentum": torch.full((3,), 0.9)}
    root = corrections(rule, 0, 3, torch.float32)

    def step(rows: Rows) -> Callable[[], Tensor]:
        return lambda: update_rows(rule, rows.weights, rows.first, rows.second, gradients, root=root, **values)

    step(plain)()
    torch.compile(step(compiled), fullgraph=True, dynamic=False)()
    for ours, theirs in zip(plain.weights, compiled.weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


class Net(nn.Module):
    """Two norms, biases, a frozen tensor, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5), nn.LayerNorm(5))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.head = nn.Linear(5, 3)


NAMES = sorted(name for name, parameter in Net().named_parameters() if parameter.requires_grad)


def resolved(*groups: Group) -> dict[str, GroupRate]:
    return dict(zip(NAMES, resolve_groups(Net(), groups, ("body.0.weight",), NAMES), strict=True))


def chosen(*parameters: str) -> set[str]:
    return {name for name, rate in resolved(Group(parameters=parameters, lr_times=2.0)).items() if rate.lr_times == 2}


def test_groups_by_pattern_and_by_set() -> None:
    assert chosen("body.0.*") == {"body.0.weight", "body.0.bias"}
    assert chosen("@bias") == {"body.0.bias", "body.1.bias", "body.2.bias", "body.3.bias", "head.bias"}
    assert chosen("@norm") == {"body.1.weight", "body.1.bias", "body.3.weight", "body.3.bias"}
    assert chosen("@head") == {"head.weight", "head.bias"}
    assert chosen("@scale_invariant") == {"body.0.weight"}
    assert chosen("@other") == set(NAMES) - {"body.0.weight"}
    assert chosen("@head", "body.2.bias") == {"head.weight", "head.bias", "body.2.bias"}
    first = resolved(Group(parameters=("@norm",), weight_decay=0), Group(parameters=("*",), lr=0.1))
    assert first["body.1.bias"] == GroupRate(weight_decay=0.0)  # the first group that names it holds, as a whole
    assert first["body.0.bias"] == GroupRate(lr=0.1)
    assert resolve_groups(Net(), (), (), NAMES) == ()


def test_groups_that_name_nothing_are_all_told() -> None:
    with pytest.raises(SpecError) as caught:
        resolved(
            Group(parameters=("bodi.*", "@head"), lr=0.1),
            Group(parameters=("@norms",), lr=0.1),
            Group(parameters=("scale",), lr=0.1),
        )
    assert len(caught.value.faults) == 3
    for fault, words in zip(caught.value.faults, ("bodi", "@norms", "'scale'"), strict=True):
        assert words in fault
    assert "body.0.bias" in caught.value.faults[0]
    assert "@scale_invariant" in caught.value.faults[1]


def test_a_rule_says_what_the_recipe_says() -> None:
    recipe = Recipe(
        task="t:t",
        batch_size=4,
        optimizer="adamw",  # type: ignore[arg-type]
        beta1=0.8,
        eps=1e-3,
        groups=(Group(parameters=("@norm", "@bias"), weight_decay=0.0),),
    )
    rule = make_rule(recipe, Net(), ("body.0.weight",))
    assert (rule.optimizer, rule.decoupled, rule.beta1, rule.eps) == (Optimizer.ADAMW, True, 0.8, 1e-3)
    assert [rule.groups[i].weight_decay for i, name in enumerate(NAMES) if name.endswith("bias")] == [0.0] * 5
    assert rule.on_sphere == tuple(name == "body.0.weight" for name in NAMES)
    assert hash(rule) == hash(make_rule(recipe, Net(), ("body.0.weight",)))


def test_smoothed_losses_equal_their_definition() -> None:
    logits, y = torch.randn(7, 5, dtype=torch.float64), torch.randint(0, 5, (7,))
    logs = logits.log_softmax(1)
    expected = -(0.9 * logs[torch.arange(7), y] + 0.1 * logs.mean(1))
    torch.testing.assert_close(training_loss(per_sample_cross_entropy, 0.1)(logits, y), expected, **EXACT)
    logit, target = torch.randn(7, 1, dtype=torch.float64), torch.randint(0, 2, (7,)).double()
    p, smooth = logit[:, 0].sigmoid(), target * 0.8 + 0.1
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log())
    torch.testing.assert_close(training_loss(per_sample_binary_cross_entropy, 0.2)(logit, target), expected, **EXACT)
    assert training_loss(per_sample_cross_entropy, 0.0) is per_sample_cross_entropy
    assert training_loss(per_sample_cross_entropy, 0.1) == training_loss(per_sample_cross_entropy, 0.1)
    assert len({training_loss(per_sample_cross_entropy, share) for share in (0.1, 0.1, 0.2)}) == 2


def test_a_loss_of_ones_own_is_not_smoothed() -> None:
    def hinge(logits: Tensor, y: Tensor) -> Tensor:
        return logits[:, 0] * y

    assert training_loss(hinge, 0.0) is hinge
    with pytest.raises(SpecError, match=r"label_smoothing needs .* found '.*hinge'; set train.label_smoothing to 0"):
        training_loss(hinge, 0.1)


def test_norm_of_rows_counts_scalar_parameters_too() -> None:
    tensors = [torch.tensor([2.0, 3.0]), torch.tensor([[1.0, 2.0], [0.0, 4.0]])]
    assert row_norm_sq(tensors, (True, True)).tolist() == [9.0, 25.0]
    assert row_norm_sq(tensors, (True, False)).tolist() == [4.0, 9.0]
