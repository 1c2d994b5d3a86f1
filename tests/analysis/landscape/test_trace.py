"""The trace: unbiased, as sure as it says, and not stopped by luck."""

import numpy as np
import pytest
import torch
from small_nets import digits_hessian

from analysis.landscape.lanczos import eigenvalues
from analysis.landscape.trace import trace
from trainables.spec import SpecError


@pytest.fixture(scope="module")
def mlp():
    _, whole = digits_hessian()
    return whole.float(), float(whole.trace())


def test_two_per_cent_with_sixty_products_and_intervals_that_hold(mlp):
    matrix, exact = mlp
    found = []
    for seed in range(60):
        spectrum = eigenvalues(lambda v: matrix @ v, 1066, seed=seed)
        found.append(trace(lambda v: matrix @ v, 1066, spectrum, probes=60 - spectrum.products, seed=1000 + seed))
    errors = np.array([one.value / exact - 1 for one in found])
    assert max(one.products for one in found) <= 60
    assert np.sqrt((errors**2).mean()) <= 0.02
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors))
    assert 0.90 <= np.mean([one.low <= exact <= one.high for one in found]) <= 0.985
    stated = np.sqrt(np.mean([one.standard_error**2 for one in found])) / exact
    assert stated == pytest.approx(errors.std(), rel=0.2)


def test_without_eigenvalues_it_is_hutchinsons_estimator_and_less_sure(mlp):
    matrix, exact = mlp
    spectrum = eigenvalues(lambda v: matrix @ v, 1066)
    plain = [trace(lambda v: matrix @ v, 1066, probes=40, seed=seed) for seed in range(40)]
    assert np.mean([one.low <= exact <= one.high for one in plain]) >= 0.88
    deflated = trace(lambda v: matrix @ v, 1066, spectrum, probes=40)
    assert np.median([one.standard_error for one in plain]) > 2 * deflated.standard_error
    assert plain[0].products == 40


def test_wanted_error_is_reached_whatever_the_sign(mlp):
    matrix, exact = mlp
    for sign in (1, -1):  # a negative running mean stops a rule that compares without its size
        product = (sign * matrix).matmul
        spectrum = eigenvalues(product, 1066)
        found = [trace(product, 1066, spectrum, probes=2000, relative_error=0.02, seed=seed) for seed in range(60)]
        errors = np.array([sign * one.value / exact - 1 for one in found])
        assert np.sqrt((errors**2).mean()) <= 0.026  # the rms of 60 has an error of a tenth; a pilot of 12 adds to it
        assert np.mean([one.low <= sign * exact <= one.high for one in found]) >= 0.88
        assert min(one.probes for one in found) >= 12


def test_a_trace_of_zero_takes_all_probes():
    values = torch.linspace(-1, 1, 500)
    found = trace(lambda v: values * v, 500, probes=70, relative_error=0.02)
    assert found.probes == 70
    assert found.low < 0 < found.high


def test_whole_space_is_exact_and_a_multiple_of_one_has_no_error():
    spectrum = eigenvalues(lambda v: torch.tensor([3.0, 2.0, -1.0]) * v, 3)
    found = trace(lambda v: torch.tensor([3.0, 2.0, -1.0]) * v, 3, spectrum)
    assert (found.standard_error, found.probes) == (0.0, 0)
    assert found.value == pytest.approx(4.0, rel=1e-6)
    some = trace(lambda v: 2 * v, 20, eigenvalues(lambda v: 2 * v, 20), probes=3)
    assert some.value == pytest.approx(40, rel=1e-6)
    same = trace(lambda v: 2 * v, 100, probes=3)
    assert same.value == pytest.approx(200, rel=1e-6)
    assert same.standard_error < 1e-3


def test_random_numbers_are_the_callers_own_business():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    values = torch.linspace(-1, 2, 100)
    a, b, c = (trace(lambda v: values * v, 100, seed=seed).value for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert a == b != c


def test_bad_input_is_one_sentence():
    for arguments in ({"probes": 1}, {"relative_error": 0.0}):
        with pytest.raises(SpecError):
            trace(torch.clone, 10, **arguments)
    with pytest.raises(SpecError, match="finite"):
        trace(lambda v: v * float("inf"), 10)
