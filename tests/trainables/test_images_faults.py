"""What is wrong with images is said before torch is loaded, every fault at once; bad pixels when they are decoded."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encoded, pictures, write_folder, write_parquet
from PIL import Image
from torch import nn

from trainables.catalog import faults_of_task
from trainables.images.facts import image_facts, images_used
from trainables.spec import SpecError
from trainables.tasks.images import cifar10, image_folder, parquet_images


def model(shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), outputs))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "good.parquet", pictures(60), np.arange(60) % 3)
    return tmp_path / "good.parquet"


def faults(good: Path, bad: Path | None = None, **args: object) -> list[str]:
    where = {"train": str(bad or good), "test": str(good), "valid_size": 10}
    return faults_of_task("parquet_images", where | args)


def test_good_images_have_no_faults(good: Path) -> None:
    assert faults(good) == []
    assert faults(good, subset="first", train_size=50, size=4, augment="crop_flip", padding_mode="reflect") == [
        "task padding must be smaller than the image where it is reflected, found 4 for a side of 4 pixels; take less, "
        "or padding_mode zero"
    ]


def test_every_fault_is_told_at_once(good: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "bad.parquet", pictures(20), pa.array([None, 5, *[0] * 18]))
    found = faults(good, tmp_path / "bad.parquet", train_size=15, test_size=61, augment="cropflip", nonsense=1)
    words = [
        ("augment", "cropflip", "crop_flip"),
        ("nonsense",),
        ("train_size + valid_size", "at most 20", "15 + 10"),
        ("test_size", "at most 60", "61"),
        ("1 of 20 without one", "row 0"),
    ]
    assert len(found) == len(words)
    for expected in words:
        assert any(all(word in fault for word in expected) for fault in found), (expected, found)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1] * 12, ["at least two classes", "only 1"]),
        ([0, 1, 2, -1] * 3, ["from 0 up", "-1", "3 images below 0"]),
        ([None] * 12, ["12 of 12 without one"]),
        ([0.5, 1.5] * 6, ["column of labels", "label_column"]),
        ([0, 1] * 6, ["every class of the test images", "found 2 only in"]),
    ],
)
def test_labels_that_are_no_classes(good: Path, tmp_path: Path, column: list[object], words: list[str]) -> None:
    write_parquet(tmp_path / "bad.parquet", pictures(12), pa.array(column, type=None if column[0] else pa.int64()))
    if column[0] == 0.5:
        write_parquet(tmp_path / "bad.parquet", pictures(12), pa.array(column, type=pa.float64()))
    found = faults(good, tmp_path / "bad.parquet", valid_size=1)
    assert all(any(word in fault for fault in found) for word in words), found


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"label_column": "lable"}, ["label_column", "'lable'", "legal: label"]),
        ({"image_column": "label"}, ["image_column", "another type", "legal: img"]),
        ({"train": "no/such/*.parquet"}, ["no/such/*.parquet", "found none"]),
        ({"train": "nosuch://bucket/x"}, ["nosuch://bucket/x", "cannot be reached"]),
        ({"train": ""}, ["task train must name files or URLs"]),
        ({"valid_size": 60}, ["at most 60", "takes what validation leaves"]),
        ({"subset": "first", "train_size": 1}, ["at least two classes", "first 1 of"]),
        ({"size": 2000}, ["size", "1024"]),
    ],
)
def test_arguments_that_do_not_fit_the_files(good: Path, args: dict[str, object], words: list[str]) -> None:
    found = faults(good, **args)
    assert all(any(word in fault for fault in found) for word in words), found


def test_files_that_are_no_parquet_or_have_no_images(good: Path, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    assert any("cannot be read" in fault for fault in faults(good, tmp_path / "text.parquet"))
    pq.write_table(pa.table({"number": [1.5, 2.5]}), tmp_path / "plain.parquet")
    found = faults(good, tmp_path / "plain.parquet")
    assert [("images" in f, "found columns number" in f) for f in found] == [(True, True), (False, True)]
    pq.write_table(pa.table({"img": [b"x"], "label": [0], "kind": ["a"]}).slice(0, 0), tmp_path / "empty.parquet")
    assert any("found no rows" in fault for fault in faults(good, tmp_path / "empty.parquet"))


def test_unreadable_images_are_named_with_their_rows(good: Path, tmp_path: Path) -> None:
    content: list[bytes | None] = [encoded(image) for image in pictures(60)]
    content[7], content[30], content[55] = b"garbage", content[30][:60], None  # type: ignore[index]
    content[40] = encoded(pictures(1, side=9)[0])
    deep = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(deep, format="PNG")
    content[41] = deep.getvalue()
    path = tmp_path / "bad.parquet"
    write_parquet(path, content, np.arange(60) % 3)
    assert faults(good, path) == []  # nothing is decoded before training
    with pytest.raises(SpecError) as caught:
        parquet_images(model=model, train=str(path), test=str(good), valid_size=0)
    told = caught.value.faults
    places = [("row 7 ", "7 bytes"), ("row 30 ", "cannot be decoded"), ("row 55 ", "missing")]
    places += [("row 40 ", "9x9"), ("row 41 ", "8 bits")]
    assert len(told) == len(places)
    assert all(any(all(word in fault for word in place) for fault in told) for place in places), told
    # rows that are not used are not looked at
    parquet_images(model=model, train=str(path), test=str(good), train_size=7, valid_size=0, subset="first")
    content[0] = b"garbage"
    write_parquet(tmp_path / "first.parquet", content, np.arange(60) % 3)
    assert any("row 0 cannot be decoded" in fault for fault in faults(good, tmp_path / "first.parquet"))


def test_sizes_of_training_and_test_images_are_compared(good: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "large.parquet", pictures(60, side=16), np.arange(60) % 3)
    found = faults(good, tmp_path / "large.parquet")
    assert len(found) == 1
    assert "16x16" in found[0]
    assert "8x8" in found[0]
    assert faults(good, tmp_path / "large.parquet", size=8) == []
    task = parquet_images(model=model, train=str(tmp_path / "large.parquet"), test=str(good), size=8, valid_size=0)
    assert task.train.x.shape == task.test.x.shape == (60, 8, 8, 3)


def test_folders_without_classes_or_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "good", {"a": pictures(3), "b": pictures(3)})
    write_folder(tmp_path / "one", {"a": pictures(3)})
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    (tmp_path / "bare").mkdir()

    def found(train: str, **args: object) -> str:
        where = {"train": str(tmp_path / train), "test": str(tmp_path / "good"), "valid_size": 0}
        return " ".join(faults_of_task("image_folder", {**where, **args}))

    assert found("good") == ""
    assert "found only 'a'" in found("one")
    assert "found none in a" in found("hollow")
    assert "one folder for each class" in found("bare")
    assert "there must be a folder" in found("nowhere")
    assert "at most 6" in found("good", valid_size=6)
    (tmp_path / "good" / "a" / "000.png").write_bytes(b"garbage")
    with pytest.raises(SpecError, match=r"a/000\.png cannot be decoded"):
        image_folder(model=model, train=str(tmp_path / "good"), test=str(tmp_path / "good"), valid_size=0)


def test_cifar_that_is_not_there_is_no_fault_until_it_cannot_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRATLAS_DATA", str(tmp_path))
    assert faults_of_task("cifar10", {"train_size": 2000, "size": 16, "subset": "first"}) == []
    assert "at most 50000" in faults_of_task("cifar100", {"train_size": 49000})[0]
    facts = image_facts("cifar100", {"valid_size": 0, "size": 16})
    assert facts is not None
    assert (facts.shape, facts.classes, facts.train, facts.test) == ((3, 16, 16), 100, 50000, 10000)

    def offline(*_args: object, **_more: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", offline)
    for attempt in (lambda: cifar10(model=model), lambda: images_used("cifar10", {})):
        with pytest.raises(SpecError) as caught:
            attempt()
        (sentence,) = caught.value.faults
        for words in (str(tmp_path), "cifar10-train.parquet", "download failed", "LRATLAS_DATA"):
            assert words in sentence


def test_downloaded_cifar_is_used_as_torchvision_unpacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = pictures(20, side=32), np.arange(20) % 10

    class Small:
        """Stands for torchvision's data set of 20 images; counts downloads."""

        downloads = 0

        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            assert root == str(tmp_path)
            Small.downloads += download
            self.data, self.targets = pixels[:: 1 if train else 2], labels[:: 1 if train else 2].tolist()

    monkeypatch.setenv("LRATLAS_DATA", str(tmp_path))
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Small)
    monkeypatch.setattr("trainables.images.cifar.ROWS", {"train": 20, "test": 10})
    task = cifar10(model=model, valid_size=5, subset="first")
    np.testing.assert_array_equal(task.train.x.numpy(), pixels[:15])
    np.testing.assert_array_equal(task.test.x.numpy(), pixels[::2])
    assert task.test.y.tolist() == labels[::2].tolist()
    assert Small.downloads == 1


def test_checks_load_no_torch(good: Path) -> None:
    program = (
        "import json, sys; from trainables.catalog import faults_of_task;"
        "from trainables.images.facts import image_facts, images_used;"
        "args = json.loads(sys.argv[1]);"
        "assert not faults_of_task('parquet_images', args); assert image_facts('parquet_images', args);"
        "assert images_used('parquet_images', args); assert 'torch' not in sys.modules"
    )
    args = json.dumps({"train": str(good), "test": str(good), "valid_size": 5})
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program, args], check=True, env=os.environ | {"PYTHONPATH": str(root)})


def test_the_guess_that_knows_nothing_counts_the_labels(good: Path) -> None:
    import pandas as pd

    from analysis.chance import classes_of

    args = {"train": str(good), "test": str(good), "valid_size": 5}
    for name, task_args, classes in (("cifar10", {}, 10), ("cifar100", {}, 100), ("parquet_images", args, 3)):
        manifest = {"recipes": {"r": {"task": name, "task_args": task_args}}}
        assert classes_of(pd.DataFrame({"task": [name]}), manifest) == classes
    gone = {"recipes": {"r": {"task": "parquet_images", "task_args": {**args, "train": "gone.parquet"}}}}
    assert classes_of(pd.DataFrame({"task": ["parquet_images"]}), gone) is None
