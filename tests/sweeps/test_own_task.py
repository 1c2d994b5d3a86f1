"""A user's own task before anything starts: what is wrong with it is named, errors come with the traceback."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small
import torch
from torch import Tensor, nn

from sweeps.cli import invoke
from sweeps.own_name import check_own_tasks
from sweeps.own_task import try_out, try_out_all
from sweeps.trial import run_pack
from sweeps.user_errors import read_errors
from trainables.catalog import resolve
from trainables.spec import Recipe, SpecError
from trainables.tasks import Split, Task
from trainables.tasks.base import per_sample_binary_cross_entropy


def good(outputs: int = 3, labels: int = 3) -> Task:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = torch.arange(60) % labels
    return Task(
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs)),
        train=Split(x[:40], y[:40]),
        valid=Split(x[40:50], y[40:50]),
        test=Split(x[50:], y[50:]),
    )


def recipe(function: Callable[..., Task], batch_size: int = 8) -> Recipe:
    return Recipe(task=f"{__name__}:{function.__name__}", batch_size=batch_size)


def faults(function: Callable[..., Task], batch_size: int = 8) -> list[str]:
    with pytest.raises(SpecError) as caught:
        try_out(recipe(function, batch_size))
    return caught.value.faults


def test_what_is_found_out_about_a_task_that_works() -> None:
    before = torch.random.get_rng_state()
    trial = try_out(recipe(good))
    assert (trial.train, trial.valid, trial.test, trial.inputs, trial.outputs) == (40, 10, 10, 4, 3)
    assert trial.trained == 4 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert trial.weights == trial.trained + 2 * 8 + 1  # mean, variance and count of the norm
    assert trial.samples == 8
    assert 0 < trial.seconds < 1
    # Three balanced classes and small logits: near ln 3, and a mean over the batch that was taken.
    assert 0.7 < trial.loss < 1.6
    assert trial.notes == ()
    assert torch.equal(torch.random.get_rng_state(), before)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.helper(self.layer(x))

    def helper(self, x: Tensor) -> Tensor:
        raise ArithmeticError("my own mistake")  # the line that must be shown


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.spare = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class OnlyTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x)
        return logits if self.training else logits[:, 0]


def raising() -> Task:
    raise KeyError("no such column")


def leaving() -> Task:
    sys.exit("I leave")


def broken_forward() -> Task:
    return replace(good(), model=Broken)


def wrong_shape() -> Task:
    return replace(good(), model=lambda: nn.Sequential(nn.Linear(5, 3)))


def an_instance() -> Task:
    return replace(good(), model=nn.Linear(4, 3))


def the_same_each_time() -> Task:
    net = nn.Linear(4, 3)
    return replace(good(), model=lambda: net)


def no_module() -> Task:
    return replace(good(), model=lambda: torch.zeros(3))  # type: ignore[arg-type, return-value]


def all_frozen() -> Task:
    return replace(good(), model=lambda: nn.Linear(4, 3).requires_grad_(False))


def unused_layer() -> Task:
    return replace(good(), model=Unused)


def flat_output() -> Task:
    return replace(good(), model=lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))


def nan_weights() -> Task:
    def model() -> nn.Module:
        net = nn.Linear(4, 3)
        nn.init.constant_(net.weight, torch.nan)
        return net

    return replace(good(), model=model)


def eval_differs() -> Task:
    return replace(good(), model=OnlyTraining)


def mean_loss() -> Task:
    return replace(good(), loss=nn.CrossEntropyLoss())


def broken_loss() -> Task:
    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(logits, y.nonexistent, reduction="none")  # type: ignore[attr-defined]

    return replace(good(), loss=loss)


def detached_loss() -> Task:
    return replace(good(), loss=lambda logits, y: logits.detach().sum(1))


def infinite_loss() -> Task:
    return replace(good(), loss=lambda logits, y: logits.sum(1) + torch.inf)


def too_few_outputs() -> Task:
    return good(outputs=3, labels=5)


def one_output_cross_entropy() -> Task:
    return good(outputs=1, labels=2)


def one_output_many_labels() -> Task:
    return replace(good(outputs=1), loss=per_sample_binary_cross_entropy)


def one_class() -> Task:
    return good(labels=1)


def float_labels() -> Task:
    task = good()
    return replace(task, train=Split(task.train.x, task.train.y.float()))


def misnamed_parameter() -> Task:
    return replace(good(), scale_invariant=("first.weight",))


def augment_changes_shape() -> Task:
    return replace(good(), augment=lambda x, bits: x[:, :2])


def augment_raises() -> Task:
    return replace(good(), augment=lambda x, bits: x.flip(bits.max().nothing))  # type: ignore[attr-defined]


def everything_wrong() -> Task:
    task = good()
    holes = task.train.x.clone()
    holes[0, 0] = torch.nan
    return Task(
        model=nn.Linear(4, 3),
        train=Split(holes, task.train.y),
        test=Split(task.test.x, task.test.y[:5]),
        valid=Split(task.test.x.numpy(), task.test.y),  # type: ignore[arg-type]
        probes={"bytes": Split(torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 2))},
    )


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (wrong_shape, ("the network, on a batch float32 [8, 4], must run", "cannot be multiplied")),
        (an_instance, ("task.model must be a function", "type Linear", "lambda: Linear(...)")),
        (the_same_each_time, ("fresh network at each call", "the same parameters twice")),
        (no_module, ("task.model must return a torch.nn.Module", "found Tensor")),
        (all_frozen, ("a parameter to train", "found none", "unfreeze")),
        (unused_layer, ("every trained parameter must take part", "spare.weight, spare.bias", "requires_grad_(False)")),
        (flat_output, ("logits, [batch, classes] or [batch, 1]", "float32 [8]")),
        (nan_weights, ("finite logits", "found nan or inf")),
        (eval_differs, ("[10, 3] on split 'valid' as on train", "found float32 [10]")),
        (mean_loss, ("one number for each sample, [8]", "found float32 []", "reduction='none'")),
        (detached_loss, ("the loss must depend on the weights", "detach()")),
        (infinite_loss, ("task.loss must be finite", "found inf")),
        (too_few_outputs, ("between 0 and 2", "3 outputs", "found 0 to 4", "give the network 5 outputs")),
        (one_output_cross_entropy, ("one output needs a loss of its own", "per_sample_binary_cross_entropy")),
        (one_output_many_labels, ("must be 0 or 1", "found 0 to 2")),
        (one_class, ("at least two classes", "found only 0")),
        (float_labels, ("class indices of type int64", "float32 [40]", "y.long()")),
        (misnamed_parameter, ("scale_invariant must name parameters", "found first.weight", "0.weight")),
        (augment_changes_shape, ("task.augment must return samples like those it got", "[8, 4]", "[8, 2]")),
    ],
)
def test_each_fault_is_named_with_the_way_out(task: Callable[..., Task], words: tuple[str, ...]) -> None:
    found = faults(task)
    for word in words:
        assert any(word in fault for fault in found), found


def test_batches_larger_than_the_data_are_refused() -> None:
    assert "batch_size must be at most the training samples, found 41 and 40" in faults(good, batch_size=41)[0]


def test_faults_of_data_and_model_come_together() -> None:
    found = faults(everything_wrong)
    wanted = (
        "x of split 'train' must be finite, found 1 numbers",
        "split 'test' must hold as many targets as samples, at least one, found x float32 [10, 4], y int64 [5]",
        "x of split 'valid' must be a tensor, found ndarray",
        "y of split 'bytes' must be one number for each sample, [4], found float32 [4, 2]",
        "x of split 'bytes' must be floats where the task has no `encode`, found bytes",
        "task.model must be a function",
    )
    for words in wanted:
        assert sum(words in fault for fault in found) == 1, (words, found)
    assert len(found) == len(wanted)


@pytest.mark.parametrize(
    ("task", "stage", "error", "line"),
    [
        (raising, "the task's function", "KeyError: 'no such column'", 'raise KeyError("no such column")'),
        (leaving, "the task's function", "SystemExit: I leave", 'sys.exit("I leave")'),
        (broken_forward, "the network, on a batch", "ArithmeticError: my own mistake", "the line that must be shown"),
        (broken_loss, "task.loss, on logits float32 [8, 3] and targets int64 [8]", "AttributeError", "y.nonexistent"),
        (augment_raises, "task.augment", "AttributeError", "bits.max().nothing"),
    ],
)
def test_errors_in_user_code_come_with_their_traceback(
    task: Callable[..., Task], stage: str, error: str, line: str
) -> None:
    (fault,) = faults(task)
    first, *trace = fault.splitlines()
    assert first.startswith(stage)
    assert f"{Path(__file__).name}, line " in first
    assert error in fault
    assert line in fault
    # From the user's first frame on: nothing of the framework above it, and torch's own calling frames left out.
    files = [text for text in trace if text.strip().startswith('File "')]
    assert Path(__file__).name in files[0]
    assert not any("/sweeps/own_task.py" in text or "_call_impl" in text for text in files)


def test_a_sweep_of_several_recipes_tells_a_fault_once() -> None:
    twice = [recipe(raising), replace(recipe(raising), batch_size=4), recipe(mean_loss)]
    with pytest.raises(SpecError) as caught:
        check_own_tasks([Recipe(task="digits", model="mlp_si", batch_size=4), *twice])
    assert len(caught.value.faults) == 2
    assert len(try_out_all([recipe(good), replace(recipe(good), batch_size=4)])) == 2


MODULES = {
    "half": "def task(:\n    pass\n",
    "needs": "import no_such_library\n",
    "fails": "import math\n\n\ndef at_import():\n    return math.sqrt(-1)\n\n\nat_import()\n",
    "empty": "from trainables.tasks import Task\n\n\ndef digits_task():\n    ...\n",
}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("half:task", ("module 'half' must run, found an error at half.py, line 1", "SyntaxError", "def task(:")),
        ("needs:task", ("needs.py, line 1", "ModuleNotFoundError: No module named 'no_such_library'")),
        ("fails:task", ("fails.py, line 5, in at_import", "return math.sqrt(-1)", "ValueError")),
        ("empty:digit_task", ("has no function 'digit_task'", "did you mean 'digits_task'")),
        ("absent:task", ("no module 'absent'", "run from the folder that holds it")),
    ],
)
def test_modules_that_cannot_be_imported(
    target: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SpecError) as caught:
        resolve(target)
    (fault,) = caught.value.faults
    for word in words:
        assert word in fault
    assert "importlib" not in fault


@pytest.mark.parametrize("command", ["plan", "run"])
def test_plan_and_run_refuse_a_task_that_does_not_work(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ntask: {{name: '{__name__}:wrong_shape'}}\ntrain: {{batch_size: 4}}\n"
        "phases: [{name: train, steps: 10}]\naxes: {lr: {values: [0.1]}}\nmeasure: {report_every: 5}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert invoke(command, ["mine.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "mat1 and mat2 shapes cannot be multiplied (4x4 and 5x3)" in said.err
    assert said.err.count("Traceback") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_an_error_outside_of_any_one_members_step_names_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = small.make(tmp_path)

    def fail(*arguments: object) -> bool:
        raise ValueError("in the evaluation, say")

    monkeypatch.setattr("sweeps.trial._train", fail)
    pack = made.packs[0]
    notes = []
    run_pack(pack, folder, attempt=1, options=small.OPTIONS, progress=lambda news: notes.append(news.note))
    (error,) = read_errors(folder, [pack.pack_id])
    tag = pack.recipe.task_args["tag"]
    assert error.struck.startswith("8 members together (lr 0.1 to 0.5, seeds 0 to 1), the first member ")
    assert re.search(rf"member [0-9a-f]{{16}} \(.*lr 0\.[15].*, seed [01], tag {tag}\)$", error.struck)
    assert error.members == 8
    assert error.reason == "ValueError: in the evaluation, say"
    assert f"{Path(__file__).name}, line " in notes[0]
