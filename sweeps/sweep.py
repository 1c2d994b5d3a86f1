"""Reading a sweep: from a preset's name or a file to a `Sweep`, or to all its faults at once."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sweeps.axes import arguments
from sweeps.checks import faults_of
from sweeps.draft import Draft
from sweeps.faults import sentences
from sweeps.schema import AnalysisSpec, Axis, Builder, LogGrid, MeasureSpec, PhaseSpec, ProbesSpec, Sweep, Train
from sweeps.source import override, preset_names, read_source
from sweeps.variants import RESOLVED, merged, own_content
from trainables.spec import SpecError

__all__ = ["Axis", "LogGrid", "PhaseSpec", "Sweep", "load_sweep", "preset_names", "sweep_from_mapping"]

_Part = TypeVar("_Part", bound=BaseModel)


def load_sweep(name_or_path: str, overrides: Sequence[str] = ()) -> Sweep:
    """Read and check a sweep.

    Args:
        name_or_path: a preset's name or the path of a YAML file.
        overrides: changes as `--set` takes them, e.g. `axes.seed.range=2`.

    Returns:
        The sweep, every default filled in.

    Raises:
        SpecError: every fault there is.
    """
    mapping, faults = override(read_source(name_or_path), overrides)
    return sweep_from_mapping(mapping, faults=faults)


def sweep_from_mapping(mapping: Mapping[str, Any], *, faults: Sequence[str] = ()) -> Sweep:
    """Check the content of a sweep file.

    Args:
        mapping: the content.
        faults: what was found wrong before.

    Returns:
        The sweep, every default filled in.

    Raises:
        SpecError: every fault there is, those found before included.
    """
    found = list(faults)
    try:
        sweep = Sweep.model_validate(dict(mapping))
    except ValidationError as error:
        sweep = None
        found += sentences(error, Sweep)
    found += faults_of(_draft(mapping, whole=sweep is not None))
    resolved, of_variants = _variants(mapping, found)
    found += of_variants
    if sweep is None or found:
        raise SpecError(found)
    filled: dict[str, Any] = {
        kind: Builder(
            name=builder.name,
            **{name: value for name, value in arguments(builder, kind, {}).items() if name not in sweep.axes},
        )
        for kind, builder in (("task", sweep.task), ("model", sweep.model))
        if builder
    }
    return sweep.model_copy(update={**filled, "variants": resolved})


def _variants(mapping: Mapping[str, Any], known: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Each variant as a whole sweep file of its own, and what is wrong with them beyond what is known already."""
    variants = mapping.get("variants")
    if not isinstance(variants, Mapping):
        return {}, []
    base, resolved, faults = own_content(mapping), {}, []
    for name, change in variants.items():
        if not isinstance(change or {}, Mapping):
            continue  # told already
        if reserved := [key for key in ("variants", "name", "run", "probes") if key in (change or {})]:
            faults.append(
                f"variants.{name}: {', '.join(reserved)} belong to the whole sweep, found in a variant; remove"
            )
            continue
        try:
            part = sweep_from_mapping(merged({**base, "name": mapping.get("name")}, change or {}))
        except SpecError as error:
            faults += [f"variants.{name}: {fault}" for fault in error.faults if fault not in known]
        else:
            resolved[str(name)] = {
                RESOLVED: True,
                **part.model_dump(mode="json", exclude={"variants", "run", "name", "probes"}),
            }
    return resolved, faults


def _draft(mapping: Mapping[str, Any], *, whole: bool) -> Draft:
    """The parts that can be read by themselves: faults between them are told along with faults in the others."""
    phases, axes, headline, variants = (mapping.get(key) for key in ("phases", "axes", "headline", "variants"))
    answers = headline if isinstance(headline, Mapping) else {}
    return Draft(
        task=_part(Builder, mapping.get("task")),
        model=_part(Builder, mapping.get("model")),
        train=_part(Train, mapping.get("train")),
        phases=tuple(_part(PhaseSpec, item) for item in phases) if isinstance(phases, list) else (),
        axes={str(k): _part(Axis, item) for k, item in axes.items()} if isinstance(axes, Mapping) else {},
        measure=_part(MeasureSpec, mapping.get("measure")),
        probes=_part(ProbesSpec, mapping.get("probes")),
        headline={k: v for k, v in answers.items() if isinstance(v, str | int | float)},
        analysis=_part(AnalysisSpec, mapping.get("analysis", {})),
        variants=tuple(map(str, variants)) if isinstance(variants, Mapping) else (),
        whole=whole,
    )


def _part(model: type[_Part], content: object) -> _Part | None:
    """A part by itself, without keys it does not know; None if it still cannot be read."""
    if isinstance(content, Mapping) and model.model_config.get("extra") != "allow":
        content = {key: value for key, value in content.items() if key in model.model_fields}
    try:
        return model.model_validate(content)
    except ValidationError:
        return None
