"""Rows of the table `epochs`: what one reporting interval of a cohort came to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from trainables.evaluate import Evaluation
from trainables.population import Population
from trainables.rates import reported_lr
from trainables.rows import EpochRow
from trainables.spec import Member, Segment
from trainables.update import Rule, row_norm_sq

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval:
    """A stretch of training between two reports.

    Attributes:
        start: schedule step of the last report.
        stop: schedule step now.
        seconds: wall time it took.
        per_epoch: steps in one pass over the training set.
        attempt: of the pack.
    """

    start: int
    stop: int
    seconds: float
    per_epoch: int
    attempt: int

    def rows(
        self,
        population: Population,
        rule: Rule,
        segments: Sequence[Segment],
        watched: str,
        result: Evaluation,
        ended: Collection[str],
    ) -> tuple[list[EpochRow], list[tuple[Member, str]]]:
        """The interval's rows.

        Args:
            population: its sums are those of the interval.
            rule: says which weights count in norms.
            segments: what trains, in row order.
            watched: the split that was evaluated, `valid` or `test`.
            result: its evaluation.
            ended: ids of members that ended before.

        Returns:
            Rows, and the members that died in the interval, each with the reason; those have a row without numbers.
        """
        loss, error, grad = (population.sums / (self.stop - self.start)).tolist()
        norm = row_norm_sq(list(population.trained.values()), rule.measured).tolist()
        triggered, alive = population.triggered.tolist(), population.alive.tolist()
        watched_loss, watched_error = result.loss.tolist(), result.error.tolist()
        rows, died = [], []
        for place, segment in enumerate(segments):
            owner = segment.owner
            if owner.member_id in ended:
                continue
            blank = EpochRow(
                member_id=owner.member_id,
                attempt=self.attempt,
                epoch=self.stop // self.per_epoch,
                step=self.stop,
                lr=reported_lr(segment, self.stop, triggered[place]),
                seconds=self.seconds / len(segments),
            )
            if not alive[place]:
                between = f"between steps {self.start} and {self.stop}, at lr {segment.phase.lr:g}"
                died.append((owner, f"loss or weights were not finite {between}"))
                rows.append(blank)
                continue
            measured = {f"{watched}_loss": watched_loss[place], f"{watched}_error": watched_error[place]}
            rows.append(
                replace(
                    blank,
                    train_loss=loss[place],
                    train_error=error[place],
                    weight_norm_sq=norm[place],
                    grad_norm_sq=grad[place],
                    **measured,
                )
            )
        return rows, died
