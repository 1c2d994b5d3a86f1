"""T4: the distance by hand, the permutation test by enumeration, the verdict on planted schedules."""

from itertools import combinations, product

import numpy as np
import pytest
from _simulated import labels

from analysis.invariance.design import Design
from analysis.invariance.functions import Snapshot, function_distance, functions_test
from analysis.invariance.verdict import Verdict


def by_hand(first, second):
    """l1 between label histograms, averaged over inputs."""
    classes = np.union1d(first, second)
    return np.mean(
        [sum(abs(np.mean(a == c) - np.mean(b == c)) for c in classes) for a, b in zip(first.T, second.T, strict=True)]
    )


def test_distance_and_disagreement_by_hand():
    rng = np.random.default_rng(0)
    first, second = rng.integers(-1, 4, (5, 7)), rng.integers(0, 5, (8, 7))
    found = function_distance(first, second, rng, 20)
    assert found.distance == pytest.approx(by_hand(first, second))
    within = np.mean([(a != b).mean() for a, b in combinations(first, 2)])
    across = np.mean([(a != b).mean() for a, b in product(first, second)])
    assert (found.disagreement[0], found.disagreement[2]) == pytest.approx((within, across))


@pytest.mark.parametrize("design", list(Design))
def test_p_value_is_that_of_all_groupings(design):
    rng = np.random.default_rng(3)
    first, second = labels(4, 9, rng), labels(4, 9, rng, shift=0.8)
    both = np.concatenate([first, second])
    if design is Design.INDEPENDENT:
        groups = [(both[list(chosen)], np.delete(both, chosen, axis=0)) for chosen in combinations(range(8), 4)]
    else:
        swaps = [np.array(swap)[:, None] for swap in product([False, True], repeat=4)]
        groups = [(np.where(swap, second, first), np.where(swap, first, second)) for swap in swaps]
    distances = np.array([by_hand(*group) for group in groups])
    exact = np.mean(distances >= distances[0] - 1e-12)
    found = function_distance(first, second, rng, 20_000, design)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))
    assert found.null_mean == pytest.approx(distances.mean(), rel=0.02)


def test_chunks_of_inputs_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    first, second = labels(10, 30, rng), labels(12, 30, rng)
    whole = function_distance(first, second, np.random.default_rng(5), 50)
    monkeypatch.setattr("analysis.invariance.label_distance._CHUNK", 900)
    parts = function_distance(first, second, np.random.default_rng(5), 50)
    assert (parts.p, parts.distance, parts.null_mean) == (
        whole.p,
        pytest.approx(whole.distance),
        pytest.approx(whole.null_mean),
    )


def test_groups_of_unequal_size_are_compared_fairly():
    """Equal histograms of unequal groups are zero apart."""
    first = np.repeat([[0, 1], [1, 1]], 3, axis=0)
    found = function_distance(first, np.repeat(first, 2, axis=0), np.random.default_rng(0), 99)
    assert (found.distance, found.p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("shapes", "design"),
    [
        (((3, 4), (3, 5)), "independent"),
        (((0, 4), (3, 4)), "independent"),
        (((3, 4), (2, 4)), "crossed"),
        (((3, 0), (3, 0)), "independent"),
    ],
)
def test_bad_groups_are_refused(shapes, design):
    with pytest.raises(ValueError, match=r"labels are|cannot compare|no evaluation"):
        function_distance(
            *(np.zeros(shape, dtype=int) for shape in shapes), np.random.default_rng(0), 9, Design(design)
        )


def snapshots(runs=64, late_shift=0.0, contrast=0.8, seeds=None, inputs=60):
    """Two schedules of intrinsic LR 1e-2 that meet after step 400, and a third of 2.5e-3."""
    rng = np.random.default_rng(2)
    found = []
    for step, shift in ((100, 1.0), (400, late_shift), (800, late_shift)):
        for name, rate, own in (("first", 1e-2, 0.0), ("second", 0.1 * 0.1, shift), ("contrast", 2.5e-3, contrast)):
            drawn = labels(runs, inputs, rng, own)
            number = np.arange(runs) if seeds is None else seeds(name, runs)
            found.append(Snapshot(schedule=name, intrinsic_lr=rate, step=step, labels=drawn, seeds=number))
    return found


def test_schedules_that_meet_are_equivalent():
    found = functions_test(snapshots(), np.random.default_rng(0))
    assert found.verdict is Verdict.EQUIVALENT
    early = next(pair for pair in found.numbers["pairs"] if pair["step"] == 100 and "contrast" not in pair["schedules"])
    assert early["p"] < 0.01
    assert not early["judged"]
    assert sum(pair["judged"] for pair in found.numbers["pairs"]) == 6
    assert found.numbers["largest_p_control"] < 0.01


@pytest.mark.parametrize(
    ("change", "verdict", "word"),
    [
        ({"late_shift": 0.8}, Verdict.DIFFERENT, "although their"),
        ({"contrast": 0.0}, Verdict.INCONCLUSIVE, "sees too little"),
        ({"runs": 40}, Verdict.INCONCLUSIVE, "40 of the 64"),
        ({"runs": 2, "late_shift": 3.0}, Verdict.INCONCLUSIVE, "nothing can be said"),
    ],
)
def test_other_verdicts(change, verdict, word):
    found = functions_test(snapshots(**change), np.random.default_rng(0))
    assert found.verdict is verdict
    assert word in found.reason


def test_without_a_contrast_or_without_late_steps():
    both = [each for each in snapshots() if each.schedule != "contrast"]
    assert "nothing shows" in functions_test(both, np.random.default_rng(0)).reason
    early = functions_test([each for each in snapshots() if each.step == 100], np.random.default_rng(0))
    assert not early.made


def test_shared_seeds_are_paired_in_their_order():
    def shuffled(name, runs):
        return np.random.default_rng(len(name)).permutation(runs) + (1000 if name == "contrast" else 0)

    pairs = functions_test(snapshots(seeds=shuffled), np.random.default_rng(0)).numbers["pairs"]
    designs = {tuple(pair["schedules"]): pair["design"] for pair in pairs}
    assert designs["first", "second"] == "crossed"
    assert designs["first", "contrast"] == "independent"


def test_order_of_the_runs_does_not_matter():
    rng = np.random.default_rng(6)
    lean = rng.normal(size=20)
    pair = [labels(20, 30, rng, shift, lean) for shift in (0.0, 0.3)]
    orders = (np.arange(20), rng.permutation(20))
    found = []
    for order in orders:
        shots = [
            Snapshot(schedule="a", intrinsic_lr=1e-2, step=400, labels=pair[0], seeds=np.arange(20)),
            Snapshot(schedule="b", intrinsic_lr=1e-2, step=400, labels=pair[1][order], seeds=order),
        ]
        found.append(functions_test(shots, np.random.default_rng(0)).numbers["pairs"][0])
    assert found[0] == found[1]


def test_slow_schedules_are_not_judged_before_their_time():
    rng = np.random.default_rng(8)
    shots = [
        Snapshot(schedule=name, intrinsic_lr=rate, step=400, labels=labels(64, 30, rng, shift), seeds=np.arange(64))
        for name, rate, shift in (("f1", 1e-2, 0.0), ("f2", 1e-2, 0.0), ("s1", 1e-3, 1.0), ("s2", 1e-3, 3.0))
    ]
    found = functions_test(shots, np.random.default_rng(0))
    judged = {tuple(pair["schedules"]): pair["judged"] for pair in found.numbers["pairs"]}
    assert judged["f1", "f2"]
    assert not judged["s1", "s2"]
    assert found.verdict is Verdict.EQUIVALENT


def test_enough_permutations_for_many_pairs():
    rng = np.random.default_rng(4)
    many = [
        Snapshot(schedule=f"s{place}", intrinsic_lr=1e-2, step=step, labels=labels(8, 5, rng), seeds=np.arange(8))
        for step in range(400, 430)
        for place in range(2)
    ]
    assert functions_test(many, rng, permutations=99).numbers["permutations"] == 1200


def test_same_generator_same_result():
    first, again = (functions_test(snapshots(), np.random.default_rng(9)) for _ in range(2))
    assert first == again
