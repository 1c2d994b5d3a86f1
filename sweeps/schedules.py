"""Schedules as the prefix tree compares them: by what every step does, whatever the phases are called and cut."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from trainables.curves import Stretch, stretches
from trainables.spec import Phase

__all__ = ["Key", "PhaseKey", "Schedule", "phase_key"]


@dataclass(frozen=True, slots=True)
class Course:
    """What a phase that is not plain does beyond its steps, learning rate and weight decay.

    Attributes:
        noise: the noises, in words.
        begins: what happens once, at the phase's start, in words; empty where nothing does.
        stretches: the course of its learning rate.
    """

    noise: str
    begins: str
    stretches: tuple[Stretch, ...]


PhaseKey = tuple[int, float, float] | tuple[int, float, float, str, Course]
"""A phase without its name: its key, and what a key in words does not say in numbers."""

Key = tuple[PhaseKey, ...]
"""A schedule without its phases' names."""


def phase_key(phase: Phase) -> PhaseKey:
    """A phase as schedules are compared.

    Args:
        phase: any phase.

    Returns:
        Hashable and sortable; equal for phases that train alike from their start to their end.
    """
    if phase.is_plain:
        return (phase.steps, float(phase.lr), float(phase.weight_decay))
    noises = {"grad noise": float(phase.grad_noise), "activation noise": float(phase.activation_noise)}
    noise = "".join(f",{name} {value!r}" for name, value in noises.items() if value)
    begins = ["fresh"] if phase.fresh_optimizer else []
    begins += [f"kick {float(phase.kick)!r}"] if phase.kick != 1 else []
    course = Course(noise, " ".join(begins), stretches(phase.curve, phase.steps))
    return (phase.steps, float(phase.lr), float(phase.weight_decay), repr((phase.curve, course)), course)


class Schedule:
    """One schedule, cut where it may part from others: a phase ends, or its learning rate begins another course.

    Attributes:
        bounds: schedule steps at which phases end.
        stops: schedule steps at which stretches end.
        texts: for each stretch, everything that its steps depend on, in words.
        begins: what happens once before a schedule step, in words, by that step.
    """

    __slots__ = ("begins", "bounds", "stops", "texts")

    def __init__(self, key: Key) -> None:
        """Put a schedule into words.

        Args:
            key: one entry for each phase.
        """
        self.bounds = list(accumulate(phase[0] for phase in key))
        self.stops: list[int] = []
        self.texts: list[str] = []
        self.begins: dict[int, str] = {}
        for end, phase in zip(self.bounds, key, strict=True):
            start, lr, decay = end - phase[0], phase[1], phase[2]
            if len(phase) == 3:
                self._append(end, f"{lr!r},{decay!r}")
                continue
            course = phase[4]
            if begins := course.begins if start else course.begins.removeprefix("fresh").strip():
                self.begins[start] = begins  # at the very beginning there is nothing to forget
            begun = start
            for stretch in course.stretches:
                # a changing rate depends on where its change began; a constant one only on its value
                rate = f"{lr!r} {stretch.law} from {begun}" if stretch.factor is None else f"{lr * stretch.factor!r}"
                begun = start + stretch.stop
                self._append(begun, f"{rate},{decay!r}{course.noise}")

    def _append(self, stop: int, text: str) -> None:
        self.stops.append(stop)
        self.texts.append(text)

    def place(self, step: int) -> int:
        """Find the stretch of a step.

        Args:
            step: schedule steps done before it.

        Returns:
            Index into `stops` and `texts`.
        """
        return bisect_right(self.stops, step)
