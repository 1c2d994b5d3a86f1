"""Faults as sentences: the rule, the value found, the way out."""

from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from trainables.faults import did_you_mean

__all__ = ["dotted", "sentences", "unknown"]


def unknown(kind: str, found: object, legal: Iterable[str], *, place: str = "", hint: str = "") -> str:
    """A name that does not exist.

    Args:
        kind: what it would be a name of.
        found: what was written.
        legal: the names there are.
        place: where it was written.
        hint: one more way out.

    Returns:
        One sentence.
    """
    legal = list(legal)
    return f"unknown {kind} {found!r}{place}{did_you_mean(found, legal)}; legal: {', '.join(legal) or 'none'}{hint}"


def dotted(location: Iterable[object]) -> str:
    """Where something stands in a sweep file, as `--set` takes it.

    Args:
        location: keys and indices from the top.

    Returns:
        For instance `phases.0.steps`.
    """
    return ".".join(str(part) for part in location)


def sentences(error: ValidationError, root: type[BaseModel], prefix: tuple[int | str, ...] = ()) -> list[str]:
    """Pydantic's findings in the words of a sweep file.

    Args:
        error: what pydantic raised.
        root: the model it was checking.
        prefix: where that model stands in the sweep file.

    Returns:
        One sentence for each finding.
    """
    found: list[dict[str, Any]] = [dict(each) for each in error.errors(include_url=False)]
    # A list whose only item is faulty counts as empty: the item's own fault says it all.
    short = [each["loc"] for each in found if each["type"] == "too_short"]
    empty = [loc for loc in short if not any(each["loc"][: len(loc)] == loc != each["loc"] for each in found)]
    kept = [each for each in found if each["type"] != "too_short" or each["loc"] in empty]
    return [line for each in kept for line in _sentences(each, root, prefix)]


def _sentences(found: dict[str, Any], root: type[BaseModel], prefix: tuple[int | str, ...]) -> list[str]:
    """One finding; several sentences where a part's own check found several faults."""
    if found["type"] != "value_error":
        return [_sentence(found, root, prefix)]
    return [_sentence({**found, "msg": line}, root, prefix) for line in str(found["msg"]).split("\n")]


def _sentence(found: dict[str, Any], root: type[BaseModel], prefix: tuple[int | str, ...]) -> str:
    location = tuple(part for part in found["loc"] if not str(part).startswith("["))  # what pydantic adds: no place
    where = dotted((*prefix, *location))
    rule = str(found["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if found["type"] == "extra_forbidden":
        place = dotted((*prefix, *location[:-1])) or "the sweep file"
        return unknown("key", location[-1], _keys(root, location[:-1]), place=f" in {place}")
    if found["type"] == "missing":
        place = dotted((*prefix, *location[:-1])) or "the sweep file"
        return f"{place} must have the key {location[-1]!r}, found none; add it"
    if found["type"] == "model_type":
        return f"{where} must be a mapping with the keys {', '.join(_keys(root, location))}; found {found['input']!r}"
    if found["type"] == "value_error":
        return f"{where}: {rule}"
    if found["type"] in ("literal_error", "enum"):
        rule += did_you_mean(found["input"], [word.strip("',") for word in rule.split() if word.startswith("'")])
    return f"{where} {rule[0].lower()}{rule[1:]}, found {found['input']!r}"


def _keys(root: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The legal keys at a place below a model."""
    here: Any = root
    for part in location:
        here = here.model_fields[part].annotation if _is_model(here) else _inner(here)
        here = _inner(here) if get_origin(here) in (Union, UnionType) else here
    model = _model_in(here)
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model among the forms that a value may have."""
    if _is_model(annotation):
        return annotation  # type: ignore[no-any-return]
    forms = get_args(annotation) if get_origin(annotation) in (Union, UnionType, Annotated) else ()
    return next((model for form in forms if (model := _model_in(form))), None)


def _inner(annotation: Any) -> Any:
    """What a tuple, mapping or optional value holds."""
    arguments = [argument for argument in get_args(annotation) if argument not in (NoneType, Ellipsis)]
    return arguments[-1] if arguments else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
