"""What a pack holds at its worst moment, counted: rows, data, and the largest of what comes and goes.

Rows stay: weights, optimiser state, gradients, sums for averages. Beside them one thing at a time is at work: a step,
an update, a measurement, the saving of a state, the keeping of finished weights. `benchmarks/memory.py` compares the
sum with what processes were seen to take.
"""

import bisect
import math
from dataclasses import dataclass

from sweeps.sizes import Sizes
from trainables.spec import Recipe

__all__ = ["MemoryModel"]

STREAMS = 8
"""Networks whose activations are alive at once where a GPU trains ordinary modules side by side."""
EVALUATED = 1000
"""Samples that one module evaluates at once on a CPU."""
EVALUATED_ON_GPU = 10_000
STACKED_INPUTS = 1 << 22
"""Most input numbers that stacked networks evaluate at once."""
STACKED_UNITS = 2.0
"""How often a compiled step of stacked networks holds an activation: its value and its gradient."""
SAVED = 2
"""Copies of what is saved while it becomes a file."""
MAPPED = 1 << 26
"""Tensors of at least so many bytes come from the system and go back to it at once; smaller ones from a heap that only
grows (`trainables.process` asks glibc for that; from half this size on it may do either)."""
HEAP = 1.35
"""What the heap takes for each byte in use, in holes between what is still alive."""
STACKED_HEAP = 1.7
"""The same for stacked networks, with what their compiled steps hold beside. Single processes lie up to a fifth to
either side, by where their heaps happen to have holes."""
LIBRARY_BYTES = 20e6
"""What convolution libraries keep for themselves once a module has trained on a CPU."""
LOADED = 3
"""Copies of parents' rows while children are made of them."""


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Memory of one recipe's packs beyond an idle process.

    Attributes:
        recipe: the recipe.
        sizes: its sizes.
        averages: running averages of weights that a row carries.
        momenta: rows carry momentum.
        stacked: rows train as one batched computation.
        gpu: packs train on a GPU; memory is then the GPU's.
    """

    recipe: Recipe
    sizes: Sizes
    averages: int
    momenta: bool
    stacked: bool
    gpu: bool

    @property
    def _item(self) -> int:
        return 8 if self.recipe.dtype == "float64" else 4

    @property
    def weight_bytes(self) -> float:
        """One network: parameters and buffers."""
        return self._item * self.sizes.weights

    @property
    def _trained(self) -> float:
        return self._item * self.sizes.trained

    @property
    def saved_bytes(self) -> float:
        """A row of a saved state: weights, optimiser state, sums for averages."""
        adapts = self.recipe.optimizer.adapts
        moments = 2 if adapts else 1 if self.momenta else 0
        return self.weight_bytes + (moments + self.averages) * self._trained

    @property
    def _row_stays(self) -> float:
        return self.saved_bytes + (0.0 if self.stacked else self._trained)

    @property
    def _rows_of_steps(self) -> float:
        """Of each row, while all take a step."""
        adapts = self.recipe.optimizer.adapts
        lists = 1 + (2 if adapts else 1 if self.momenta else 0) + (self.recipe.sphere_radius is not None)
        update = lists * self._trained
        lower = self._trained / 2 if self.recipe.dtype == "bfloat16" else 0.0
        batch = self.recipe.batch_size * self._item
        if self.stacked:
            return lower + update + self._trained + STACKED_UNITS * batch * self.sizes.units
        inputs = batch * self.sizes.inputs if self.gpu else 0.0
        return lower + update + inputs

    @property
    def _rows_of_files(self) -> float:
        """Of each row, while states are saved, weights kept, or children made."""
        kept = (2 + SAVED) * self.weight_bytes + (self._trained if self.averages else 0.0)
        return max(kept, SAVED * self.saved_bytes, (LOADED - 1) * (self.saved_bytes - self.averages * self._trained))

    def _step(self, *, least: float = 0.0, below: float = math.inf) -> float:
        """One network's step; of its tensors those of some sizes."""
        if self.sizes.step is not None:
            return self.sizes.step.peak(self._samples_at_once, least=least, below=below)
        return 0.0 if least else self._item * (2 * self._samples_at_once * self.sizes.units + self.sizes.trained)

    @property
    def _samples_at_once(self) -> int:
        """In one forward and backward pass: the batch of one network, or of a pair, tried at a pack's start."""
        return self.recipe.batch_size * (2 if self.sizes.groupable and not self.gpu else 1)

    def _evaluation(self, *, least: float = 0.0, below: float = math.inf) -> float:
        """The largest part of a split that is evaluated at once; of its tensors those of some sizes."""
        samples = max(self.sizes.train, self.sizes.valid, self.sizes.test, self.sizes.probe)
        if self.stacked:
            at_once = min(2 * samples, STACKED_INPUTS // max(1, self.sizes.inputs))
            return 0.0 if least else self._item * at_once * (self.sizes.inputs + self.sizes.units)
        at_once = min(samples, EVALUATED_ON_GPU if self.gpu else EVALUATED)
        if self.sizes.evaluation is not None:
            return self.sizes.evaluation.peak(at_once, least=least, below=below)
        return 0.0 if least else self._item * at_once * (self.sizes.inputs + self.sizes.units)

    def working_bytes(self, rows: int) -> float:
        """Rows and what is at work on them, at the worst moment.

        Args:
            rows: of the pack.

        Returns:
            Bytes.
        """
        stay, steps = rows * self._row_stays, rows * self._rows_of_steps
        measured = rows * self.weight_bytes
        if self.gpu:
            # A recorded step keeps its memory for itself.
            at_once = 0.0 if self.stacked else min(STREAMS, rows) * self._step()
            return stay + steps + at_once + measured + self._evaluation()
        if self.stacked:
            return STACKED_HEAP * (stay + max(steps, measured + self._evaluation(), rows * self._rows_of_files))
        heap = max(steps, self._step(below=MAPPED), measured + self._evaluation(below=MAPPED))
        mapped = max(self._step(least=MAPPED), self._evaluation(least=MAPPED))
        # What a step gave back lies in pieces of other sizes than files and copies of rows need: the two add up.
        return LIBRARY_BYTES + HEAP * (stay + heap + rows * self._rows_of_files) + mapped

    def data_bytes(self, draws: int) -> float:
        """Data, as the task holds them and as they are trained on.

        Args:
            draws: different data seeds.

        Returns:
            Bytes.
        """
        sizes = self.sizes
        draws = draws if sizes.seeded else 1
        stacked = sizes.train + sizes.valid + sizes.test + sizes.probe_sets * sizes.probe
        # Draws are laid side by side; a single one is used where it lies.
        beside = stacked * sizes.sample_bytes * draws if draws > 1 or self.gpu or not sizes.shared_bytes else 0.0
        prepared = draws * sizes.train * sizes.prepared_bytes
        held = 0.0 if self.gpu else sizes.shared_bytes + draws * sizes.draw_bytes
        return held + beside + prepared

    def pack_bytes(self, rows: int, draws: int) -> float:
        """Everything of a pack.

        Args:
            rows: of the pack.
            draws: different data seeds among them.

        Returns:
            Bytes beyond an idle process.
        """
        return self.working_bytes(rows) + self.data_bytes(draws)

    def host_bytes(self, rows: int, draws: int) -> float:
        """What of a pack lies in the computer's own memory: all of it, or beside a GPU data as read and states saved.

        Args:
            rows: of the pack.
            draws: different data seeds among them.

        Returns:
            Bytes beyond an idle process.
        """
        if not self.gpu:
            return self.pack_bytes(rows, draws)
        held = self.sizes.shared_bytes + (draws if self.sizes.seeded else 1) * self.sizes.draw_bytes
        return held + rows * max((1 + SAVED) * self.saved_bytes, LOADED * self.weight_bytes)

    def room(self, memory: float, most: int, draws_per_row: float) -> int:
        """The most rows of a pack that memory allows.

        Args:
            memory: for one pack, beyond an idle process.
            most: rows that are enough in any case.
            draws_per_row: different data seeds that a further row brings.

        Returns:
            At least 1: what does not fit at all is tried with one network at a time.
        """

        def needed(rows: int) -> float:
            return self.pack_bytes(rows, max(1, math.ceil(rows * draws_per_row)))

        room = bisect.bisect_right(range(1, most + 1), memory, key=needed)
        if self.sizes.step is not None and room < most:
            # Measured sizes may change a little with the version of torch. A plan that is made anew must not.
            room -= room % max(1, 2 ** (room.bit_length() - 3))
        return max(1, room)
