"""The networks that `gpu.py` times, on made-up data of CIFAR's shape, and what a step of each must at least cost.

Pixels and labels are random: time does not depend on what an image shows, and no data set is needed on a GPU node.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.build import model_builder
from trainables.images.augment import CropFlip
from trainables.images.encode import Normalise
from trainables.spec import Measure, Member, Pack, Phase, Recipe, Scalar, Segment
from trainables.tasks.base import Split, Task

__all__ = ["NETS", "TINY", "Cost", "Net", "cost", "images", "module_of", "pack_of", "points"]

CLASSES = 10
FEATURES = 40  # of a point, as in MNIST-1D
SAMPLES = 50_000
SEEDS = 8  # distinct seeds of a pack: a sweep repeats each learning rate with these
ENCODE = Normalise((0.5,) * 3, (0.29,) * 3)
LONG = 10_000_000  # steps of a member: longer than any measurement

Ways = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Net:
    """One row group of the table.

    Attributes:
        name: for the command line and the JSON.
        title: for people.
        model: a built-in's name.
        arguments: of the model.
        task: `images` or `points` below, or `digits`, the built-in.
        samples: training set.
        side: of an image in pixels.
        augment: crop and flip images.
        batch: samples per step.
        dtype: as in a recipe.
        radius: of the sphere; None trains freely.
        lr: learning rate; small, so that random labels do not blow the network up.
        momentum: of SGD.
        weight_decay: of SGD.
        goal: members per GPU-hour that the project wants on an H200, and what it aims at; None for no goal.
        ways: (way, members at once), in the order in which they are measured.
    """

    name: str
    title: str
    model: str
    arguments: dict[str, Scalar] = field(default_factory=dict)
    task: str = "images"
    samples: int = SAMPLES
    side: int = 32
    augment: bool = True
    batch: int = 128
    dtype: str = "bfloat16"
    radius: float | None = None
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    goal: tuple[int, int] | None = None
    ways: Ways = ()

    @property
    def recipe(self) -> Recipe:
        """What the project trains."""
        data: dict[str, Scalar] = {"model": self.model, "samples": self.samples}
        if self.task == "digits":
            return Recipe(
                task=self.task,
                model=self.model,
                model_args=self.arguments,
                batch_size=self.batch,
                dtype=self.dtype,
                sphere_radius=self.radius,
            )
        if self.task == "images":
            data |= {"side": self.side, "augment": self.augment}
        return Recipe(
            task=f"_gpu_nets:{self.task}",
            task_args={**data, **self.arguments},
            batch_size=self.batch,
            dtype=self.dtype,
            sphere_radius=self.radius,
        )


def _ways(*branches: int, stacked: tuple[int, ...] = ()) -> Ways:
    alone: Ways = (("eager", 1), ("loop", 1), ("graph", 1))
    return (*alone, *(("branches", rows) for rows in branches), *(("stacked", rows) for rows in stacked))


NETS = (
    Net(
        name="convnet_w32",
        title="ConvNet SI w32",
        model="convnet_si",
        arguments={"width": 32},
        radius=10.0,
        goal=(140, 140),
        ways=_ways(4, 8, 2, 16),
    ),
    Net(
        name="resnet18_w64",
        title="ResNet-18 w64",
        model="resnet18",
        arguments={"width": 64},
        momentum=0.9,
        weight_decay=5e-4,
        goal=(26, 34),
        ways=_ways(4, 2, 8),
    ),
    Net(
        name="convnet_w8",
        title="ConvNet SI w8",
        model="convnet_si",
        arguments={"width": 8},
        radius=10.0,
        goal=(500, 500),
        ways=_ways(8, 16, 32, 4, 2),
    ),
    Net(
        name="mlp_w64",
        title="MLP SI 40-64x3",
        model="mlp_si",
        arguments={"width": 64, "depth": 3},
        task="points",
        batch=64,
        dtype="float32",
        radius=1.0,
        goal=(20_000, 20_000),
        ways=_ways(8, stacked=(512, 4096, 64)),
    ),
    Net(
        name="vit_small",
        title="ViT-small 512x6",
        model="vit_small",
        momentum=0.9,
        ways=_ways(2, 4),
    ),
)

TINY = (
    Net(
        name="convnet_w8",
        title="ConvNet SI w4, 8x8",
        model="convnet_si",
        arguments={"width": 4},
        samples=64,
        side=8,
        batch=8,
        radius=10.0,
        ways=_ways(2),
    ),
    Net(
        name="resnet18_w64",
        title="ResNet-18 w8, 8x8",
        model="resnet18",
        arguments={"width": 8},
        samples=64,
        side=8,
        batch=4,
        momentum=0.9,
        ways=_ways(2),
    ),
    Net(
        name="mlp_w64",
        title="MLP SI 40-8x2",
        model="mlp_si",
        arguments={"width": 8, "depth": 2},
        task="points",
        samples=64,
        batch=8,
        dtype="float32",
        radius=1.0,
        ways=_ways(2, stacked=(4,)),
    ),
    Net(
        name="vit_small",
        title="ViT 16x1, 8x8",
        model="vit_small",
        arguments={"width": 16, "depth": 1, "heads": 2, "head_width": 8, "hidden": 16},
        samples=64,
        side=8,
        batch=4,
        momentum=0.9,
        ways=_ways(2),
    ),
)


def images(*, model: str, samples: int, side: int, augment: bool = True, **arguments: Scalar) -> Task:
    """Random pixels, stored and augmented as CIFAR is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (samples, side, side, 3), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, CLASSES, (samples,), generator=generator)
    return _task(model, arguments, (3, side, side), Split(x, y), CropFlip() if augment else None, ENCODE)


def points(*, model: str, samples: int, **arguments: Scalar) -> Task:
    """Random points in 40 dimensions, no augmentation."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, FEATURES, generator=generator)
    y = torch.randint(0, CLASSES, (samples,), generator=generator)
    return _task(model, arguments, (FEATURES,), Split(x, y), None, None)


def _task(
    model: str,
    arguments: dict[str, Scalar],
    shape: tuple[int, ...],
    train: Split,
    augment: CropFlip | None,
    encode: Normalise | None,
) -> Task:
    build: Callable[[], nn.Module] = partial(model_builder(model, arguments), shape, CLASSES)
    with torch.device("meta"):
        trained = [name for name, parameter in build().named_parameters() if parameter.requires_grad]
    return Task(
        model=build,
        train=train,
        test=Split(train.x[:32], train.y[:32]),
        augment=augment,
        encode=encode,
        # known here, so that no benchmark waits until it is found numerically
        scale_invariant=trained if model.endswith("_si") else (),
    )


def pack_of(net: Net, rows: int, steps: int = LONG) -> Pack:
    """Members that differ in seed and learning rate, as the rows of one cohort.

    Args:
        net: what is trained.
        rows: how many members.
        steps: length of each.

    Returns:
        A pack; its members are the first of any larger pack of the same network.
    """
    recipe = net.recipe
    segments = []
    for row in range(rows):
        lr = net.lr * 1.001 ** (row // SEEDS)
        phase = Phase(name="train", steps=steps, lr=lr, weight_decay=net.weight_decay)
        member = Member(recipe=recipe, seed=row % SEEDS, momentum=net.momentum, phases=(phase,))
        segments.append(
            Segment(
                segment_id=member.member_id,
                parent=None,
                start=0,
                steps=steps,
                phase=phase,
                phase_start=0,
                phase_end=True,
                owner=member,
                ends=True,
            )
        )
    return Pack(
        pack_id=f"{net.name}-{rows}",
        recipe=recipe,
        measure=Measure(report_every=steps),
        segments=tuple(segments),
        width=rows,
    )


@dataclass(frozen=True)
class Cost:
    """What training one sample, and one step of one member, costs at least.

    Attributes:
        flop: floating-point operations of a sample, forward and backward: matrix products and convolutions.
        sample_bytes: memory traffic of a sample: outputs of all layers, written and read forward, read again backward,
            their gradients written and read.
        step_bytes: memory traffic of a step whatever the batch: weights forward, backward and in the update.
        parameters: trained.
    """

    flop: float
    sample_bytes: float
    step_bytes: float
    parameters: int


def module_of(net: Net) -> nn.Module:
    """One network without memory for its weights, on torch's `meta` device."""
    shape = (FEATURES,) if net.task == "points" else (3, net.side, net.side)
    with torch.device("meta"):
        return model_builder(net.model, net.arguments)(shape, CLASSES).train()


def cost(net: Net) -> Cost:
    """Count, without computing anything.

    Args:
        net: what is trained.

    Returns:
        The floor of a step. Attention weights and other outputs of functions are not seen by the byte count.
    """
    module, batch = module_of(net), 2
    elements = 0

    def seen(_: nn.Module, __: tuple[object, ...], out: torch.Tensor) -> None:
        nonlocal elements
        elements += out.numel()

    for layer in module.modules():
        if not list(layer.children()):
            layer.register_forward_hook(seen)
    shape = (FEATURES,) if net.task == "points" else (3, net.side, net.side)
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(batch, *shape, device="meta")).sum().backward()
    width = 2 if net.dtype == "bfloat16" else 4
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    updates = 6 if net.momentum else 4  # gradient, weight (and momentum), each written and read once in float32
    return Cost(
        flop=counter.get_total_flops() / batch,
        sample_bytes=5 * width * elements / batch,
        step_bytes=trained * (2 * width + 4 * updates),
        parameters=trained,
    )
