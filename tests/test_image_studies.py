"""Networks on real images, in full through Ray: beside the other studies, not after them."""

from pathlib import Path

import pytest
from preset_runs import accuracy, answer, parted, rates, run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.study]


@pytest.mark.usefixtures("cifar10_folder")
def test_small_convnets_on_real_images_show_the_three_regimes_and_the_gain(tmp_path: Path) -> None:
    """Three rates of band-cifar10-small, two seeds: below the threshold, in the band, divergent."""
    changes = [
        "axes.pretrain_lr.values=[1.0e-3, 4.5e-3, 4.0e-2]",
        "axes.finetune_lr.values=[3.0e-4]",
        "axes.seed.range=2",
        "run.members_per_pack=3",  # two packs: both cores
    ]
    folder = run("band-cifar10-small", tmp_path / "images", *changes)
    rows = rates(answer(folder))
    assert rows[1e-3]["train_loss"] < 0.1 < 0.3 < rows[4.5e-3]["train_loss"] < 2 < rows[4e-2]["train_loss"]
    # earlier run, six seeds: 44.8 +- 0.3, 49.0 +- 0.2 and 40.7 +- 1.0; two seeds have errors 1.7 times as large
    tuned = {lr: accuracy(row, "finetune@3e-4") for lr, row in rows.items()}
    assert abs(tuned[1e-3] - 44.8) < 3 * (0.3**2 + 0.52**2) ** 0.5
    assert abs(tuned[4.5e-3] - 49.0) < 3 * (0.2**2 + 0.35**2) ** 0.5
    assert tuned[4.5e-3] - tuned[1e-3] > 2
    assert accuracy(rows[4e-2], "final") < 15
    # between fine-tuning and averaging: together in regimes 1 and 2A, apart in regime 3 (both seeds of the whole study:
    # barriers 0, 0 and 28 to 34 points, angles 0.05, 0.40 and 1.1)
    by_lr = parted(folder, "low-swa", "--seeds", "1")
    assert by_lr[1e-3]["train_error"] < 0.01
    assert by_lr[4.5e-3]["train_error"] < 0.01
    assert by_lr[4e-2]["train_error"] > 0.1
    assert by_lr[1e-3]["angle"] < 0.15
    assert 0.25 < by_lr[4.5e-3]["angle"] < 0.6
    assert 0.9 < by_lr[4e-2]["angle"] < 1.4
