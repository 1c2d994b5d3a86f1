"""What averages along a run and across runs are worth: estimates and words, and a real run against float64 by hand."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from grouped import PHASE, group_of_runs
from scipy import stats

from analysis.averages import Averages, group_averages, measured_averages
from analysis.averages_section import averages_section, averages_sentence
from analysis.decay.report import decay_content
from analysis.decay.schedules import parse_schedule
from analysis.figures.averages import averages_table
from analysis.invariance.courses import Course, Network, networks_of
from analysis.invariance.report import invariance_content
from analysis.seed_groups import schedule_words, seed_groups
from analysis.study import load_study
from analysis.weight_averages import Kind

TRAIN = {
    "name": "train",
    "steps": 24,
    "lr": 0.2,
    "decay_at": 12,
    "decay_factor": 0.5,
    "swa": {"every": 3, "windows": [2, 4]},
}
SWEEP = {
    "name": "averages",
    "question": "Which averages are good networks?",
    "source": "a test",
    "task": {"name": "digits", "train_size": 200, "test_size": 200},
    "model": {"name": "mlp_norm", "width": 8, "norm": "batch", "trains": "all", "head_seed": -1, "norm_eps": 1e-6},
    "train": {"batch_size": 20, "weight_decay": 1e-3},
    "phases": [TRAIN],
    "axes": {"data_seed": {"values": [0, 1]}, "seed": {"range": 5}},
    "measure": {"report_every": 12},
    "headline": {"variant": "noisy"},
    "analysis": {"kind": "decay"},
    "run": {"executor": "loop"},
    "variants": {
        "plain": {"axes": {"seed": {"range": 4}}},
        # the same rates, but not the same training
        "noisy": {"phases": [TRAIN | {"grad_noise": 0.01}]},
    },
}


# Estimates and words


def _solutions():
    rows = [("end", 1, 0.08), ("end", 1, 0.10), ("end", 1, 0.06), ("end", 1, 0.08)]
    rows += [("along", 3, 0.05), ("along", 3, 0.06), ("along", 3, 0.04), ("along", 3, 0.05)]
    rows += [("across", 2, 0.3), ("across", 2, 0.7), ("across", 4, 0.88)]
    error = np.array([row[2] for row in rows])
    excess = np.concatenate([np.zeros(4), error[4:8] - error[:4], error[8:] - 0.08])
    return pd.DataFrame(rows, columns=["kind", "count", "test_error"]).assign(
        train_loss=2 * error, excess=excess, runs=[(0,)] * len(rows)
    )


def test_estimates_are_students_and_paired():
    found = group_averages(group_of_runs(), _solutions(), 0.9)
    assert [(q.kind, q.count, q.error.n) for q in found.qualities] == [
        (Kind.END, 1, 4),
        (Kind.ALONG, 3, 4),
        (Kind.ACROSS, 2, 2),
        (Kind.ACROSS, 4, 1),
    ]
    changes = [-0.03, -0.04, -0.02, -0.03]
    expected = stats.t.interval(0.9, 3, np.mean(changes), stats.sem(changes))
    np.testing.assert_allclose(found.quality(Kind.ALONG).excess.interval, expected)
    pair = found.quality(Kind.ACROSS, 2)
    assert pair.error.value == pytest.approx(0.5)
    assert pair.error.interval == (0.0, 1.0)  # Student's would reach beyond what an error can be
    assert np.isnan(found.quality(Kind.ACROSS).error.low)


def test_the_sentence_says_both_and_claims_no_more_than_the_interval_allows():
    found = group_averages(group_of_runs(), _solutions(), 0.9)
    assert averages_sentence(found, 0.9) == (
        "averaging the last 3 weights of one run lowers the test error from 8.0 to 5.0 points (-3.0 points "
        "[-4.0, -2.0]); averaging the ends of different runs gives 50.0 [0.0, 100.0] with 2 runs and 88.0 with all 4 "
        "(chance: 90)."
    )
    unsure = _solutions()
    unsure.loc[4:7, "excess"] = [-0.1, 0.1, -0.1, 0.05]
    assert "takes the test error from 8.0 to 5.0 points" in averages_sentence(
        group_averages(group_of_runs(), unsure, 0.9), 0
    )
    worse = _solutions()
    worse["excess"] = worse["excess"].abs()
    assert "raises the test error" in averages_sentence(group_averages(group_of_runs(), worse, 0.9), 0)
    assert "not significant with 4 runs" in averages_sentence(group_averages(group_of_runs(), unsure, 0.9), None)


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([PHASE], "LR 0.1, WD 1e-3"),
        ([PHASE | {"kick": 3.0}], "LR 0.1, WD 1e-3, weights x 3"),
        ([PHASE, PHASE | {"lr": 0.01}], "LR 0.1, WD 1e-3, LR x 0.1 at step 100"),
        ([PHASE, PHASE | {"lr": 0.2, "weight_decay": 0.0}], "LR 0.1, WD 1e-3, LR x 2, WD off at step 100"),
        ([PHASE | {"lr": lr} for lr in (1, 2, 3, 4, 5)], "LR 1, WD 1e-3, after 4 changes LR 5, WD 1e-3"),
    ],
)
def test_schedules_in_words(phases, words):
    assert schedule_words(parse_schedule(phases)) == words


class Index:
    """Which weights were kept, and at which steps."""

    def __init__(self, steps):
        self.steps = steps

    def entries(self):
        return self.steps.keys()

    def step(self, key):
        return self.steps[key]


def test_an_average_counts_only_where_the_run_ends_and_its_end_was_kept():
    statuses = {"a": "completed", "b": "completed", "c": "completed", "d": "completed", "e": "nonfinite"}
    schedule = parse_schedule([PHASE])
    courses = tuple(
        Course(member_id=name, seed=seed, data_seed=0, status=status, schedule=schedule)
        for seed, (name, status) in enumerate(statuses.items())
    )
    members = pd.DataFrame({"member_id": list(statuses), "phases": json.dumps([PHASE])})
    study = SimpleNamespace(tables=SimpleNamespace(members=members), sweep={})
    network = Network(study=study, name="", recipe_id="", axes={}, variants=(), courses=courses)
    ends = {(name, "end"): 100 for name in "abde"}
    averages = {(name, f"swa@{window}"): 100 for name in "abce" for window in (2, 5)}
    kept = ends | averages | {("a", "swa@9"): 100, ("a", "swa@20"): 60, ("b", "swa@20"): 60, ("d", "swa@5"): 60}
    (group,) = seed_groups(network, Index(kept))
    assert group.member_ids == ("a", "b")
    assert group.window == 5
    assert seed_groups(network, Index(kept | {("b", "swa@2"): 60, ("b", "swa@5"): 60})) == ()


# A real run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from sweeps.folder import RunFolder
    from sweeps.inprocess import InProcessRunner
    from sweeps.members import write_members
    from sweeps.plan import plan
    from sweeps.runner import RunOptions
    from sweeps.sinks import read_statuses
    from sweeps.sweep import load_sweep

    place = tmp_path_factory.mktemp("averages")
    (place / "averages.yaml").write_text(yaml.safe_dump(SWEEP))
    sweep = load_sweep(str(place / "averages.yaml"))
    planned = plan(sweep, cores=2, memory_bytes=2**33)
    made = RunFolder.create(place / "out", sweep, planned, ["test"])
    options = RunOptions(executor="loop", save_seconds=60.0, cores=1)
    InProcessRunner().run(planned.packs, made, attempt=1, options=options, progress=lambda _: None)
    write_members(made, planned, read_statuses(made))
    return made.root


@pytest.fixture(scope="module")
def found(folder):
    return measured_averages(networks_of(load_study(folder))[0])


def _by_hand(folder, members, draw):
    """Test error and train loss of an average, layer by layer in float64, its norm statistics those of one batch."""
    from trainables.build import build_task
    from trainables.checkpoint import Checkpoints, load_member

    states = [load_member(folder / "checkpoints", member).double().state_dict() for member in members]
    checkpoints = Checkpoints(folder / "checkpoints")
    task = build_task(checkpoints.recipe((members[0], "end")), draw)
    module = task.model().double()
    linear = [name for name, p in module.named_parameters() if p.dim() == 2][:-1]  # all but the head
    norms = [np.sqrt(sum((state[name] ** 2).sum().item() for name in linear)) for state in states]
    mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    for name in linear:
        mean[name] = sum(state[name] / norm for state, norm in zip(states, norms, strict=True)) / len(states)
    length = np.sqrt(sum((mean[name] ** 2).sum().item() for name in linear))
    mean |= {name: mean[name] * np.mean(norms) / length for name in linear}
    module.load_state_dict(mean)
    layers = list(module)

    def logits(x, training):
        for layer in layers:
            if isinstance(layer, torch.nn.BatchNorm1d):
                at, spread = (x.mean(0), x.var(0, correction=0)) if training else held[layer]
                if training:
                    held[layer] = x.mean(0), x.var(0)
                x = (x - at) / (spread + layer.eps).sqrt() * layer.weight + layer.bias
            else:
                x = layer(x)
        return x

    held = {}
    with torch.no_grad():
        train = task.inputs(task.train.x, torch.float64)
        logits(train, training=True)
        loss = torch.nn.functional.cross_entropy(logits(train, training=False), task.train.y).item()
        wrong = logits(task.inputs(task.test.x, torch.float64), training=False).argmax(1) != task.test.y
    return wrong.double().mean().item(), loss


def test_groups_differ_in_their_seed_alone(folder):
    from trainables.checkpoint import Checkpoints

    network = networks_of(load_study(folder))[0]
    groups = seed_groups(network, Checkpoints(folder / "checkpoints"))
    # the headline's first
    assert [(g.data_seed, len(g.seeds), g.window) for g in groups] == [(0, 5, 4), (1, 5, 4), (0, 4, 4), (1, 4, 4)]
    members = network.study.tables.members.set_index("member_id")
    for group in groups:
        rows = members.loc[list(group.member_ids)]
        assert rows["phases"].nunique() == rows["variant"].nunique() == rows["data_seed"].nunique() == 1
        assert rows["seed"].tolist() == list(group.seeds)


def test_real_averages_against_float64_by_hand(folder, found):
    each = found.groups[1]
    ids = dict(zip(each.group.seeds, each.group.member_ids, strict=True))
    picked = each.solutions[each.solutions["kind"] != "along"].iloc[[0, 3, 5, 6, 7]]
    assert picked["count"].tolist() == [1, 1, 2, 2, 5]
    for runs, error, loss in zip(picked["runs"], picked["test_error"], picked["train_loss"], strict=True):
        by_hand = _by_hand(folder, [ids[seed] for seed in runs], each.group.data_seed)
        assert (error, loss) == pytest.approx(by_hand, rel=1e-4, abs=1e-9)


def test_averages_along_a_run_are_what_training_measured(folder, found):
    probes = load_study(folder).tables.probes
    told = probes[(probes["group"] == "swa@4") & (probes["split"] == "test") & (probes["key"] == "error")]
    for each in found.groups:
        along = each.solutions[each.solutions["kind"] == "along"]["test_error"]
        expected = told.set_index("member_id").loc[list(each.group.member_ids), "value"]
        np.testing.assert_allclose(along, expected, atol=1e-6)


@pytest.mark.parametrize("content_of", [decay_content, invariance_content])
def test_reports_show_them(folder, content_of):
    content = content_of(load_study(folder))
    answer = json.loads(json.dumps(content.data["averages"], allow_nan=False))
    assert [group["data_seed"] for group in answer["groups"]] == [0, 1, 0, 1]
    assert answer["chance"] == pytest.approx(0.9)
    assert "averaging the last 4 weights of one run" in content.html
    assert {"averages.csv", "weight-averages.png", "weight-averages.svg"} <= content.files.keys()


def test_the_section_lays_out_every_average(found):
    section = averages_section(found)
    assert section.sentence.startswith(
        "LR 0.2, WD 1e-3, LR x 0.5 at step 12 (noisy), data draw 0: averaging the last 4 weights"
    )
    rows = section.tables[0].frame
    assert rows["average of"].head(4).tolist() == [
        "nothing: the end of one run",
        "the last 4 weights of one run",
        "the ends of 2 runs",
        "the ends of 5 runs",
    ]
    assert len(rows) == len(averages_table(found)) == 16
    alone = averages_section(dataclasses.replace(found, groups=found.groups[:1]))
    assert alone.sentence.startswith("Averaging the last 4 weights")
    assert "schedule" not in alone.tables[0].frame
    assert not alone.notes


def test_short_time_is_told(folder, monkeypatch):
    monkeypatch.setattr("trainables.evaluate.Evaluator.seconds_per_solution", lambda *_: 1.0)
    network = networks_of(load_study(folder))[0]
    fewer = measured_averages(network, seconds=11)
    assert [len(each.group.seeds) for each in fewer.groups] == [4]
    assert fewer.note.endswith("at most 4 of 5 runs of 1 of 4 schedules were averaged.")
    none = measured_averages(network, seconds=4)
    assert averages_section(none).notes == (
        "Averages could not be measured: two runs take about 0 minutes here, more than a report waits for.",
    )
    assert none.as_json()["groups"] == []


def test_nothing_is_said_without_weights(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "bare")
    for path in (tmp_path / "bare" / "checkpoints").glob("*swa@*"):
        path.unlink()
    assert measured_averages(networks_of(load_study(tmp_path / "bare"))[0]) is None
    shutil.rmtree(tmp_path / "bare" / "checkpoints")
    study = load_study(tmp_path / "bare")
    assert measured_averages(networks_of(study)[0]) is None
    content = decay_content(study)
    assert content.data["averages"] is None
    assert "Averages of weights" not in content.html


def test_nothing_measured_leaves_a_note_on_the_page():
    section = averages_section(Averages(network="", groups=(), chance=None, note="Averages could not be measured: x."))
    assert not section.tables
    assert section.notes == ("Averages could not be measured: x.",)
