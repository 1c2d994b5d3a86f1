"""What is learned: data, model and loss together, built by a function."""

from trainables.tasks.base import Split, Task

__all__ = ["Split", "Task"]
