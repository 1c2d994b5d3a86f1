"""The error that says what is wrong with the input."""

import difflib
from collections.abc import Iterable

__all__ = ["SpecError", "did_you_mean"]


class SpecError(ValueError):
    """The input is wrong. Holds every fault found, each with the rule, the value found and the way out.

    Args:
        faults: one sentence for each fault.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def did_you_mean(found: object, legal: Iterable[str]) -> str:
    """A guess at what was meant.

    Args:
        found: what was written.
        legal: what could have been.

    Returns:
        ` (did you mean '...'?)`, or nothing where no legal name is near.
    """
    near = difflib.get_close_matches(str(found), list(legal), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
