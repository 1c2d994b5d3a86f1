"""What the values in a sweep file may be, each with one rule that a sentence can state."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from trainables.spec import Scalar

__all__ = [
    "Count",
    "Fraction",
    "NotNegative",
    "Number",
    "Part",
    "Positive",
    "Share",
    "Times",
    "Value",
    "auto_or_count",
    "bytes_of",
    "size_in_words",
    "whole_or_two",
]


def _not_a_bool(value: object) -> object:
    """Refuse true and false where a number is meant: pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, found {str(value).lower()}")
    return value


def auto_or_count(value: object) -> object:
    """Check `auto` or a count by one rule, in place of the two halves of a union.

    Args:
        value: what the sweep file says.

    Returns:
        The same.
    """
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"must be auto or a whole number of at least 1, found {value!r}")
    return value


def one_value(value: object) -> object:
    """One rule in place of the parts of a union."""
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"must be one number, word, true, false or null, found {value!r}")
    return value


def whole_or_two(value: object) -> object:
    """Check a number of values, or a first one and one past the last, by one rule.

    Args:
        value: what the sweep file says.

    Returns:
        The same.
    """
    ends = value if isinstance(value, list | tuple) else [value]
    if len(ends) not in (1, 2) or not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"must be a whole number, or two of them (the first, and one past the last); found {value!r}")
    return value


def joined(value: object) -> object:
    """Several numbers, as the times of several decays are, as one text; anything else as it is.

    Args:
        value: what the sweep file says.

    Returns:
        For instance `"0.5, 0.75"`.
    """
    if isinstance(value, list | tuple) and value and all(isinstance(part, int | float) for part in value):
        return ", ".join(map(str, value))
    return value


def bytes_of(text: str) -> int | None:
    """A size in words as a number.

    Args:
        text: such as `20GB` (of 1000) or `500MiB` (of 1024).

    Returns:
        Bytes; None where it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B\s*", text, re.IGNORECASE)
    if not found:
        return None
    number, power, binary = float(found[1]), " KMGTP".index(found[2].upper() or " "), bool(found[3])
    return int(number * (1024 if binary else 1000) ** power) or None


def size_in_words(value: object) -> object:
    """Check a size in words, or null.

    Args:
        value: what the sweep file says.

    Returns:
        The same.
    """
    if value is not None and not (isinstance(value, str) and bytes_of(value)):
        raise ValueError(f"must be a size such as 20GB or 500MiB, or null for no limit; found {value!r}")
    return value


Number = BeforeValidator(_not_a_bool)
Value = Annotated[Scalar, BeforeValidator(one_value)]
Times = Annotated[Scalar, BeforeValidator(one_value), BeforeValidator(joined)]
Count = Annotated[int, Number, Field(ge=1)]
Positive = Annotated[float, Number, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Number, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Number, Field(gt=0, lt=1)]
Share = Annotated[float, Number, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A part of a sweep file: immutable, without keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
