"""Averages along a run and across runs: against averages made by hand in float64, on planted sets and on a real run."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.averages import Averages, group_averages, measured_averages
from analysis.averages_section import averages_section, averages_sentence
from analysis.decay.report import decay_content
from analysis.decay.schedules import parse_schedule
from analysis.figures.averages import averages_table
from analysis.invariance.courses import Course, Network, networks_of
from analysis.invariance.report import invariance_content
from analysis.seed_groups import SeedGroup, schedule_words, seed_groups
from analysis.study import load_study
from analysis.weight_averages import Kind, affordable, average_weights, measure, run_counts, solutions
from trainables.spec import SpecError

PHASE = {"name": "train", "steps": 100, "lr": 0.1, "weight_decay": 1e-3}
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


def _group(runs=4, window=3, phases=(PHASE,)):
    return SeedGroup(
        schedule=parse_schedule(list(phases)),
        data_seed=0,
        window=window,
        seeds=tuple(range(10, 10 + runs)),
        member_ids=tuple(f"m{run}" for run in range(runs)),
    )


# What is averaged


@pytest.mark.parametrize(
    ("runs", "counts"), [(2, [2]), (3, [3]), (4, [2, 4]), (7, [2, 7]), (8, [2, 4, 8]), (20, [2, 4, 8, 20])]
)
def test_averages_are_made_of_two_four_and_so_on_up_to_all_runs(runs, counts):
    assert run_counts(runs) == counts


@given(st.integers(2, 40))
def test_averages_of_one_size_share_no_run_and_leave_out_less_than_one_average(runs):
    found = solutions(_group(runs))
    for count in run_counts(runs):
        across = [solution for solution in found if solution.kind is Kind.ACROSS and solution.count == count]
        used = [run for solution in across for run in solution.runs]
        assert len(set(used)) == len(used) == count * (runs // count)
        assert all(s.keys == tuple((f"m{run}", "end") for run in s.runs) for s in across)
    assert [s.keys for s in found if s.kind is Kind.ALONG] == [((f"m{run}", "swa@3"),) for run in range(runs)]
    assert [s.runs for s in found[:runs]] == [(run,) for run in range(runs)]


def test_which_runs_go_together_is_random_but_always_the_same():
    pairs = [solution.runs for solution in solutions(_group(16)) if solution.count == 2]
    assert pairs == [solution.runs for solution in solutions(_group(16)) if solution.count == 2]
    assert sorted(pairs) != [(run, run + 1) for run in range(0, 16, 2)]


# The average itself


def _stack(rows=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(rows, 3, 5, generator=draw),
        "b.weight": 10 * torch.randn(rows, 2, 3, generator=draw),
        "head": torch.randn(rows, 2, generator=draw),
        "count": torch.arange(rows) + 7,
    }


def test_average_against_one_made_by_hand():
    weights = _stack()
    found = average_weights([weights], ("a.weight", "b.weight"))
    a, b, head = (weights[name].numpy().astype(np.float64) for name in ("a.weight", "b.weight", "head"))
    norms = [np.sqrt((a[row] ** 2).sum() + (b[row] ** 2).sum()) for row in range(4)]
    mean_a = sum(a[row] / norms[row] for row in range(4)) / 4
    mean_b = sum(b[row] / norms[row] for row in range(4)) / 4
    factor = np.mean(norms) / np.sqrt((mean_a**2).sum() + (mean_b**2).sum())
    np.testing.assert_allclose(found["a.weight"][0], factor * mean_a, rtol=1e-6)
    np.testing.assert_allclose(found["b.weight"][0], factor * mean_b, rtol=1e-6)
    np.testing.assert_allclose(found["head"][0], head.mean(0), rtol=1e-6)
    assert found["count"].tolist() == [7]
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: t.dtype for name, t in weights.items()}


def test_without_scale_invariant_weights_it_is_the_plain_mean():
    weights = _stack()
    found = average_weights([weights], ())
    torch.testing.assert_close(found["b.weight"], weights["b.weight"].mean(0, keepdim=True))


def test_parts_give_what_the_whole_gives_and_one_row_comes_back_untouched():
    weights, names = _stack(), ("a.weight", "b.weight")
    parts = ({name: tensor[rows] for name, tensor in weights.items()} for rows in (slice(0, 3), slice(3, 4)))
    whole = average_weights([weights], names)
    for name, tensor in average_weights(parts, names).items():
        torch.testing.assert_close(tensor, whole[name])
    one = {name: tensor[1:2] for name, tensor in weights.items()}
    assert all(torch.equal(tensor, one[name]) for name, tensor in average_weights([one], names).items())


@given(st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
def test_no_network_has_more_say_because_its_norm_is_larger(factors):
    names, weights = ("a.weight", "b.weight"), _stack()
    scaled = dict(weights)
    for name in names:
        scaled[name] = weights[name].double() * torch.tensor(factors, dtype=torch.float64).view(-1, 1, 1)
    plain, other = average_weights([weights], names), average_weights([scaled], names)
    ratios = [(other[name] / plain[name]).flatten() for name in names]
    assert torch.cat(ratios).std() < 1e-5 * torch.cat(ratios).mean()


# What is measured


class Bowl:
    """Error and loss of a network are its squared distance from 0; what it is asked for is remembered."""

    scale_invariant: tuple[str, ...] = ()
    trained = ("w",)

    def __init__(self):
        self.rows, self.reestimated = [], 0

    def __call__(self, weights, data_seeds, split):
        self.rows.append(len(data_seeds))
        value = (weights["w"] ** 2).sum(1)
        return SimpleNamespace(error=value, loss=value if split == "train" else 2 * value, n=1)

    def reestimate_norms(self, weights, data_seeds):
        self.reestimated += len(data_seeds)


class Kept:
    def __init__(self, held):
        self.held, self.most = held, 0

    def weights(self, keys):
        self.most = max(self.most, len(keys))
        return {"w": torch.stack([torch.tensor(self.held[key], dtype=torch.float64) for key in keys])}


def _kept():
    ends = {(f"m{run}", "end"): [float(np.cos(run)), float(np.sin(run))] for run in range(4)}
    return Kept(ends | {(f"m{run}", "swa@3"): [0.5 * x for x in ends[f"m{run}", "end"]] for run in range(4)})


def test_measured_are_ends_averages_along_and_averages_across():
    kept, bowl = _kept(), Bowl()
    found = measure(bowl, kept, _group())
    end, along, across = (found[found["kind"] == kind] for kind in ("end", "along", "across"))
    np.testing.assert_allclose(end["test_error"], 1)
    np.testing.assert_allclose(along["test_error"], 0.25)
    np.testing.assert_allclose(along["excess"], -0.75)
    assert (end["excess"] == 0).all()
    for count, runs, loss in zip(across["count"], across["runs"], across["train_loss"], strict=True):
        angles = np.array(runs) - 10  # seeds begin at 10
        assert len(runs) == count
        assert loss == pytest.approx(np.cos(angles).mean() ** 2 + np.sin(angles).mean() ** 2)
    assert bowl.reestimated == len(found) == 4 + 4 + 2 + 1


def test_large_networks_are_loaded_and_measured_few_at_a_time(monkeypatch):
    whole = measure(Bowl(), _kept(), _group())
    monkeypatch.setattr("analysis.weight_averages._ELEMENTS", 4)
    kept, bowl = _kept(), Bowl()
    pd.testing.assert_frame_equal(measure(bowl, kept, _group()), whole)
    assert kept.most <= 2
    assert max(bowl.rows) == 2


def test_where_time_is_short_fewer_runs_then_one_schedule_then_nothing_is_measured():
    groups = (_group(8), _group(6))  # 8 + 8 + 7 and 6 + 6 + 4 solutions
    sizes = [tuple(len(group.seeds) for group in affordable(groups, 1.0, seconds)) for seconds in (39, 38, 21, 9, 5)]
    assert sizes == [(8, 6), (4, 4), (2, 2), (2,), (2,)]
    with pytest.raises(SpecError, match="two runs take about 5 minutes"):
        affordable(groups, 60.0, 299)


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
    found = group_averages(_group(), _solutions(), 0.9)
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
    found = group_averages(_group(), _solutions(), 0.9)
    assert averages_sentence(found, 0.9) == (
        "averaging the last 3 weights of one run lowers the test error from 8.0 to 5.0 points (-3.0 points "
        "[-4.0, -2.0]); averaging the ends of different runs gives 50.0 [0.0, 100.0] with 2 runs and 88.0 with all 4 "
        "(chance: 90)."
    )
    unsure = _solutions()
    unsure.loc[4:7, "excess"] = [-0.1, 0.1, -0.1, 0.05]
    assert "takes the test error from 8.0 to 5.0 points" in averages_sentence(group_averages(_group(), unsure, 0.9), 0)
    worse = _solutions()
    worse["excess"] = worse["excess"].abs()
    assert "raises the test error" in averages_sentence(group_averages(_group(), worse, 0.9), 0)
    assert "not significant with 4 runs" in averages_sentence(group_averages(_group(), unsure, 0.9), None)


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
    network = Network(study=study, name="", recipe_id="", axes={}, courses=courses)
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
