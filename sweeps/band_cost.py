"""What a study of the user's own task will cost, measured: a few steps of the real training loop, timed here."""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from sweeps.band_design import Design
from sweeps.cost import START_SECONDS
from sweeps.own_task import Trial
from trainables.loop import Report, train
from trainables.spec import Measure, Pack

__all__ = ["Calibration", "calibrate"]

INTERVAL_SECONDS = 0.5
"""About how long one timed stretch takes."""
ENOUGH_SECONDS = 6.0
"""Time after which two timed stretches are enough."""
STRETCHES = 5
ROWS = 96
"""Most rows that are timed together."""
INPROCESS_SECONDS = 4.0
"""Report and mirror, where no Ray is started."""
_PATIENT = 1e9


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured cost of training one task on this machine.

    Attributes:
        rows: networks that were trained together.
        step_seconds: one step of one of them.
        evaluation_seconds: one of them on `valid` and `test`.
        begin_seconds: data, compilation and the first steps of a pack.
        final_share: samples of all splits over those of `valid` and `test`: what an evaluation at the end costs more.
    """

    rows: int
    step_seconds: float
    evaluation_seconds: float
    begin_seconds: float
    final_share: float

    def seconds(self, design: Design, lanes: int, *, ray: bool) -> float:
        """Wall time of a study.

        Args:
            design: the study.
            lanes: packs at work at once.
            ray: whether Ray is started for it.

        Returns:
            Training, evaluation, start and report.
        """
        ends = design.members + design.trunks  # the averages, too
        evaluations = design.reports + ends * self.final_share
        work = design.member_steps * self.step_seconds + evaluations * self.evaluation_seconds
        return (START_SECONDS if ray else INPROCESS_SECONDS) + self.begin_seconds + work / lanes


def calibrate(pack: Pack, trial: Trial, *, executor: str, device: str) -> Calibration:
    """Time the training of a pack's first members from their first step.

    Args:
        pack: as it would be trained.
        trial: of its task; its timed step decides how much is timed.
        executor: as the sweep asks.
        device: where the sweep trains.

    Returns:
        The cost. Takes some seconds; more where a single step does.
    """
    guess = trial.seconds * max(1.0, pack.recipe.batch_size / trial.samples)
    roots = [segment for segment in pack.segments if segment.parent is None]
    rows = max(1, min(ROWS, len(roots), math.floor(INTERVAL_SECONDS / (3 * guess))))
    every = max(3, min(200, math.ceil(INTERVAL_SECONDS / (rows * guess))))
    steps = every * 1000  # more than will be taken
    short = Pack(
        pack_id="calibration",
        recipe=pack.recipe,
        measure=Measure(report_every=every),
        segments=tuple(replace(s, steps=steps, phase=replace(s.phase, steps=steps)) for s in roots[:rows]),
        width=rows,
    )
    with tempfile.TemporaryDirectory(prefix="lratlas-") as place:
        (Path(place) / "state").mkdir()
        began = time.perf_counter()
        reports = train(short, folder=Path(place), attempt=1, executor=executor, device=device, save_seconds=_PATIENT)
        first, *stretches = _stretches(reports, began)
    training = median(stretch.training for stretch in stretches)
    splits = (trial.valid or 0) + trial.test
    return Calibration(
        rows=rows,
        step_seconds=training / (every * rows),
        evaluation_seconds=max(0.0, median(s.whole - s.training for s in stretches)) / rows,
        begin_seconds=max(0.0, first.whole - median(s.whole for s in stretches)),
        final_share=(splits + trial.train) / splits,
    )


@dataclass(frozen=True)
class _Stretch:
    """Wall seconds from one report to the next, and those of them spent in training steps."""

    whole: float
    training: float


def _stretches(reports: Iterator[Report], began: float) -> list[_Stretch]:
    """The first stretch, with everything that is done once in it, and a few more."""
    found: list[_Stretch] = []
    since, first_at = began, began
    for report in reports:
        if not report.epochs:
            continue
        now = time.perf_counter()
        found.append(_Stretch(now - since, sum(row.seconds or 0.0 for row in report.epochs)))
        since = now
        first_at = now if len(found) == 1 else first_at
        if len(found) > STRETCHES or (len(found) > 2 and now - first_at > ENOUGH_SECONDS):
            break
    return found
