"""The error that says what is wrong with the input."""

__all__ = ["SpecError"]


class SpecError(ValueError):
    """The input is wrong. Holds every fault found, each with the rule, the value found and the way out.

    Args:
        faults: one sentence for each fault.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
