"""What a caller's own network and loss must keep to, said in a sentence where they do not."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from trainables.spec import SpecError

__all__ = ["per_sample", "running"]


def per_sample(values: Tensor, samples: int, what: str) -> Tensor:
    """A caller's loss or error, checked.

    Args:
        values: what it gave.
        samples: how many it was asked about.
        what: its name, for the message.

    Returns:
        `values`, `[samples]`.

    Raises:
        SpecError: not one number for each sample: everything that is summed over samples would be wrong.
    """
    if isinstance(values, Tensor) and values.shape == (samples,):
        return values
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape == ():
        way = "take one without a mean or sum, such as reduction='none'"
    else:
        way = "average over everything but samples, such as loss.flatten(1).mean(1), and give targets of fitting shape"
    raise SpecError([f"the {what} must give one number for each of {samples} samples, found the shape {shape}; {way}"])


@contextmanager
def running(what: str) -> Iterator[None]:
    """Turn whatever a caller's code raises into a sentence.

    Args:
        what: is being run, for the message.

    Raises:
        SpecError: it raised; its own error is the cause.
    """
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise SpecError([f"{what} must run on the data given, found {type(error).__name__}: {said}"]) from error
