"""The shipped studies, in full through Ray: the published picture comes out.

Bounds come from earlier runs of the same protocols with other seeds and other code (16 seeds for the digits, 52 for the
ticks), with both runs' standard errors. Two of the earlier numbers did not come out and are not held here: the clean
arm's threshold (below 1.1e-2) and what fine-tuning keeps (1.6 points); `docs/studies/band.md` says why, or that it is
not known.
"""

from pathlib import Path

import pytest
from preset_runs import Answer, accuracy, answer, parted, rates, run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.study]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    return answer(run("band-digits", tmp_path_factory.mktemp("studies") / "digits"))


@pytest.fixture(scope="module")
def tick_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run("band-tick", tmp_path_factory.mktemp("studies") / "ticks")


@pytest.fixture(scope="module")
def ticks(tick_folder: Path) -> Answer:
    return answer(tick_folder)


@pytest.fixture(scope="module")
def parted_ticks(tick_folder: Path) -> dict[float, Answer]:
    return parted(tick_folder, "low-high")


def test_noisy_digits_have_a_band_with_a_large_gain(digits: Answer) -> None:
    assert digits["arm"] == {"label_noise": 0.2}
    assert 2.8e-3 <= digits["convergence_threshold"] <= 4.0e-3
    assert 5e-3 <= digits["optimum_lr"] <= 1.3e-2
    assert 0.08 <= digits["gain_over_regime_1"] <= 0.13
    assert digits["gain_ci"][0] > 0.05
    assert digits["n_seeds"] == 8
    kept = digits["gains_from_optimum"]["finetune@1e-4"]["value"]
    assert 0 < kept < digits["gain_over_regime_1"] / 2  # fine-tuning memorises most of the noise again


@pytest.mark.parametrize(
    ("lr", "quality", "value"),
    [
        (1e-4, "final", 79.6),
        (1e-3, "final", 80.4),
        (2.8e-3, "swa@20", 80.2),
        (4.0e-3, "swa@20", 87.1),
        (5.6e-3, "swa@20", 89.9),
        (8.0e-3, "swa@20", 91.3),
        (1.1e-2, "swa@20", 90.9),
        (1.6e-2, "swa@20", 85.4),
        (8.0e-3, "finetune@1e-4", 82.5),
        (8.0e-3, "finetune@2e-3", 78.7),
    ],
)
def test_noisy_digits_agree_with_the_earlier_table(digits: Answer, lr: float, quality: str, value: float) -> None:
    # standard errors: 0.6 to 0.9 of the table, as much for these 8 seeds
    assert abs(accuracy(rates(digits)[lr], quality) - value) < 3 * (0.9**2 + 0.9**2) ** 0.5


def test_clean_digits_gain_nothing(digits: Answer) -> None:
    clean = next(arm for arm in digits["arms"] if arm["arm"] == {"label_noise": 0.0})
    assert "no gain" in clean["sentence"]
    assert clean["gain_over_regime_1"] < 0
    converged = {lr: row["share_convergence"] for lr, row in rates(clean).items()}
    assert converged[8.0e-3] == 1
    # An earlier run drew its batches with replacement and had half of its seeds unconverged at 1.1e-2. Epochs of
    # permutations, as in the published code, are less noisy: most seeds still converge there.
    assert converged[1.1e-2] > 0
    assert converged[1.6e-2] == 0
    assert 8e-3 < clean["convergence_threshold"] < 1.6e-2
    for lr, value in ((1e-4, 94.1), (1e-3, 94.7), (2.8e-3, 94.6), (5.6e-3, 94.5), (8.0e-3, 94.3)):
        assert abs(accuracy(rates(clean)[lr], "swa@20") - value) < 3 * (0.25**2 + 0.35**2) ** 0.5


def test_ticks_have_the_published_regimes(ticks: Answer) -> None:
    assert 7.5e-3 <= ticks["convergence_threshold"] <= 8.7e-3
    assert 3.2e-2 <= ticks["divergence_threshold"] <= 5.6e-2
    assert rates(ticks)[5.6e-3]["train_loss"] < 1e-2
    assert rates(ticks)[1.0e-2]["train_loss"] > 0.2
    assert 47 <= accuracy(rates(ticks)[5.6e-2], "final") <= 53


def test_ticks_are_best_just_above_the_threshold(ticks: Answer) -> None:
    assert 7e-3 <= ticks["optimum_lr"] <= 1.5e-2
    quality, by_lr = "finetune@3.2e-5", rates(ticks)
    best = by_lr[ticks["optimum_lr"]]["error"][quality]
    assert best["value"] < by_lr[3.2e-3]["error"][quality]["value"] - 0.01
    assert best["value"] < by_lr[1.8e-2]["error"][quality]["value"]
    low, high = ticks["gain_ci"]
    assert ticks["gain_verdict"] == ("gain" if low > 0 else "not significant" if high > ticks["margin"] else "no gain")


@pytest.mark.parametrize(
    ("lr", "value"),
    [
        (1e-4, 70.9),
        (1e-3, 72.9),
        (3.2e-3, 75.2),
        (5.6e-3, 76.4),
        (7.5e-3, 77.6),
        (8.7e-3, 77.3),
        (1.0e-2, 77.4),
        (1.15e-2, 78.6),
        (1.33e-2, 77.3),
        (1.8e-2, 74.4),
        (3.2e-2, 70.8),
        (5.6e-2, 70.3),
    ],
)
def test_ticks_agree_with_the_earlier_table(ticks: Answer, lr: float, value: float) -> None:
    # seeds scatter by 2 to 5 points: standard error 0.7 of the table's 52 seeds, 1.0 of these 24
    assert abs(accuracy(rates(ticks)[lr], "finetune@3.2e-5") - value) < 3 * (0.7**2 + 1.0**2) ** 0.5


def test_ticks_lock_on_one_feature_inside_the_band_only(ticks: Answer) -> None:
    by_lr = {lr: row["features"] for lr, row in rates(ticks).items()}
    for lr in (1e-4, 1e-3, 3.2e-3, 3.2e-2, 5.6e-2):
        assert by_lr[lr]["locked"]["value"] == 0
    band = [by_lr[lr] for lr in (7.5e-3, 8.7e-3, 1.0e-2, 1.15e-2, 1.33e-2)]
    count = sum(row["locked"]["n"] for row in band)
    locked = sum(row["locked"]["value"] * row["locked"]["n"] for row in band)
    assert locked / count >= 0.35
    on = sum(row["accuracy_locked"]["value"] * row["accuracy_locked"]["n"] for row in band) / locked
    off = sum(row["accuracy_free"]["value"] * row["accuracy_free"]["n"] for row in band) / (count - locked)
    assert 0.79 <= on <= 0.83
    assert 0.71 <= off <= 0.75


@pytest.mark.parametrize(
    ("lr", "angle", "barrier"),
    [
        (1e-4, 0.32, 0.0),
        (1e-3, 0.07, 0.0),
        (3.2e-3, 0.03, 0.0),
        (5.6e-3, 0.02, 0.0),
        (7.5e-3, 0.16, 0.0),
        (1.0e-2, 0.58, 0.0),
        (1.33e-2, 0.99, 0.014),
        (1.8e-2, 1.07, 0.022),
        (3.2e-2, 1.30, 0.097),
        (5.6e-2, 1.49, 0.20),
    ],
)
def test_ticks_part_as_in_the_earlier_table(
    parted_ticks: dict[float, Answer], lr: float, angle: float, barrier: float
) -> None:
    # nine seeds of other code (means of angles, medians of barriers) within the interval of these eight; the table has
    # two digits
    row = parted_ticks[lr]
    assert row["n"] == 8
    assert row["angle_low"] - 0.01 <= angle <= row["angle_high"] + 0.01
    assert row["train_error_low"] - 0.001 <= barrier <= row["train_error_high"] + 0.001


def test_2a_of_the_ticks_is_short(ticks: Answer) -> None:
    # the two later rates already differ at 1e-2 or 1.15e-2 (earlier table: 81.2 against 77.8); barriers come later
    border = ticks["border_2a_2b"]
    assert border["bracket"][1] is not None
    assert border["bracket"][1] <= 1.8e-2
