"""Sweep files: what is accepted, and that every fault is told at once with the rule, the value and a way out."""

import copy
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from drafts import GOOD, Change, faults, put

from sweeps.schema import LogGrid
from sweeps.source import override, parse_yaml, preset_names, read_source
from sweeps.space import members
from sweeps.sweep import load_sweep, sweep_from_mapping
from trainables.spec import SpecError

# What is wrong; then words the one sentence must hold: the place or rule, the value found, the way out.
FAULTS: list[tuple[Change, tuple[str, ...]]] = [
    (put("task.name", "digit"), ("unknown task 'digit'", "did you mean 'digits'", "tick_features", "module:function")),
    (put("model.name", "mlp_s"), ("unknown model 'mlp_s'", "mlp_si")),
    (put("model", None), ("needs a model", "found none", "mlp_si")),
    (put("task.trainsize", 5), ("unknown task argument 'trainsize'", "did you mean 'train_size'", "test_size")),
    (put("task.train_size", 1790), ("train_size must be between 10 and 1787", "found 1790")),
    (put("task.train_size", [1]), ("task.train_size", "must be one number, word", "found [1]")),
    (put("axes.label_noise.values", [0.2, 1.5]), ("label_noise must be between 0 and 1", "found 1.5")),
    (put("model.width", 2.5), ("width must be a whole number", "found 2.5")),
    (put("axes.sede", {"range": 2}), ("unknown axis 'sede'", "did you mean 'seed'", "data_seed")),
    (put("axes.lr", {"values": [1]}), ("unknown axis 'lr'", "pretrain_lr")),
    (put("train.momentun", 0.9), ("unknown key 'momentun' in train", "did you mean 'momentum'", "batch_size")),
    (put("frases", []), ("unknown key 'frases' in the sweep file", "did you mean 'phases'")),
    (put("measure", None), ("must have the key 'measure'", "add it")),
    (put("train.momentum", 1.0), ("train.momentum must be less than 1", "found 1.0")),
    (put("train.dtype", "float23"), ("train.dtype must be 'float32', 'float64' or 'bfloat16'", "found 'float23'")),
    (put("train.batch_size", True), ("train.batch_size: must be a number", "found true")),
    (put("train.batch_size", 0), ("train.batch_size must be greater than or equal to 1", "found 0")),
    (put("train.batch_size", None), ("batch size", "found none", "give train.batch_size or axes.batch_size")),
    (put("train.batch_size", 500), ("batch_size must be at most train_size", "500 and 200", "smaller batches")),
    (put("train.sphere_radius", -1.0), ("train.sphere_radius must be greater than 0", "found -1.0")),
    (put("phases.0.steps", "many"), ("phases.0.steps must be a valid integer", "found 'many'")),
    (put("phases", []), ("phases", "at least 1", "found []")),
    (put("phases.1.name", "Fine tune"), ("phases.1.name", "pattern", "found 'Fine tune'")),
    (put("axes.pretrain_lr.values", [-1e-3, 1.0]), ("axes.pretrain_lr", "greater than 0", "found -0.001")),
    (put("axes.pretrain_lr.values", [math.inf]), ("axes.pretrain_lr", "finite", "found inf")),
    (put("axes.pretrain_lr.values", []), ("axes.pretrain_lr", "at least one value", "empty grid", "list the values")),
    (put("axes.seed.range", 0), ("axes.seed", "at least 1", "found 0", "empty grid")),
    (put("axes.seed", {"values": [3, 1, 3]}), ("axes.seed", "must differ", "found 3", "remove")),
    (put("axes.seed", {"values": [-1]}), ("axes.seed", "greater than or equal to 0", "found -1")),
    (put("axes.seed", {"values": [0], "range": 2}), ("axes.seed", "exactly one of", "found range, values")),
    (put("axes.seed", {}), ("axes.seed", "exactly one of", "found none")),
    (
        put("axes.pretrain_lr", {"log_grid": {"low": 1, "high": 0.1, "per_decade": 4}}),
        ("axes.pretrain_lr.log_grid", "low must be below high", "low 1 and high 0.1", "exchange"),
    ),
    (
        put("axes.pretrain_lr", {"log_grid": {"low": 0, "high": 0.1, "per_decade": 4}}),
        ("axes.pretrain_lr.log_grid.low must be greater than 0", "found 0"),
    ),
    (put("axes.data_seed", {"same_as": "sed"}), ("axes.data_seed.same_as", "'sed'", "did you mean 'seed'")),
    (put("axes.data_seed", {"same_as": "data_seed"}), ("axes.data_seed.same_as", "unknown axis", "legal: pretrain_lr")),
    (put("axes.finetune_lr", None), ("'finetune' must have its lr", "give phases.1.lr or axes.finetune_lr")),
    (put("phases.1.steps", None), ("'finetune' must have its steps", "give phases.1.steps or axes.finetune_steps")),
    (put("phases.0.lr", 0.1), ("pretrain_lr must be set once", "both phases.0.lr and axes.pretrain_lr", "remove one")),
    (put("task.label_noise", 0.2), ("label_noise must be set once", "task.label_noise and axes.label_noise")),
    (put("axes.batch_size", {"values": [8]}), ("batch_size must be set once", "train.batch_size and axes.batch_size")),
    (
        put("phases.1", {"name": "pretrain", "steps": 50}, "axes.finetune_lr"),
        ("phases must have different names", "'pretrain' 2 times", "rename"),
    ),
    (put("phases.0.swa.windows", [2, 11]), ("phases.0.swa", "inside the phase", "found 11", "smaller window")),
    (put("phases.0.swa.windows", []), ("phases.0.swa.windows", "at least 1", "found []")),
    (put("measure.report_every", 60), ("measure.report_every must be at most", "found 60 and 50", "'finetune'")),
    (put("measure.keep", [10, 151]), ("measure.keep must lie within the schedule of 150", "found 151", "leave it out")),
    (put("headline", {}), ("headline must say which value of label_noise", "found none", "0.0, 0.2")),
    (put("headline.label_noise", 0.3), ("headline.label_noise must be a value", "found 0.3", "0.0, 0.2")),
    (put("headline.width", 16), ("unknown axis in headline 'width'", "legal: label_noise")),
    (put("headline.seed", 0), ("unknown axis in headline 'seed'", "seeds and learning rates make no arms")),
    (put("analysis.metric", "swa@3"), ("unknown analysis.metric 'swa@3'", "swa@2, swa@5", "finetune@0.0001")),
    (put("analysis.metric", "finetune@0.3"), ("unknown analysis.metric 'finetune@0.3'", "finetune@0.0001")),
    (put("analysis.margin", 1.0), ("analysis.margin must be less than 1", "found 1.0")),
    (put("run.members_per_pack", 0), ("run.members_per_pack: must be auto or a whole number", "found 0")),
    (put("run.executor", "lop"), ("run.executor must be", "'stacked'", "did you mean 'loop'", "found 'lop'")),
    (put("run.gpus_per_pack", -1), ("run.gpus_per_pack must be greater than or equal to 0", "found -1")),
    (put("run.checkpoint_budget", "20 apples"), ("run.checkpoint_budget", "20GB or 500MiB", "found '20 apples'")),
    (put("run.checkpoint_budget", 5), ("run.checkpoint_budget", "20GB or 500MiB", "found 5")),
    (put("measure.norm_statistics", "all"), ("measure.norm_statistics must be", "'training_set'", "found 'all'")),
    (put("tag", "tpu"), ("tag must be 'cpu' or 'gpu'", "found 'tpu'")),
    (put("name", "../etc"), ("name", "pattern", "found '../etc'")),
]

PAPERS = {"band": "2410.22113", "invariance": "2010.02916", "decay": "2010.02916"}
"""What a question of each kind was first asked in, an arXiv number."""


@pytest.mark.parametrize(("change", "words"), FAULTS, ids=[" ".join(words)[:50] for _, words in FAULTS])
def test_a_fault_is_one_sentence_with_rule_value_and_way_out(change: Change, words: tuple[str, ...]) -> None:
    found = faults(change)
    assert len(found) == 1
    for word in words:
        assert word in found[0]


def test_the_good_sweep_has_no_fault() -> None:
    assert faults() == []


def test_all_faults_are_told_at_once() -> None:
    changes = [FAULTS[i][0] for i in (0, 1, 8, 10)] + [
        put("axes.pretrain_lr.values", [-1e-3]),
        put("axes.finetune_lr.values", []),
        put("axes.seed", {"values": [1, 1]}),
        put("measure.report_every", 60),
    ]
    found = "\n".join(faults(*changes))
    for words in ("'digit'", "'mlp_s'", "'sede'", "'momentun'", "-0.001", "empty grid", "found 1 more than once", "60"):
        assert words in found
    assert len(found.split("\n")) == 8


@pytest.mark.parametrize(
    ("size", "count"),
    [("20GB", 20_000_000_000), ("500MiB", 500 * 2**20), (" 1.5 tb ", 1_500_000_000_000), ("4096B", 4096), (None, None)],
)
def test_a_checkpoint_budget_in_words(size: str | None, count: int | None) -> None:
    sweep = copy.deepcopy(GOOD)
    sweep["run"] = {"checkpoint_budget": size, "executor": "branches"}
    assert sweep_from_mapping(sweep).run.checkpoint_bytes == count


def test_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_model_module.py").write_text("def net(shape, outputs, *, width=8, depth): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = put("model", {"name": "my_model_module:net", "depth": 2})
    assert faults(own) == []
    widths = [put("axes.width", {"values": [4, 8]}), put("headline.width", 4)]
    assert faults(own, *widths) == []
    assert "found both model.depth and axes.depth" in faults(own, put("axes.depth", {"values": [2]}))[0]
    (found,) = faults(put("model", {"name": "my_model_module:net", "dept": 2}))
    assert "dept" in found
    (found,) = faults(put("model", {"name": "my_model_module:nett"}))
    assert "'nett'" in found


def test_axes_of_a_torchvision_model(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its builders do not list their arguments: an axis that means nothing else is taken for one of them.
    def check(name: str, args: dict[str, object]) -> list[str]:
        return [f"{name} does not take {key!r}" for key in args if key != "dropout"]

    monkeypatch.setattr("trainables.models.outside.faults_of_torchvision", check)
    model = put("model", {"name": "torchvision:mobilenet_v3_small"})
    axis = [put("axes.dropout", {"values": [0.1, 0.2]}), put("headline.dropout", 0.1)]
    assert faults(model, *axis) == []
    sweep = copy.deepcopy(GOOD)
    for change in (model, *axis):
        change(sweep)
    made = members(sweep_from_mapping(sweep))
    assert {member.recipe.model_args["dropout"] for member in made} == {0.1, 0.2}
    (found,) = faults(model, put("axes.droput", {"values": [0.1]}))
    assert "does not take 'droput'" in found


def test_faults_follow_from_no_other_fault() -> None:
    # label_noise is an argument of the task whose name is misspelt: no second fault about the axis.
    assert len(faults(put("task.name", "digit"))) == 1
    assert len(faults(put("phases.0.steps", 0))) == 1


def test_a_task_of_ones_own_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_task_module.py").write_text("def task(hardness, *, data_seed=0): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = [put("model", None), put("axes.label_noise", None), put("headline", {})]
    assert faults(*own, put("task", {"name": "my_task_module:task", "hardness": 2})) == []
    hard = {"values": [1, 2]}
    varied = [
        *own,
        put("task", {"name": "my_task_module:task"}),
        put("axes.hardness", hard),
        put("headline.hardness", 1),
    ]
    assert faults(*varied) == []
    (missing,) = faults(*own, put("task", {"name": "my_task_module:tsk"}))
    assert "no function 'tsk'" in missing
    (superfluous,) = faults(
        *own, put("task", {"name": "my_task_module:task", "hardness": 2}), put("model.name", "mlp_si")
    )
    assert "model must be left out" in superfluous


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_right_and_survive_the_manifest(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.name == name
    assert sweep.question
    assert PAPERS[sweep.analysis.kind] in re.findall(r"arXiv (\d{4}\.\d{5})", sweep.source)
    again = sweep_from_mapping(sweep.model_dump(mode="json"))
    assert again == sweep


def test_a_resolved_sweep_names_every_default_that_no_axis_replaces() -> None:
    sweep = copy.deepcopy(GOOD)
    sweep["axes"]["momentum"] = {"values": [0.0, 0.9]}
    sweep["headline"]["momentum"] = 0.0
    resolved = sweep_from_mapping(sweep).model_dump(mode="json")
    assert resolved["task"] == {"name": "digits", "train_size": 200, "test_size": 1200}
    assert resolved["model"] == {"name": "mlp_si", "width": 16, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}
    assert "momentum" not in resolved["train"]
    assert resolved["train"]["dtype"] == "float32"
    assert resolved["axes"]["seed"] == {"range": 2}
    assert sweep_from_mapping(resolved).model_dump(mode="json") == resolved


def test_yaml_numbers_without_a_dot() -> None:
    # PyYAML alone reads 1e-4 as a string.
    assert yaml.safe_load("1e-4") == "1e-4"
    assert parse_yaml("[1e-4, 1E5, -2e+3, .5e1, 7, 1.5, 1e, e4]", "") == [1e-4, 1e5, -2e3, 5.0, 7, 1.5, "1e", "e4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1\nb: 2\n", ("line 2", "must be valid YAML", "correct it")),
        ("a: 1\nb: 2\na: 3\n", ("line 3", "the key 'a' twice")),
        ("a: {b: 1, b: 2}\n", ("line 1", "the key 'b' twice")),
        ("- 1\n", ("must hold a mapping", "found list")),
        ("", ("must hold a mapping", "found NoneType")),
    ],
)
def test_a_file_that_is_no_sweep(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_sweep(str(path))
    for word in (str(path), *words):
        assert word in caught.value.faults[0]


def test_an_unknown_preset_lists_the_presets() -> None:
    with pytest.raises(
        SpecError, match=r"unknown preset 'band-tik' \(did you mean 'band-tick'\?\); legal: .*band-digits"
    ):
        load_sweep("band-tik")
    with pytest.raises(SpecError, match=r"must exist, found none at nowhere/sweep\.yaml"):
        load_sweep("nowhere/sweep.yaml")


def test_set_changes_values_by_their_path() -> None:
    sweep = load_sweep(
        "band-digits",
        ["axes.seed.range=2", "phases.0.steps=1000", "phases.finetune.steps=2e3", "run.max_failures=0",
         "axes.pretrain_lr.log_grid={low: 1e-4, high: 1e-2, per_decade: 1}", "train.sphere_radius=null"],
    )  # fmt: skip
    assert sweep.points("data_seed") == (0, 1)
    assert [phase.steps for phase in sweep.phases] == [1000, 2000]
    assert sweep.points("pretrain_lr") == pytest.approx((1e-4, 1e-3, 1e-2))
    assert (sweep.run.max_failures, sweep.train.sphere_radius) == (0, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("axes.seed.range", ("--set must be key=value", "found 'axes.seed.range'")),
        ("=3", ("--set must be key=value",)),
        ("phases.2.steps=3", ("phases.2.steps=3", "found no '2' in a list", "legal: 0, 1, pretrain, finetune")),
        ("phases.pretrian.steps=3", ("did you mean 'pretrain'",)),
        ("name.x=3", ("found the value 'band-digits' at 'name'",)),
        ("run.executr=loop", ("unknown key 'executr' in run", "did you mean 'executor'")),
        ("ru.executor=loop", ("unknown key 'ru' in the sweep file", "run")),
        ("axes.seed.rang=3", ("unknown key 'rang' in axes.seed", "range")),
        ("run.executor=[", ("--set run.executor=[", "must be valid YAML")),
    ],
)
def test_a_wrong_set_is_a_fault(change: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep("band-digits", [change])
    assert len(caught.value.faults) == 1
    for word in words:
        assert word in caught.value.faults[0]


def test_set_leaves_the_original_alone() -> None:
    mapping = read_source("band-digits")
    before = copy.deepcopy(mapping)
    override(mapping, ["phases.0.steps=1", "axes.seed.range=1"])
    assert mapping == before


def test_log_grid() -> None:
    grid = LogGrid(low=1e-5, high=1, per_decade=4)
    assert grid.values() == pytest.approx([10 ** (k / 4) for k in range(-20, 1)], rel=1e-15)
    fine = {"low": 1.000000000001e-3, "high": 1e-2, "per_decade": 4}  # written by hand: the same point as 1e-3
    refined = LogGrid.model_validate({"low": 1e-4, "high": 1e-1, "per_decade": 2, "refine": [fine]}).values()
    assert [round(math.log10(lr), 6) for lr in refined] == [-4, -3.5, -3, -2.75, -2.5, -2.25, -2, -1.5, -1]
    # Off the lattice: ends are kept as they are, and no gap is wider than asked.
    odd = LogGrid(low=5e-3, high=2e-2, per_decade=8).values()
    assert (odd[0], odd[-1]) == (5e-3, 2e-2)
    assert max(b / a for a, b in pairwise(odd)) <= 10 ** (1 / 8) * (1 + 1e-12)


def test_the_papers_grids() -> None:
    sweep = load_sweep("band-tick-paper")
    quarters = [-4.5 + k / 4 for k in range(9)]
    exponents = quarters + [-2.25 + k / 8 for k in range(8)] + [-1.25 + k / 4 for k in range(6)]
    assert sweep.points("pretrain_lr") == tuple(10.0**e for e in exponents)
    assert sweep.points("finetune_lr") == tuple(10.0**e for e in exponents[:11])
