"""What is measured on finished weights: final quality, probe sets, and the files that keep them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.arena import Arena, StackedSplit
from trainables.checkpoint import save_checkpoint
from trainables.evaluate import Evaluation, Yardstick, evaluate_loop, evaluate_stacked
from trainables.norm_statistics import reestimate_norms, reestimate_stacked
from trainables.population import to_module_layout
from trainables.predict import predict
from trainables.rows import ProbeRow
from trainables.spec import Labels, Member, Recipe
from trainables.stacking import Stacked

__all__ = ["Judge"]


class Judge:
    """Evaluates and keeps solutions of one pack."""

    def __init__(self, recipe: Recipe, arena: Arena, module: nn.Module, model: Stacked | None) -> None:
        """Bind what stays the same.

        Args:
            recipe: of the pack.
            arena: its data.
            module: one network; only its structure is used.
            model: its batched form, None for the loop.
        """
        self._recipe = recipe
        self._arena = arena
        self._module = module
        self._model = model
        self._yardstick = Yardstick.of(arena.task, recipe)

    def evaluate(self, weights: Mapping[str, Tensor], split: str, draws: Tensor) -> Evaluation:
        """Loss and error on a split.

        Args:
            weights: all parameters and buffers, `[N, *shape]`, in the population's layout.
            split: its name.
            draws: each row's draw, `[N]`.

        Returns:
            Loss and error of each row.
        """
        return self._evaluate(weights, self._arena.splits[split], draws)

    def _evaluate(self, weights: Mapping[str, Tensor], data: StackedSplit, draws: Tensor) -> Evaluation:
        if self._model is not None:
            return evaluate_stacked(self._model, weights, data, draws, self._yardstick)
        return evaluate_loop(self._module, weights, data, draws, self._yardstick)

    def reestimate(self, weights: Mapping[str, Tensor], draws: Tensor) -> None:
        """Recompute norm statistics of averaged weights, in place; arguments as in `evaluate`."""
        if self._model is None:
            reestimate_norms(self._module, weights, self._arena.train, draws, self._yardstick)
        else:
            reestimate_stacked(self._model, weights, self._arena.train, draws, self._yardstick)

    def probe(
        self,
        weights: Mapping[str, Tensor],
        draws: Tensor,
        owners: list[Member],
        known: Mapping[str, Evaluation],
        *,
        group: str,
        step: int,
        attempt: int,
    ) -> list[ProbeRow]:
        """Rows of final quality on every split, and of accuracy on every probe set.

        Args:
            weights: as in `evaluate`.
            draws: as in `evaluate`.
            owners: whose weights, N of them.
            known: results that need not be computed again, by split.
            group: `end` or `swa@W`.
            step: schedule step of the weights.
            attempt: of the pack.

        Returns:
            Rows for the table `probes`.
        """
        measured: list[tuple[str, str, str, Tensor, int]] = []
        for split in (name for name in ("train", "valid", "test") if name in self._arena.splits):
            result = known[split] if split in known else self.evaluate(weights, split, draws)
            measured.append(("final", split, "loss", result.loss, result.n))
            measured.append(("final", split, "error", result.error, result.n))
        for wanted in self._arena.groups:
            for one in self._arena.probe_sets(wanted):
                result = self._evaluate(weights, one.data, draws)
                measured.append((one.probe, one.split, one.key, 1 - result.error, result.n))
        return [
            ProbeRow(
                member_id=owner.member_id,
                attempt=attempt,
                step=step,
                probe=probe,
                split=where,
                group=group,
                key=key,
                value=value,
                n=n,
            )
            for probe, where, key, values, n in measured
            for owner, value in zip(owners, values.tolist(), strict=True)
        ]

    def labels(
        self,
        weights: Mapping[str, Tensor],
        draws: Tensor,
        owners: list[Member],
        wanted: Labels,
        *,
        step: int,
        attempt: int,
    ) -> list[ProbeRow]:
        """Rows of predicted classes, one for each network and sample.

        Args:
            weights: as in `evaluate`.
            draws: as in `evaluate`.
            owners: whose weights, N of them.
            wanted: which samples.
            step: schedule step of the weights.
            attempt: of the pack.

        Returns:
            Rows for the table `probes`: the sample's number is the key, the class the value.
        """
        if not owners:
            return []
        x = self._arena.splits[wanted.split].x[:, : wanted.samples]
        classes = predict(self._model, self._module, weights, x, draws, self._yardstick).tolist()
        keys = [str(sample) for sample in range(x.shape[1])]
        return [
            ProbeRow(
                member_id=owner.member_id,
                attempt=attempt,
                step=step,
                probe="label",
                split=wanted.split,
                group="end",
                key=key,
                value=float(value),
                n=1,
            )
            for owner, row in zip(owners, classes, strict=True)
            for key, value in zip(keys, row, strict=True)
        ]

    def keep(
        self,
        path: Path,
        weights: Mapping[str, Tensor],
        owners: list[Member],
        *,
        group: str,
        step: int,
        transposed: frozenset[str],
        executor: str,
    ) -> None:
        """Write weights to `checkpoints/`.

        Args:
            path: without suffix.
            weights: as in `evaluate`.
            owners: whose weights.
            group: `end`, `swa@W` or `step@N`.
            step: schedule step of the weights.
            transposed: parameters the population holds transposed.
            executor: what trained them.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            path,
            {name: tensor.cpu() for name, tensor in to_module_layout(weights, transposed).items()},
            [(owner.member_id, group) for owner in owners],
            steps=[step] * len(owners),
            recipe=self._recipe,
            seeds=[(owner.seed, owner.data_seed) for owner in owners],
            executor=executor,
        )


def pick(weights: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    """Some rows of every tensor.

    Args:
        weights: name to `[K, *shape]`.
        rows: indices.

    Returns:
        Name to `[len(rows), *shape]`.
    """
    index = torch.as_tensor(rows, dtype=torch.long)
    return {name: tensor.index_select(0, index.to(tensor.device)) for name, tensor in weights.items()}
