"""The networks that `ordinary.py` compares, and how much of each is trained."""

from dataclasses import dataclass

from _gpu_nets import Net

__all__ = ["NETS", "Job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One comparison.

    Attributes:
        net: what is trained; images are made up.
        members: of our pack, in each process.
        executor: that the choice at a pack's start takes on a CPU.
        whole: steps of a whole member, to which start-up is related; longer than what is measured.
        steps: measured in a turn by the ordinary way.
        our_steps: measured in a turn by ours.
    """

    net: Net
    members: int
    executor: str
    whole: int
    steps: int
    our_steps: int


def _convnet(width: int, side: int, batch: int, *, augment: bool, samples: int = 2000) -> Net:
    return Net(
        name=f"convnet_w{width}_{side}",
        title=f"ConvNet SI w{width}, {side}x{side}, batch {batch}",
        model="convnet_si",
        arguments={"width": width},
        samples=samples,
        side=side,
        augment=augment,
        batch=batch,
        dtype="float32",
        radius=8.0,
    )


NETS = (
    Job(
        net=Net(
            name="mlp_digits",
            title="MLP SI 64-64x2, digits, batch 16",
            model="mlp_si",
            arguments={"width": 64, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7},
            task="digits",
            batch=16,
            dtype="float32",
            radius=1.0,
        ),
        members=48,
        executor="stacked",
        whole=28_000,
        steps=1000,
        our_steps=4000,
    ),
    Job(net=_convnet(8, 16, 64, augment=False), members=4, executor="loop", whole=3_100, steps=100, our_steps=60),
    Job(net=_convnet(8, 32, 128, augment=True), members=2, executor="loop", whole=78_000, steps=15, our_steps=15),
    Job(
        net=_convnet(32, 32, 128, augment=True, samples=256),
        members=2,
        executor="loop",
        whole=78_000,
        steps=4,
        our_steps=3,
    ),
    Job(
        net=Net(
            name="resnet18_w32",
            title="ResNet-18 SI w32, 32x32, batch 128",
            model="resnet18_si",
            arguments={"width": 32},
            samples=256,
            batch=128,
            dtype="float32",
            radius=8.0,
        ),
        members=2,
        executor="loop",
        whole=78_000,
        steps=2,
        our_steps=1,
    ),
)
