"""Averages of weights: against averages made by hand in float64, and on planted sets of weights."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from grouped import group_of_runs
from hypothesis import given
from hypothesis import strategies as st

from analysis.weight_averages import Kind, affordable, average_weights, measure, run_counts, solutions
from trainables.spec import SpecError

# What is averaged


@pytest.mark.parametrize(
    ("runs", "counts"), [(2, [2]), (3, [3]), (4, [2, 4]), (7, [2, 7]), (8, [2, 4, 8]), (20, [2, 4, 8, 20])]
)
def test_averages_are_made_of_two_four_and_so_on_up_to_all_runs(runs, counts):
    assert run_counts(runs) == counts


@given(st.integers(2, 40))
def test_averages_of_one_size_share_no_run_and_leave_out_less_than_one_average(runs):
    found = solutions(group_of_runs(runs))
    for count in run_counts(runs):
        across = [solution for solution in found if solution.kind is Kind.ACROSS and solution.count == count]
        used = [run for solution in across for run in solution.runs]
        assert len(set(used)) == len(used) == count * (runs // count)
        assert all(s.keys == tuple((f"m{run}", "end") for run in s.runs) for s in across)
    assert [s.keys for s in found if s.kind is Kind.ALONG] == [((f"m{run}", "swa@3"),) for run in range(runs)]
    assert [s.runs for s in found[:runs]] == [(run,) for run in range(runs)]


def test_which_runs_go_together_is_random_but_always_the_same():
    pairs = [solution.runs for solution in solutions(group_of_runs(16)) if solution.count == 2]
    assert pairs == [solution.runs for solution in solutions(group_of_runs(16)) if solution.count == 2]
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
    found = measure(bowl, kept, group_of_runs())
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
    whole = measure(Bowl(), _kept(), group_of_runs())
    monkeypatch.setattr("analysis.weight_averages._ELEMENTS", 4)
    kept, bowl = _kept(), Bowl()
    pd.testing.assert_frame_equal(measure(bowl, kept, group_of_runs()), whole)
    assert kept.most <= 2
    assert max(bowl.rows) == 2


def test_where_time_is_short_fewer_runs_then_one_schedule_then_nothing_is_measured():
    groups = (group_of_runs(8), group_of_runs(6))  # 8 + 8 + 7 and 6 + 6 + 4 solutions
    sizes = [tuple(len(group.seeds) for group in affordable(groups, 1.0, seconds)) for seconds in (39, 38, 21, 9, 5)]
    assert sizes == [(8, 6), (4, 4), (2, 2), (2,), (2,)]
    with pytest.raises(SpecError, match="two runs take about 5 minutes"):
        affordable(groups, 60.0, 299)
