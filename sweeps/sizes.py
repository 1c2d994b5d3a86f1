"""How large a recipe's network and data are: by formula for the built-in multilayer perceptrons, else measured."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Self

from sweeps.schema import Sweep
from trainables.spec import Recipe, SpecError

if TYPE_CHECKING:
    from trainables.trace import MemoryCourse

__all__ = ["Sizes"]

_IMAGE = 3072
_FORMULA_TASKS = ("digits", "tick_features")
_FORMULA_MODELS = ("mlp", "mlp_norm", "mlp_si")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a recipe's network and data are.

    Attributes:
        inputs: numbers per sample.
        trained: parameters that are trained.
        frozen: parameters that are not.
        buffers: numbers in buffers, such as norm statistics.
        multiply_adds: of one sample's forward pass.
        units: activations of one sample that a step keeps.
        train: training samples.
        valid: validation samples.
        test: test samples.
        probe_sets: evaluation sets beside these.
        probe: samples in each.
        stackable: many rows can train as one compiled step.
        groupable: pairs of networks can train as one on a CPU.
        sample_bytes: of one sample at rest.
        prepared_bytes: of what augmentation reads, for each training sample.
        shared_bytes: held once by the task, for all draws of the data.
        draw_bytes: held by the task for each draw.
        seeded: draws of different data seeds differ.
        step: memory of one network's training step; None where `units` say it.
        evaluation: memory of one network's evaluation; None where `units` say it.
        guess: why these are guesses; empty where they are not.
    """

    inputs: int
    trained: int
    frozen: int = 0
    buffers: int = 0
    multiply_adds: float
    units: float
    train: int
    valid: int = 0
    test: int
    probe_sets: int = 0
    probe: int = 0
    stackable: bool = True
    groupable: bool = False
    sample_bytes: float
    prepared_bytes: float = 0.0
    shared_bytes: float = 0.0
    draw_bytes: float = 0.0
    seeded: bool = True
    step: "MemoryCourse | None" = None
    evaluation: "MemoryCourse | None" = None
    guess: str = ""

    @property
    def weights(self) -> int:
        """Numbers that make one network: what is kept of a member."""
        return self.trained + self.frozen + self.buffers

    @property
    def reported(self) -> int:
        """Samples evaluated at each report: the validation split's, or the test split's where there is none."""
        return self.valid or self.test

    @property
    def evaluated(self) -> int:
        """Samples evaluated at the end of each member."""
        return self.train + self.valid + self.test + self.probe_sets * self.probe

    @classmethod
    def of(cls, recipe: Recipe, sweep: Sweep) -> "Sizes":
        """Find the sizes of a recipe.

        Args:
            recipe: one of the sweep's.
            sweep: says what is measured.

        Returns:
            The sizes. Where the user's own code fails, guesses that say why: the plan is no place to fail at it.
        """
        if recipe.task in _FORMULA_TASKS and recipe.model in _FORMULA_MODELS:
            return cls._of_perceptron(recipe, probes=bool(sweep.measure.probes))
        return _measured(recipe, probes=bool(sweep.measure.probes))

    @classmethod
    def _of_perceptron(cls, recipe: Recipe, *, probes: bool) -> Self:
        """By formula: torch need not be loaded, and a plan of 100,000 members takes seconds."""
        task, model = dict(recipe.task_args), dict(recipe.model_args)
        features = int(task.get("features") or 0)
        inputs, outputs = (2 * features, 1) if features else (64, 10)
        width, depth = int(model["width"] or 0), int(model["depth"] or 0)
        maps, head = inputs * width + (depth - 1) * width**2, width * outputs
        norm, practical = model.get("norm", "layer"), recipe.model == "mlp"
        everything = practical or model.get("trains") == "all"
        biases = depth * width + outputs if practical else 0
        affine = 2 * depth * width if everything and norm != "none" else 0
        return cls(
            inputs=inputs,
            trained=maps + biases + affine + (head if everything else 0),
            frozen=0 if everything else head,
            buffers=depth * (2 * width + 1) if norm == "batch" else 0,
            multiply_adds=maps + head,
            units=inputs + depth * width + outputs,
            train=int(task["train_size"] or 0),
            test=int(task["test_size"] or 0),
            probe_sets=features if probes else 0,
            probe=int(task.get("probe_size") or 0),
            stackable=not model.get("dropout"),
            sample_bytes=4 * inputs + 8,
            draw_bytes=8 * inputs * (int(task["train_size"] or 0) + int(task["test_size"] or 0)),
        )


@lru_cache(maxsize=256)
def _measured(recipe: Recipe, *, probes: bool) -> Sizes:
    """From the network itself; torch is loaded."""
    from trainables.footprint import footprint

    try:
        found = footprint(recipe)
    except SpecError as error:
        reason = error.faults[0]
    # The user's own code may raise anything: told with its traceback where it is tried out, and here in one line.
    except Exception as error:
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
    else:
        return Sizes(
            inputs=found.inputs,
            trained=found.trained,
            frozen=found.frozen,
            buffers=found.buffers,
            multiply_adds=found.multiply_adds,
            units=found.units,
            train=found.train,
            valid=found.valid,
            test=found.test,
            probe_sets=found.probe_sets if probes else 0,
            probe=found.probe,
            stackable=found.stackable,
            groupable=found.groupable,
            sample_bytes=found.sample_bytes,
            prepared_bytes=found.prepared_bytes,
            shared_bytes=found.shared_bytes,
            draw_bytes=found.draw_bytes,
            seeded=found.seeded,
            step=found.step,
            evaluation=found.evaluation,
        )
    return Sizes(
        inputs=_IMAGE,
        trained=100_000,
        multiply_adds=1e6,
        units=10_000.0,
        train=10_000,
        test=2_000,
        sample_bytes=4 * _IMAGE + 8,
        draw_bytes=4 * _IMAGE * 12_000,
        guess=reason,
    )
