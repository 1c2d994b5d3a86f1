"""Trace of a curvature by Hutchinson's estimator outside a Lanczos basis, with an interval that holds."""

import math
from dataclasses import dataclass

import torch

from analysis.landscape.krylov import Product
from analysis.landscape.lanczos import Spectrum
from trainables.spec import SpecError

__all__ = ["Trace", "trace"]

_PILOT = 12  # probes that say how many are needed; Student's quantile is then within a tenth of the normal one


@dataclass(frozen=True)
class Trace:
    """A trace and how sure it is.

    Attributes:
        value: the estimate, unbiased.
        standard_error: of the estimate.
        low: lower end of Student's interval.
        high: upper end.
        confidence: the interval's nominal coverage.
        products: operator products behind it, those of the eigenvalues included.
        probes: random vectors among them.
    """

    value: float
    standard_error: float
    low: float
    high: float
    confidence: float
    products: int
    probes: int


def trace(
    product: Product,
    size: int,
    spectrum: Spectrum | None = None,
    *,
    probes: int = 40,
    relative_error: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Trace:
    """Trace of a symmetric operator.

    tr A = tr(Q'AQ) + tr((1 - QQ')A(1 - QQ')). The first part is known from the Lanczos basis Q that the eigenvalues
    have paid for, the second is estimated by random vectors (Hutchinson 1990; deflation as in Meyer, Musco, Musco and
    Woodruff, Hutch++, 2021). The vectors are uniform on the sphere of the complement.

    With `relative_error` a pilot of 12 probes says how many are needed and then all of these are taken (Stein's two
    stages): watching the running mean until it rests, or the running error until it is small, stops on lucky samples.

    Args:
        product: the operator, `[P]` to `[P]`, symmetric.
        size: P.
        spectrum: its eigenvalues, as `eigenvalues` gave them, whose basis is reused.
        probes: how many random vectors; with `relative_error` at most so many.
        relative_error: wanted standard error relative to the size of the trace.
        confidence: nominal coverage of the interval.
        seed: of the random vectors.
        dtype: of the vectors.
        device: of the vectors.

    Returns:
        The trace; exact, with a standard error of 0, where the basis spans the whole space.

    Raises:
        SpecError: fewer than 2 probes, a wanted error that is not positive, or products that are not finite.
    """
    if probes < 2:
        raise SpecError([f"a trace with an error needs at least 2 probes, found {probes}; 40 is a good start"])
    if relative_error is not None and not relative_error > 0:
        raise SpecError([f"relative_error must be positive, found {relative_error}; 0.02 asks for 2 %"])
    known = 0.0 if spectrum is None else spectrum.krylov.captured
    used = 0 if spectrum is None else spectrum.products
    left = size - used
    if left == 0:
        return Trace(known, 0.0, known, known, confidence, used, 0)
    generator = torch.Generator().manual_seed(seed)

    def sample() -> float:
        vector = torch.randn(size, generator=generator).to(device=device, dtype=dtype)
        if spectrum is not None:
            vector = spectrum.krylov.orthogonal(vector)
        value = float(torch.dot(product(vector), vector)) * left / float(torch.dot(vector, vector))
        if not math.isfinite(value):
            raise SpecError(
                ["curvature products must be finite, found NaN or infinity; is the loss finite at these weights?"]
            )
        return value

    count = probes if relative_error is None else min(_PILOT, probes)
    samples = [sample() for _ in range(count)]
    if relative_error is not None:
        wanted = relative_error * abs(known + _mean(samples))
        needed = math.inf if wanted == 0 else _variance(samples) / wanted**2
        samples += [sample() for _ in range(min(probes, math.ceil(min(needed, probes))) - count)]
    return _summary(known, samples, confidence, used)


def _summary(known: float, samples: list[float], confidence: float, used: int) -> Trace:
    from scipy.special import stdtrit

    value = known + _mean(samples)
    error = math.sqrt(_variance(samples) / len(samples))
    half = float(stdtrit(len(samples) - 1, 0.5 + confidence / 2)) * error
    return Trace(value, error, value - half, value + half, confidence, used + len(samples), len(samples))


def _mean(samples: list[float]) -> float:
    return math.fsum(samples) / len(samples)


def _variance(samples: list[float]) -> float:
    mean = _mean(samples)
    return math.fsum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
