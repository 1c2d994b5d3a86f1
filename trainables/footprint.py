"""How large a recipe's network and data are, and how long its steps take: found by building the network once.

Built-in image tasks are not decoded for it: the footers of their files say shapes and sizes. A task of the user's own
is built, because nothing else knows what is in it.
"""

import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.build import build_task, model_builder
from trainables.catalog import TASKS, resolve, task_arguments
from trainables.grouping import grouped_form
from trainables.images.augment import CropFlip
from trainables.images.cifar import ROWS
from trainables.images.facts import image_facts
from trainables.images.locate import find_sources
from trainables.losses import Loss, training_loss
from trainables.noise import keyed, prepare
from trainables.precision import computes_in_bfloat16, master_dtype
from trainables.spec import Recipe
from trainables.stacking import batched_form
from trainables.tasks.base import Task, as_dtype, per_sample_cross_entropy
from trainables.trace import MemoryCourse, course_of

__all__ = ["Footprint", "footprint", "step_seconds"]

WATCHED = (2, 3)
"""Samples in the two runs that are watched: norms over a batch need more than one."""
TIMED_STEPS = 3
LONGEST_SECONDS = 1.0
"""About how long one timed step may take; longer ones are timed with fewer samples."""
MULTIPLY_ADDS_A_SECOND = 1e10
"""Of one core, to choose how many samples are timed."""
_PAGE = 4096


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Sizes of one recipe's network and data. Parameters, buffers and inputs are counted in numbers, not in bytes.

    Attributes:
        inputs: numbers in one sample as the network sees it.
        outputs: logits.
        trained: parameters that are trained.
        frozen: parameters that are not.
        buffers: norm statistics and the like.
        multiply_adds: of one sample's forward pass; 0 where nothing in it could be counted.
        step: memory of one network's training step, by samples; gradients are in it, weights are not.
        evaluation: memory of one network's forward pass without gradients.
        units: numbers that one sample's step keeps for the backward pass.
        stackable: many networks can train as one batched computation.
        groupable: pairs of networks can train as one by grouped convolutions (on a CPU).
        train: training samples.
        valid: validation samples.
        test: test samples.
        probe_sets: evaluation sets beside these.
        probe: samples in the largest of them.
        sample_bytes: of one sample and its target at rest.
        prepared_bytes: of what an augmentation reads instead, for each training sample.
        shared_bytes: what the task holds once, however many draws of the data there are.
        draw_bytes: what the task holds for each draw.
        seeded: draws of different data seeds differ.
    """

    inputs: int
    outputs: int
    trained: int
    frozen: int
    buffers: int
    multiply_adds: float
    step: MemoryCourse
    evaluation: MemoryCourse
    units: float
    stackable: bool
    groupable: bool
    train: int
    valid: int
    test: int
    probe_sets: int
    probe: int
    sample_bytes: float
    prepared_bytes: float
    shared_bytes: float
    draw_bytes: float
    seeded: bool


@dataclass(frozen=True)
class _Data:
    """What a footprint says about a task's data; see `Footprint`."""

    train: int
    valid: int
    test: int
    probe_sets: int
    probe: int
    sample_bytes: float
    prepared_bytes: float
    shared_bytes: float
    draw_bytes: float
    seeded: bool


@dataclass(frozen=True)
class _Subject:
    """A network with something to train on.

    Attributes:
        model: makes a network.
        loss: that training follows.
        batch: (samples) to inputs and targets.
        data: sizes of the task's data.
    """

    model: Callable[[], nn.Module]
    loss: Loss
    batch: Callable[[int], tuple[Tensor, Tensor]]
    data: _Data


@lru_cache(maxsize=64)
def footprint(recipe: Recipe) -> Footprint:
    """Build a recipe's network and look at what its steps do.

    Args:
        recipe: of any task and model.

    Returns:
        Its sizes: the same wherever they are asked for.

    Raises:
        SpecError: the images cannot be found, or the recipe is wrong.
        Exception: whatever the user's own code raises.
    """
    with _quietly():
        subject = _subject(recipe)
        module = _module(subject, recipe)
        data = subject.data
        x, _ = subject.batch(WATCHED[0])
        known = [*module.parameters(), *module.buffers()]
        with FlopCounterMode(display=False) as counter, torch.no_grad(), keyed(module, torch.tensor(0)):
            logits = module(x)
        step = course_of(lambda samples, mark: _step(subject, recipe, module, samples, mark), WATCHED, known)
        evaluation = course_of(lambda samples, _: _forward(subject, recipe, module, samples), WATCHED, known)
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        item = torch.finfo(master_dtype(recipe)).bits // 8
        return Footprint(
            inputs=x[0].numel(),
            outputs=logits.shape[-1],
            trained=sum(parameter.numel() for parameter in learned),
            frozen=sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad),
            buffers=sum(buffer.numel() for buffer in module.buffers()),
            multiply_adds=counter.get_total_flops() / 2 / len(x),
            step=step,
            evaluation=evaluation,
            units=(step.alive(0, 2) - step.alive(0, 1)) / item,
            stackable=batched_form(module) is not None,
            groupable=grouped_form(module) is not None,
            **vars(data),
        )


@lru_cache(maxsize=64)
def step_seconds(recipe: Recipe) -> float:
    """Time a few training steps of one network on one thread of this machine's CPU.

    Args:
        recipe: as for `footprint`.

    Returns:
        Seconds of one forward and backward pass of a whole batch, the optimiser left out. Steps that would take long
        are timed with fewer samples.
    """
    found = footprint(recipe)
    guess = 3 * found.multiply_adds / MULTIPLY_ADDS_A_SECOND
    samples = min(recipe.batch_size, max(WATCHED[1], math.floor(LONGEST_SECONDS / max(guess, 1e-12))))
    with _quietly():
        subject = _subject(recipe)
        module = _module(subject, recipe)
        seconds = []
        for _ in range(1 + TIMED_STEPS):
            began = time.process_time()
            _step(subject, recipe, module, samples, _nothing)
            seconds.append(time.process_time() - began)
    return min(seconds[1:]) * recipe.batch_size / samples


class _quietly:
    """One thread, and torch's generator left as it was."""

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        self._state = torch.get_rng_state()
        torch.set_num_threads(1)
        torch.manual_seed(0)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
        torch.set_rng_state(self._state)


def _nothing() -> None:
    pass


def _module(subject: _Subject, recipe: Recipe) -> nn.Module:
    return prepare(subject.model()).to(master_dtype(recipe)).train()


def _step(
    subject: _Subject, recipe: Recipe, module: nn.Module, samples: int, mark: Callable[[], None]
) -> tuple[Tensor, ...]:
    """Forward, then backward; the end of the forward pass is marked. Returns what is alive at the end."""
    x, y = subject.batch(samples)
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.train()
    with (
        keyed(module, torch.tensor(0)),
        torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16(recipe), cache_enabled=False),
    ):
        logits = module(x)
    logits = logits.to(master_dtype(recipe))
    loss = subject.loss(logits, y).mean()
    mark()
    found = torch.autograd.grad(loss, learned, allow_unused=True)
    return tuple(gradient for gradient in found if gradient is not None)


@torch.no_grad()
def _forward(subject: _Subject, recipe: Recipe, module: nn.Module, samples: int) -> Tensor:
    """A forward pass as in an evaluation."""
    x, y = subject.batch(samples)
    module.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16(recipe), cache_enabled=False):
        logits = module(x)
    return subject.loss(logits.to(master_dtype(recipe)), y)


@lru_cache(maxsize=8)
def _subject(recipe: Recipe) -> _Subject:
    """What can be trained without the data, where its shapes are known; else the task itself."""
    facts = image_facts(recipe.task, recipe.task_args) if recipe.task in TASKS else None
    if facts is None or recipe.model is None:
        return _of_task(recipe)
    pixels = math.prod(facts.shape)
    dtype = master_dtype(recipe)
    args = task_arguments(recipe.task) | dict(recipe.task_args)

    def batch(samples: int) -> tuple[Tensor, Tensor]:
        # images are stored with their channels last, and reach the network as a view of that
        x = torch.rand(samples, *facts.shape[1:], facts.shape[0], dtype=dtype).permute(0, 3, 1, 2)
        return x, torch.zeros(samples, dtype=torch.long)

    builder = model_builder(recipe.model, recipe.model_args)
    prepared = 0
    if args["augment"] == "crop_flip":
        prepared = CropFlip(int(args["padding"] or 0)).prepared_bytes(1, *facts.shape[1:], facts.shape[0])
    # A store has room for all images of a source and is filled, page by page, where images are decoded; what is chosen
    # is then copied out.
    sources = find_sources(recipe.task, args, fetch=False)
    rows = sum(source.rows for source in sources) if sources else sum(ROWS.values())
    decoded = min(rows * pixels, (facts.train + facts.valid + facts.test) * (pixels + _PAGE))
    return _Subject(
        model=lambda: builder(facts.shape, facts.classes),
        loss=training_loss(per_sample_cross_entropy, recipe.label_smoothing),
        batch=batch,
        data=_Data(
            train=facts.train,
            valid=facts.valid,
            test=facts.test,
            probe_sets=0,
            probe=0,
            sample_bytes=pixels + 8,
            prepared_bytes=prepared,
            shared_bytes=decoded + (facts.valid + facts.test) * pixels,
            draw_bytes=facts.train * pixels,
            seeded=bool(args["train_size"] or args["label_noise"]),
        ),
    )


def _of_task(recipe: Recipe) -> _Subject:
    """A task that is built; nothing but numbers and a few samples of it is kept."""
    held = build_task.cache_info().currsize
    task = build_task(recipe, 0)
    dtype = master_dtype(recipe)
    stored, targets = task.train.x[: WATCHED[1]].clone(), task.train.y[: WATCHED[1]].clone()
    inputs = task.inputs(stored, dtype)

    def batch(samples: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(samples) % len(stored)
        return inputs[rows], as_dtype(targets[rows], dtype)

    subject = _Subject(
        model=task.model,
        loss=training_loss(task.loss, recipe.label_smoothing),
        batch=batch,
        data=_sizes(recipe, task, dtype),
    )
    if not held:  # nobody else wanted the task: its data need not stay
        build_task.cache_clear()
    return subject


def _sizes(recipe: Recipe, task: Task, dtype: torch.dtype) -> _Data:
    def bytes_of(tensors: Mapping[str, Tensor], *, at_rest: bool) -> float:
        each = {name: as_dtype(tensor[:1], dtype) if at_rest else tensor[:1] for name, tensor in tensors.items()}
        return sum(tensor.numel() * tensor.element_size() for tensor in each.values())

    named = {"train": task.train, "valid": task.valid, "test": task.test, **task.probes}
    splits = {name: split for name, split in named.items() if split is not None}
    first = {"x": task.train.x, "y": task.train.y}
    samples = sum(len(split) for split in splits.values())
    return _Data(
        train=len(task.train),
        valid=len(task.valid) if task.valid is not None else 0,
        test=len(task.test),
        probe_sets=len(task.probes),
        probe=max((len(split) for split in task.probes.values()), default=0),
        sample_bytes=bytes_of(first, at_rest=True),
        prepared_bytes=0.0 if task.augment is None else bytes_of(first, at_rest=True),
        shared_bytes=0.0,
        draw_bytes=samples * bytes_of(first, at_rest=False),
        seeded=recipe.task in TASKS or "data_seed" in inspect.signature(resolve(recipe.task)).parameters,
    )
