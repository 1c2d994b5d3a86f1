"""A planted results folder whose solutions have real weights, small enough to measure in a second."""

from pathlib import Path

import torch
from planted import Plan, Truth, plant

from trainables.build import build_task
from trainables.checkpoint import save_checkpoint
from trainables.spec import Recipe

State = dict[str, torch.Tensor]

TASK_ARGS = {"features": 4, "train_size": 64, "test_size": 100, "probe_size": 50}
MODEL_ARGS = {"width": 8, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}
RECIPE = Recipe(
    task="tick_features",
    task_args=TASK_ARGS,
    model="mlp_si",
    model_args=MODEL_ARGS,
    batch_size=16,
    sphere_radius=1.0,
)
LRS = (1e-3, 1e-2, 3e-2)
TUNED = (("finetune@3.2e-5", 3.2e-5), ("finetune@7.5e-3", 7.5e-3))


def kept_study(folder: Path, *, seeds: int = 2, steps: tuple[int, ...] = ()) -> Path:
    """Three rates; at the end of each pre-training two fine-tuned solutions, averages of 2 and 5, and kept steps."""
    accuracy = dict.fromkeys(("final", "swa@2", "swa@5", *(label for label, _ in TUNED)), (0.7, 0.75, 0.7))
    plan = Plan(
        name="kept",
        lrs=LRS,
        units=[(seed, seed) for seed in range(seeds)],
        arms=[({}, Truth(accuracy=accuracy, converges_below=5e-3))],
        task="tick_features",
        finetunes=TUNED,
        windows=(2, 5),
        analysis={"metric": TUNED[0][0]},
    )
    plant(folder, plan)
    (folder / "checkpoints").mkdir()
    for unit in range(seeds):
        for place in range(len(LRS)):
            member = f"kept--{unit}-{place}"
            keys = [(member, "end"), (member, "swa@2"), (member, "swa@5"), *((member, f"step@{n}") for n in steps)]
            keys += [(f"{member}-{lr:g}", "end") for _, lr in TUNED]
            save(folder, member, solutions(len(keys), unit, place), keys, unit)
    return folder


def solutions(number: int, unit: int, place: int) -> list[State]:
    """Networks near each other, on the unit sphere, that share their head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10 * unit + place)
        module = build_task(RECIPE, unit).model()
        first = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        moving = [name for name, p in module.named_parameters() if p.requires_grad]
        states = []
        for index in range(number):
            moved = {name: first[name] + 0.02 * index * torch.randn_like(first[name]) for name in moving}
            norm = torch.cat([tensor.flatten() for tensor in moved.values()]).norm()
            states.append(first | {name: tensor / norm for name, tensor in moved.items()})
    return states


def save(
    folder: Path, name: str, states: list[dict[str, torch.Tensor]], keys: list[tuple[str, str]], seed: int
) -> None:
    """Keep weights as training does."""
    weights = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    steps = [int(group.removeprefix("step@")) if group.startswith("step@") else 20000 for _, group in keys]
    save_checkpoint(
        folder / "checkpoints" / name,
        weights,
        keys,
        steps=steps,
        recipe=RECIPE,
        seeds=[(seed, seed)] * len(keys),
        executor="loop",
    )
