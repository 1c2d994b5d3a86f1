"""A task of the user's own, tried out before anything starts: built, checked, stepped once, every problem named.

Broken code then fails in seconds in the terminal where the command was typed, and not in a worker after a minute.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from sweeps.own_data import data_faults, kind, splits_of, target_faults
from trainables.blame import in_words
from trainables.build import build_task
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Split, Task

__all__ = ["Trial", "try_out", "try_out_all"]

SAMPLES = 16
"""Samples in the trial step: enough for norms over a batch, few enough for a large network on one core."""
TRIAL_SECONDS = 20.0
"""Time after which no further recipe of a sweep is tried out; the first always is."""

_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found out about a task.

    Attributes:
        task: its name.
        train: training samples.
        valid: validation samples; None without such a split.
        test: test samples.
        inputs: numbers in one sample.
        outputs: logits.
        weights: parameters, trained and frozen, and buffers.
        trained: parameters that are trained.
        loss: mean loss of a fresh network on the trial batch.
        samples: samples in that batch.
        seconds: time of forward and backward on it, on one thread of a CPU.
        notes: what is legal but should be known.
    """

    task: str
    train: int
    valid: int | None
    test: int
    inputs: int
    outputs: int
    weights: int
    trained: int
    loss: float
    samples: int
    seconds: float
    notes: tuple[str, ...] = ()


def try_out_all(recipes: Iterable[Recipe], *, keep: bool = False) -> list[Trial]:
    """Try out every own task of a sweep, as far as time allows.

    Args:
        recipes: of the sweep, of own tasks only.
        keep: keep the built tasks for training in this process, instead of giving their memory back.

    Returns:
        One for each recipe that was tried.

    Raises:
        SpecError: every fault of all of them, none twice.
    """
    trials, faults, began = [], [], time.monotonic()
    try:
        for recipe in recipes:
            try:
                trials.append(try_out(recipe))
            except SpecError as error:
                faults += error.faults
            if time.monotonic() - began > TRIAL_SECONDS:
                break
    finally:
        if not keep:
            build_task.cache_clear()
    if faults:
        raise SpecError(list(dict.fromkeys(faults)))
    return trials


def try_out(recipe: Recipe, *, data_seed: int = 0, any_batch: bool = False) -> Trial:
    """Build a recipe's task and train one step of it in float32, on the CPU.

    Args:
        recipe: names the task.
        data_seed: which draw of the data.
        any_batch: the recipe's batch size is not decided yet.

    Returns:
        What was found out.

    Raises:
        SpecError: every problem that could be found; errors in the user's code with the user's traceback.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            task = _own(f"the task's function {recipe.task}", lambda: build_task(recipe, data_seed))
            return _Tryout(recipe, task, any_batch=any_batch)()
    finally:
        torch.set_num_threads(threads)


def _own(stage: str, call: Callable[[], _Made]) -> _Made:
    """Run the user's code; what it raises becomes a fault."""
    try:
        return call()
    except SpecError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError([in_words(stage, error)]) from error


class _Tryout:
    """One trial of one task."""

    def __init__(self, recipe: Recipe, task: Task, *, any_batch: bool) -> None:
        self._recipe, self._task, self._any_batch = recipe, task, any_batch
        self._notes: list[str] = []

    def __call__(self) -> Trial:
        task = self._task
        faults = [*data_faults(task, None if self._any_batch else self._recipe.batch_size), *self._model_faults()]
        if faults:
            raise SpecError(faults)
        model = _own("task.model", task.model)
        if faults := list(self._network_faults(model)):
            raise SpecError(faults)
        model = model.float().train()
        count = min(SAMPLES, len(task.train), SAMPLES if self._any_batch else self._recipe.batch_size)
        x = self._batch(task.train, count)
        logits, loss = self._step(model, x, task.train.y[:count])
        if faults := list(self._evaluation_faults(model, logits.shape[-1])):
            raise SpecError(faults)
        self._step(model, x, task.train.y[:count])  # the first one pays for what torch sets up
        began = time.perf_counter()
        self._step(model, x, task.train.y[:count])
        seconds = time.perf_counter() - began
        if task.valid is None:
            self._notes.append(
                "the task has no validation split, so learning rates are chosen on the test split; give "
                "Task(valid=...) to keep the test split for the last word"
            )
        return Trial(
            task=self._recipe.task,
            train=len(task.train),
            valid=None if task.valid is None else len(task.valid),
            test=len(task.test),
            inputs=task.train.x[0].numel(),
            outputs=logits.shape[-1],
            weights=sum(t.numel() for t in [*model.parameters(), *model.buffers()]),
            trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            loss=loss,
            samples=count,
            seconds=seconds,
            notes=tuple(self._notes),
        )

    def _model_faults(self) -> Iterator[str]:
        """`model` builds a new network each time it is called."""
        model = self._task.model
        if isinstance(model, nn.Module) or not callable(model):
            name = type(model).__name__
            yield (
                f"task.model must be a function that builds a network, found an object of type {name}; give the class "
                f"itself or `lambda: {name}(...)`: every member starts from fresh weights of its own"
            )

    def _network_faults(self, model: object) -> Iterator[str]:
        if not isinstance(model, nn.Module):
            yield f"task.model must return a torch.nn.Module, found {type(model).__name__}; return the network"
            return
        other = _own("task.model", self._task.model)
        shared = {id(parameter) for parameter in model.parameters()} & {id(p) for p in other.parameters()}
        if other is model or shared:
            yield (
                "task.model must build a fresh network at each call, found the same parameters twice; construct the "
                "network inside the function"
            )
        if not any(parameter.requires_grad for parameter in model.parameters()):
            yield "the network must have a parameter to train, found none with requires_grad; unfreeze some"
        missing = sorted(set(self._task.scale_invariant or ()) - {name for name, _ in model.named_parameters()})
        if missing:
            yield (
                f"task.scale_invariant must name parameters of the network, found {', '.join(missing)}; leave it out, "
                f"then they are found numerically; legal: {', '.join(name for name, _ in model.named_parameters())}"
            )

    def _batch(self, split: Split, count: int) -> Tensor:
        """Inputs of a split's first samples, augmented as in training where it is the training split."""
        task, x = self._task, split.x[:count]
        augment = task.augment
        if augment is not None and split is task.train:
            bits = torch.randint(-(2**62), 2**62, (count,), dtype=torch.int64)
            changed = _own("task.augment", lambda: augment(x.clone(), bits))
            if not isinstance(changed, Tensor) or changed.shape != x.shape or changed.dtype != x.dtype:
                raise SpecError(
                    [f"task.augment must return samples like those it got, {kind(x)}; found {kind(changed)}"]
                )
            x = changed
        return _own("task.encode", lambda: task.inputs(x, torch.float32))

    def _step(self, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
        """Forward and backward; logits and mean loss."""
        task, count = self._task, len(x)
        logits = _own(f"the network, on a batch {kind(x)},", lambda: model(x))
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != count:
            raise SpecError(
                [
                    f"the network must return logits, [batch, classes] or [batch, 1], found {kind(logits)} "
                    f"for {count} samples; return a tensor of {count} rows"
                ]
            )
        if not bool(torch.isfinite(logits).all()):
            raise SpecError(
                ["a fresh network must return finite logits, found nan or inf; look at its initial weights"]
            )
        if found := list(target_faults(task, logits.shape[-1])):
            raise SpecError(found)
        targets = y.to(torch.float32) if y.is_floating_point() else y
        losses = _own(
            f"task.loss, on logits {kind(logits)} and targets {kind(targets)},", lambda: task.loss(logits, targets)
        )
        if not isinstance(losses, Tensor) or losses.shape != (count,):
            raise SpecError(
                [
                    f"task.loss must return one number for each sample, [{count}], found {kind(losses)}; losses "
                    "of torch do so with reduction='none'"
                ]
            )
        if not bool(torch.isfinite(losses).all()):
            raise SpecError([f"task.loss must be finite for a fresh network, found {losses.detach().mean().item()}"])
        self._gradient(model, losses.mean())
        return logits.detach(), float(losses.detach().mean())

    def _gradient(self, model: nn.Module, loss: Tensor) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not loss.requires_grad:
            raise SpecError(
                ["the loss must depend on the weights, found none that it does; remove detach() or no_grad()"]
            )
        found = _own("the backward pass", lambda: torch.autograd.grad(loss, list(named.values()), allow_unused=True))
        unused = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
        if unused:
            raise SpecError(
                [
                    f"every trained parameter must take part in the loss, found none of it in {', '.join(unused)}; use "
                    "them in forward, or set requires_grad_(False) on them"
                ]
            )
        if not all(bool(torch.isfinite(gradient).all()) for gradient in found):
            raise SpecError(["the gradient of a fresh network must be finite, found nan or inf"])

    def _evaluation_faults(self, model: nn.Module, outputs: int) -> Iterator[str]:
        """Every split goes through the network in eval mode."""
        model.eval()
        with torch.no_grad():
            for name, split in splits_of(self._task).items():
                if name == "train":
                    continue
                x = self._batch(split, min(SAMPLES, len(split)))
                logits = _own(f"the network in eval mode, on split {name!r},", lambda x=x: model(x))  # type: ignore[misc]
                if not isinstance(logits, Tensor) or logits.shape != (len(x), outputs):
                    yield (
                        f"the network must return [{len(x)}, {outputs}] on split {name!r} as on train, found "
                        f"{kind(logits)}"
                    )
        model.train()
