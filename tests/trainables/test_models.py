"""Networks: sizes and norms as published, scale invariance where it is claimed and only there."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.build import build_task, model_builder
from trainables.catalog import MODELS, faults_of_model, model_arguments
from trainables.invariance import scale_invariant_parameters
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Split, Task

IMAGE = (3, 32, 32)

# Residual networks stay at width 8 or more: with 4 channels the backward pass of torch on CPUs has crashed.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "mlp": {"width": 16, "norm": "batch", "dropout": 0.1},
    "mlp_si": {"width": 16},
    "mlp_norm": {"width": 16},
    "convnet_si": {"width": 4},
    "convnet_plain": {"width": 4},
    "resnet18_si": {"width": 8},
    "resnet18": {"width": 8},
    "preact_resnet32": {"width": 8},
    "wide_resnet": {"widen": 1, "dropout": 0.1},
    "vit_small": {"width": 32, "depth": 2, "heads": 2, "head_width": 16, "hidden": 32},
}


def make(name: str, *, shape: tuple[int, ...] = IMAGE, outputs: int = 10, seed: int = 0, **args: Any) -> nn.Module:
    torch.manual_seed(seed)
    return model_builder(name, args)(shape, outputs)


def count(module: nn.Module, *, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def trained_norm(module: nn.Module) -> float:
    return math.sqrt(sum(p.square().sum().item() for p in module.parameters() if p.requires_grad))


def task_of(name: str, *, shape: tuple[int, ...] = IMAGE, **args: Any) -> Task:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, *shape, generator=generator)
    y = torch.randint(0, 10, (64,), generator=generator)
    split = Split(x, y)
    return Task(model=lambda: model_builder(name, args)(shape, 10), train=split, test=split)


@pytest.mark.parametrize(
    ("name", "args", "outputs", "parameters", "trained"),
    [
        ("resnet18_si", {}, 10, 2_792_800, 2_790_240),
        ("convnet_si", {}, 10, 390_506, 387_936),
        ("convnet_si", {"width": 128}, 100, 6_299_108, 6_196_608),
        ("convnet_si", {"width": 8, "head_bias": False}, 10, 24_408 + 640, 24_408),
        ("resnet18", {}, 10, 11_173_056, 11_173_056),
        ("wide_resnet", {}, 10, 17_116_634, 17_116_634),
    ],
)
def test_sizes_are_the_published_ones(name: str, args: Any, outputs: int, parameters: int, trained: int) -> None:
    module = make(name, outputs=outputs, **args)
    assert count(module) == parameters
    assert count(module, trained=True) == trained


def test_preact_resnet32_has_32_layers_of_the_stated_widths() -> None:
    module = make("preact_resnet32")
    kernels = [p for _, p in module.named_parameters() if p.dim() == 4]
    assert sum(p.shape[-1] == 3 for p in kernels) + 1 == 32  # 3x3 convolutions and the head
    three = 16 * 27 + sum(2 * n * w * w * 9 for n, w in ((5, 16), (5, 32), (5, 64))) - 9 * (32 * 16 + 64 * 32)
    one = 16 * 32 + 32 * 64
    assert sum(p.numel() for p in kernels) == three + one
    # two norms in each block, one before each shortcut, a last one; a stage's first is as wide as the stage before
    channels = (10 * 16) + (16 + 9 * 32) + (32 + 9 * 64) + (16 + 32) + 64
    assert count(module) == three + one + 2 * channels + 65 * 10


@pytest.mark.parametrize(
    ("name", "args", "outputs", "norm"),
    [
        ("resnet18_si", {}, 10, 28.28),
        ("convnet_si", {}, 10, 12.61),
        ("convnet_si", {"width": 128}, 100, 25.3),
    ],
)
def test_initial_norms_are_the_published_ones(name: str, args: Any, outputs: int, norm: float) -> None:
    module = make(name, outputs=outputs, **args)
    assert trained_norm(module) == pytest.approx(norm, rel=0.02)
    head = module.get_submodule("head")
    assert not any(p.requires_grad for p in head.parameters())
    assert head.weight.norm().item() == pytest.approx(10, rel=1e-6)  # type: ignore[operator, union-attr]
    # a direction of torch's default start, which is uniform: a normal one would reach 3.5 root mean squares and more
    rms = 10 / math.sqrt(head.weight.numel())  # type: ignore[arg-type, operator, union-attr]
    assert head.weight.abs().max().item() == pytest.approx(math.sqrt(3) * rms, rel=0.05)  # type: ignore[operator, union-attr]


def test_wide_resnet_starts_as_published() -> None:
    module = make("wide_resnet", widen=2)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            n = layer.weight.numel()
            assert layer.weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * n))
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()
    assert (module.get_submodule("head").bias == 0).all()  # type: ignore[union-attr, operator]
    with pytest.raises(SpecError, match="6n"):
        make("wide_resnet", depth=17)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_trains_and_is_a_function_of_its_state(name: str) -> None:
    module = make(name, **SMALL[name]).train()
    x, y = torch.randn(8, *IMAGE), torch.arange(8)
    trained = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters() if p.requires_grad}
    fixed = {n: p.detach().clone() for n, p in module.named_parameters() if not p.requires_grad}
    buffers = {n: b.clone() for n, b in module.named_buffers()}
    before = {n: b.clone() for n, b in module.named_buffers()}
    torch.manual_seed(1)
    logits = functional_call(module, {**trained, **fixed, **buffers}, (x,))
    assert logits.shape == (8, 10)
    loss = nn.functional.cross_entropy(logits, y)
    for parameter, gradient in zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True):
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, parameter
    for buffer, value in module.named_buffers():
        assert torch.equal(value, before[buffer])  # only what was handed in changed
    assert all(not torch.equal(buffers[n], before[n]) for n in buffers if n.endswith("running_mean"))
    torch.manual_seed(1)
    assert torch.equal(module(x), logits)
    same, other = make(name, **SMALL[name]), make(name, seed=1, **SMALL[name])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), same.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vit_small"])
def test_other_image_sizes(name: str) -> None:
    for shape in ((1, 8, 8), (3, 16, 16), (3, 12, 20)):
        assert make(name, shape=shape, **SMALL[name])(torch.randn(4, *shape)).shape == (4, 10)


@pytest.mark.parametrize(
    ("name", "args"),
    [("convnet_si", {}), ("resnet18_si", {}), ("preact_resnet32", {"affine": False})],
)
def test_invariant_networks_are_so_in_all_trained_parameters(name: str, args: Any) -> None:
    task = task_of(name, **{**SMALL[name], **args})
    found = scale_invariant_parameters(task)
    module = make(name, **SMALL[name], **args).double().train()
    assert list(found) == [n for n, p in module.named_parameters() if p.requires_grad]
    # again, by hand and for other factors; only the eps of the norms is in the way
    x = task.train.x[:16].double()
    before = module(x)
    for factor in (0.3, 5.0):
        scaled = {n: p * (factor if n in found else 1.0) for n, p in module.named_parameters()}
        torch.testing.assert_close(functional_call(module, scaled, (x,)), before, rtol=0, atol=2e-2)
    exact = make(name, **{**SMALL[name], **args, "norm_eps": 1e-12}).double().train()
    before = exact(x)
    for factor in (0.3, 5.0):
        scaled = {n: p * (factor if p.requires_grad else 1.0) for n, p in exact.named_parameters()}
        torch.testing.assert_close(functional_call(exact, scaled, (x,)), before, rtol=0, atol=1e-7)
        head = {n: p * (1.0 if p.requires_grad else factor) for n, p in exact.named_parameters()}
        assert (functional_call(exact, head, (x,)) - before).abs().max() > 0.1


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet32", "wide_resnet"])
def test_of_practical_networks_the_convolutions_are_invariant(name: str) -> None:
    args = {**SMALL[name], "dropout": 0.0} if name == "wide_resnet" else SMALL[name]
    module = make(name, **args)
    kernels = [n for n, p in module.named_parameters() if p.dim() == 4]
    assert list(scale_invariant_parameters(task_of(name, **args))) == kernels


def test_of_a_raw_shortcut_one_side_is_left_out() -> None:
    """A shortcut convolution that reads the raw stream scales it twice: the joint set cannot hold everything."""
    task = task_of("resnet18_si", width=8)

    def raw() -> nn.Module:
        module = make("resnet18_si", width=8)
        for name, layer in list(module.named_modules()):
            if name.endswith("shortcut") and isinstance(layer, nn.Sequential):
                layer[0] = nn.Identity()
        return module

    found = scale_invariant_parameters(Task(model=raw, train=task.train, test=task.test))
    module = raw().double().train()
    everything = [n for n, p in module.named_parameters() if p.requires_grad]
    assert 10 < len(found) < len(everything)
    x = task.train.x[:16].double()
    for names, invariant in ((found, True), (everything, False)):
        scaled = {n: p * (2 if n in names else 1) for n, p in module.named_parameters()}
        difference = (functional_call(module, scaled, (x,)) - module(x)).abs().max().item()
        assert (difference < 1e-2) == invariant


def test_a_weak_dependence_is_not_taken_for_invariance() -> None:
    class Weak(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strong, self.weak = nn.Linear(12, 10), nn.Linear(12, 10, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.strong(x) + 1e-4 * self.weak(x)
            return out

    task = task_of("mlp", shape=(12,))
    assert scale_invariant_parameters(Task(model=Weak, train=task.train, test=task.test)) == ()


def test_what_was_found_is_remembered_for_the_task_alone() -> None:
    built = []

    def of(norm: str) -> Task:
        def model() -> nn.Module:
            built.append(norm)
            return model_builder("mlp", {"width": 8, "norm": norm})((12,), 10)

        split = task_of("mlp", shape=(12,)).train
        return Task(model=model, train=split, test=split)

    first, second = of("batch"), of("none")
    assert scale_invariant_parameters(first) == scale_invariant_parameters(first) == ("0.weight", "3.weight")
    assert scale_invariant_parameters(second) == ()
    assert built == ["batch", "none"]


def test_ordinary_mlp_and_transformer_have_no_invariant_weight() -> None:
    for name, args in (("mlp", {"norm": "none"}), ("mlp", {"norm": "layer"}), ("vit_small", {})):
        assert scale_invariant_parameters(task_of(name, **{**SMALL[name], **args})) == ()
    assert scale_invariant_parameters(task_of("mlp", width=16, norm="batch")) == ("1.weight", "4.weight")


def test_convnet_step_equals_one_written_by_hand() -> None:
    """Forward pass and gradient in float64, from the published description, with patches and loops for layers."""
    torch.manual_seed(0)
    module = make("convnet_si", width=2, shape=(3, 16, 16), outputs=3).double().train()
    x, y = torch.randn(5, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    weights = [p.detach().clone().requires_grad_() for p in module.parameters() if p.requires_grad]

    def reference(weights: list[Tensor]) -> Tensor:
        h = x
        for layer, weight in enumerate(weights):
            batch, _, height, width = h.shape
            patches = nn.functional.unfold(h, 3, padding=1)
            h = (weight.flatten(1) @ patches).reshape(batch, -1, height, width)
            mean = h.mean((0, 2, 3), keepdim=True)
            variance = (h - mean).square().mean((0, 2, 3), keepdim=True)
            h = ((h - mean) / (variance + 1e-5).sqrt()).clamp_min(0)
            if layer > 0:
                h = torch.stack([h[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        head = module.get_submodule("head")
        return h.flatten(2).amax(-1) @ head.weight.T + head.bias  # type: ignore[operator, union-attr, no-any-return]

    expected = reference(weights)
    torch.testing.assert_close(module(x), expected)
    wanted = torch.autograd.grad(nn.functional.cross_entropy(expected, y), weights)
    nn.functional.cross_entropy(module(x), y).backward()
    got = [p.grad for p in module.parameters() if p.requires_grad]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_convnet_at_32_ends_in_the_published_pool() -> None:
    module = make("convnet_si", width=4)
    assert isinstance(module, nn.Sequential)
    before = module[:-2](torch.randn(2, *IMAGE))
    assert before.shape == (2, 32, 4, 4)
    assert torch.equal(module[-2](before), nn.functional.max_pool2d(before, 4).flatten(1))


def test_vit_cuts_and_shifts_as_described() -> None:
    module = make("vit_small", **SMALL["vit_small"])
    assert sum(isinstance(layer, nn.LayerNorm) for layer in module.modules()) == 2 + 2 * 4
    plain = make("vit_small", **SMALL["vit_small"], mlp_norms=False)
    assert sum(isinstance(layer, nn.LayerNorm) for layer in plain.modules()) == 2 + 2 * 2
    patches, seen = module.get_submodule("patches"), []
    patches.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # type: ignore[operator, union-attr]
    x = torch.arange(2 * 3 * 32 * 32, dtype=torch.float32).reshape(2, *IMAGE)
    patches(x)
    assert seen[0].shape == (2, 64, 4 * 4 * 15)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    for token, row, column, channel in ((0, 0, 0, 0), (9, 1, 3, 2), (63, 3, 3, 1), (7, 2, 0, 0)):
        i, j = 4 * (token // 8) + row, 4 * (token % 8) + column
        values = seen[0][1, token].reshape(4, 4, 5, 3)[row, column, :, channel]
        around = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]
        assert values.tolist() == [padded[1, channel, i + 1 + di, j + 1 + dj].item() for di, dj in around]


def test_vit_tokens_do_not_attend_to_themselves() -> None:
    module = make("vit_small", **SMALL["vit_small"])
    attention = module.get_submodule("blocks.0.0").eval()
    seen: list[Tensor] = []
    attention.get_submodule("attention_dropout").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(2, 6, 32)
    attention(x)
    (weights,) = seen
    assert (weights.diagonal(dim1=-2, dim2=-1) == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6))
    queries, keys, _ = (
        attention.queries_keys_values(attention.norm(x)).reshape(2, 6, 3, 2, 16).unbind(2)  # type: ignore[operator]
    )
    scores = torch.einsum("bihd,bjhd->bhij", queries, keys) / 4  # 16 numbers in a head: the usual start
    scores = scores.masked_fill(torch.eye(6, dtype=torch.bool), -math.inf)
    torch.testing.assert_close(weights, scores.softmax(-1))


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("convnet", {}, ["unknown model 'convnet'", "did you mean 'convnet_si'", "torchvision:NAME"]),
        ("convnet_si", {"head_bias": 1}, ["head_bias", "true or false", "found 1"]),
        ("wide_resnet", {"depth": 17}, ["6n + 4", "17"]),
        ("resnet18_si", {"width": 4}, ["width", "8", "found 4"]),
        ("resnet18", {"width": 4}, ["width", "8", "found 4"]),
        ("preact_resnet32", {"width": 7}, ["width", "8", "found 7"]),
        ("mlp", {"norm": "group"}, ["none, layer, batch", "'group'"]),
        ("torchvision:resnt18", {}, ["torchvision:resnt18", "did you mean 'torchvision:resnet18'"]),
        ("torchvision:resnet18", {"widht": 3}, ["torchvision:resnet18", "widht"]),
        ("torchvision:resnet18", {"num_classes": 3}, ["leave out num_classes"]),
        ("torchvision:googlenet", {}, ["several outputs", "aux_logits: false"]),
        ("json:dumps", {}, ["json:dumps", "(shape, outputs, ...)"]),
        ("json:dumpz", {}, ["json:dumpz", "no function 'dumpz'"]),
        ("no_such_module_here:net", {}, ["no_such_module_here"]),
        (f"{__name__}:own", {"width": 3, "height": 4}, ["height", "width"]),
    ],
)
def test_faults_say_what_and_what_instead(name: str, args: Any, words: list[str]) -> None:
    (fault,) = faults_of_model(name, args)
    for word in words:
        assert word in fault


def own(shape: tuple[int, ...], outputs: int, *, width: int = 4, name: str = "") -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, outputs))


def not_a_network(shape: tuple[int, ...], outputs: int) -> int:
    return outputs


def test_models_from_elsewhere_by_name() -> None:
    mine = f"{__name__}:own"
    assert faults_of_model(mine, {"width": 3}) == []
    assert model_arguments(mine) == {"width": 4, "name": ""}
    assert count(model_builder(mine, {"width": 3, "name": "an argument of its own"})((64,), 10)) == 65 * 3 + 40
    with pytest.raises(SpecError, match=r"must return a torch\.nn\.Module, found int"):
        make(f"{__name__}:not_a_network")
    theirs = make("torchvision:resnet18", outputs=7)
    assert theirs(torch.randn(2, *IMAGE)).shape == (2, 7)
    assert model_arguments("torchvision:resnet18") == {}
    with pytest.raises(SpecError, match="3 channels"):
        make("torchvision:resnet18", shape=(1, 32, 32))
    task = build_task(Recipe(task="digits", model=mine, model_args={"width": 5}, batch_size=8), 0)
    assert task.model()(task.train.x[:2].float()).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("convnet_si", (64,), "takes images"),
        ("resnet18", (3, 4, 32), "at least 8 pixels high, found 4"),
        ("vit_small", (3, 30, 32), "multiples of 4"),
        ("vit_small", (3, 4, 4), "two or more patches"),
    ],
)
def test_wrong_inputs_are_named(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make(name, shape=shape, **SMALL[name])


def test_model_arguments_are_those_of_the_catalog() -> None:
    assert model_arguments("convnet_si") == {"width": 32, "head_norm": 10.0, "head_bias": True, "norm_eps": 1e-5}
