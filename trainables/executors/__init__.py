"""How K networks take a step: `stacked`, `grouped`, `branches` or `loop`.

All share the optimiser (`update.py`) and give the same mathematics; bits differ between executors, never with the
number of rows, their order or their neighbours within one.
"""

from trainables.executors.base import Block, Executor, ExecutorName, Hyper, Loss, Traits

__all__ = ["Block", "Executor", "ExecutorName", "Hyper", "Loss", "Traits"]
