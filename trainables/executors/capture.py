"""A step recorded once as a CUDA graph and replayed: the host then starts one graph instead of hundreds of kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Graph"]

WARM_UP = 3  # steps before recording, as torch asks for: libraries choose algorithms and allocate workspaces in them


class Graph:
    """A recorded step. Its inputs are copied to fixed places before each replay; what it changes stays where it is."""

    def __init__(self, step: Callable[..., None], inputs: Sequence[Tensor | None], changed: Sequence[Tensor]) -> None:
        """Record a step; what it changes is left as it was.

        Args:
            step: takes the inputs and works in place; must not read anything back to the host.
            inputs: of the shapes and types that replays will bring.
            changed: every tensor that the step changes.
        """
        self._step = step  # what it refers to is read at every replay and must stay
        self._inputs = [None if value is None else value.clone() for value in inputs]
        before = [tensor.clone() for tensor in changed]
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP):
                    step(*self._inputs)
            torch.cuda.current_stream().wait_stream(beside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                step(*self._inputs)
        finally:
            torch.cuda.current_stream().wait_stream(beside)
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

    def __call__(self, *inputs: Tensor | None) -> None:
        """Replay the step.

        Args:
            inputs: as at recording.
        """
        for place, value in zip(self._inputs, inputs, strict=True):
            if place is not None and value is not None:
                place.copy_(value)
        self._graph.replay()
