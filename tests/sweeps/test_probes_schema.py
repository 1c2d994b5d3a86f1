"""The section `probes`: every fault told, defaults filled in, and what analyses make of it."""

from typing import Any

import pytest
from drafts import GOOD, faults, put

from analysis.landscape.policy import Norms
from analysis.probing import solutions
from analysis.probing.jobs import spec_of
from analysis.probing.spec import FeatureMeasure, FeatureSpec, GeometryMeasure, GeometrySpec, ProbeSpec
from sweeps.plan import plan
from sweeps.probes_schema import SOLUTIONS
from sweeps.schema import Sweep
from sweeps.sweep import sweep_from_mapping


def test_solutions_have_the_names_that_analyses_give_them() -> None:
    assert solutions.SOLUTIONS == SOLUTIONS


def resolved(probes: Any, **changes: Any) -> Sweep:
    return sweep_from_mapping({**GOOD, "probes": probes, **changes})


def test_every_fault_is_told_at_once_with_what_is_legal() -> None:
    geometry = {
        "measures": ["curvatur"],
        "points": 2,
        "samples": 0,
        "seeds": 0,
        "norms": "train",
        "solutions": ["lo"],
        "colour": 1,
    }
    found = faults(put("probes", {"geometry": geometry, "features": {"measures": ["accuracy", "accuracy"]}}))
    beginnings = {
        "probes.geometry.measures.0": ("'curvature'", "'plane'", "did you mean 'curvature'?", "found 'curvatur'"),
        "probes.geometry.points": ("equal to 3", "found 2"),
        "probes.geometry.samples": ("equal to 1", "found 0"),
        "probes.geometry.seeds": ("equal to 1", "found 0"),
        "probes.geometry.norms": ("'reestimated', 'stored' or 'batch'", "found 'train'"),
        "probes.geometry.solutions.0": ("low, high, swa, final, or swa@W", "found 'lo'"),
        "unknown key 'colour' in probes.geometry": ("measures", "solutions", "seeds", "samples", "points", "norms"),
        "probes.features.measures": ("once, found accuracy",),
    }
    assert len(found) == len(beginnings)
    for beginning, words in beginnings.items():
        (line,) = [line for line in found if line.startswith(beginning)]
        assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("probes", "word"),
    [
        ({}, "found neither; `geometry: {}` takes its defaults"),
        ({"geometry": None}, "found neither"),
        (3, "must be a mapping with the keys geometry, features"),
        ({"geometri": {}, "features": {}}, "did you mean 'geometry'?"),
        ({"geometry": {"measures": []}}, "must name at least one"),
        ({"features": {"points": 3}}, "unknown key 'points' in probes.features"),
        # The largest window has the name `swa`; there is no window of three.
        (
            {"geometry": {"solutions": ["swa@5"]}},
            "'swa@5' (did you mean 'swa@2'?); legal: low, high, swa, final, swa@2",
        ),
        ({"features": {"solutions": ["swa@3"]}}, "unknown solution in probes 'swa@3'"),
    ],
)
def test_fault(probes: Any, word: str) -> None:
    (found,) = faults(put("probes", probes))
    assert word in found


def test_probes_belong_to_the_whole_sweep() -> None:
    variants = {"a": {"probes": {"geometry": {}}}, "b": {}}
    (found,) = faults(put("variants", variants), put("headline.variant", "b"))
    assert found == "variants.a: probes belong to the whole sweep, found in a variant; remove"
    whole = resolved({"features": {}}, variants={"a": {}, "b": {}}, headline={**GOOD["headline"], "variant": "a"})
    assert whole.probes is not None
    assert [part.probes for part in whole.parts.values()] == [None, None]
    assert sweep_from_mapping(whole.model_dump(mode="json")).model_dump(mode="json") == whole.model_dump(mode="json")


def test_a_manifest_says_what_was_asked_for() -> None:
    """Through the file: what analyses read there is what the sweep file means."""
    empty = resolved({"geometry": {}, "features": {}}).model_dump(mode="json")
    assert spec_of(empty) == ProbeSpec(geometry=GeometrySpec(), features=FeatureSpec())
    asked = {
        "geometry": {
            "measures": ["llc", "barrier"],
            "solutions": ["swa@2", "low"],
            "seeds": 3,
            "samples": 500,
            "points": 9,
            "norms": "batch",
        },
        "features": {"measures": ["timeline"], "seeds": None},
    }
    full = resolved(asked).model_dump(mode="json")
    assert spec_of(full) == ProbeSpec(
        geometry=GeometrySpec(
            measures=(GeometryMeasure.LLC, GeometryMeasure.BARRIER),
            solutions=("swa@2", "low"),
            seeds=3,
            samples=500,
            points=9,
            norms=Norms.BATCH,
        ),
        features=FeatureSpec(measures=(FeatureMeasure.TIMELINE,), seeds=None),
    )
    assert sweep_from_mapping(full).model_dump(mode="json") == full
    assert spec_of(sweep_from_mapping(GOOD).model_dump(mode="json")) == ProbeSpec()


@pytest.mark.parametrize(
    ("probes", "count"),
    [
        # 2 rates x 2 label noises x 2 seeds, each fine-tuned at one rate: low, swa@2, swa and final are there.
        ({"geometry": {}}, 8 * 3),
        (
            {"geometry": {"solutions": ["low", "high", "swa@2"], "seeds": 1}, "features": {"solutions": ["final"]}},
            8 * 3,
        ),
        ({"geometry": {"seeds": 1}}, 4 * 3),
        (None, 0),
    ],
)
def test_plan_counts_solutions(probes: Any, count: int) -> None:
    made = plan(resolved(probes), cores=1, memory_bytes=2**33)
    assert made.as_json()["probed_solutions"] == count


def test_plan_counts_solutions_of_every_variant_and_rate() -> None:
    tuned = resolved({"geometry": {}}, axes={**GOOD["axes"], "finetune_lr": {"values": [1e-4, 1e-3, 1e-2]}})
    assert plan(tuned, cores=1, memory_bytes=2**33).probed_solutions == 8 * 4
    plain = {"phases": [{"name": "pretrain", "steps": 90}], "axes": {"finetune_lr": None}}
    both = resolved(
        {"geometry": {}}, variants={"tuned": {}, "plain": plain}, headline={"label_noise": 0.2, "variant": "tuned"}
    )
    assert plan(both, cores=1, memory_bytes=2**33).probed_solutions == 8 * 3 + 8


def test_plan_says_what_will_be_left_out() -> None:
    def notes(probes: Any, **changes: Any) -> str:
        return " ".join(plan(resolved(probes, **changes), cores=1, memory_bytes=2**33).notes)

    alone = {
        "phases": [{"name": "pretrain", "steps": 90}],
        "axes": {"pretrain_lr": GOOD["axes"]["pretrain_lr"], "seed": {"range": 2}},
        "headline": {},
    }
    said = notes({"geometry": {}}, **alone)
    assert "probes: barrier needs two solutions that come from one first phase" in said
    assert "probes: plane needs three solutions" in said
    assert "needs" not in notes({"geometry": {"measures": ["curvature"]}}, **alone)
    one_rate = notes({"geometry": {}})  # averages and a single later rate
    assert "barrier needs" not in one_rate
    assert "plane needs three solutions" in one_rate
    assert "probes.features is empty, so that none are measured; `features: {}` takes" in notes(
        {"geometry": {}, "features": None}
    )
    assert "is empty" not in notes({"geometry": {}})
