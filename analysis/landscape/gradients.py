"""How large and how noisy the gradient at a solution is.

The published proxy of sharpness is the mean norm of mini-batch gradients (Kodryan et al., NeurIPS 2022; Sadrtdinov et
al., NeurIPS 2024), over the scale-invariant weights and with the batch statistics of training: an objective built on
those names with `Norms.BATCH`. The noise is the trace of the per-sample gradient covariance S and the simple noise
scale tr S / |G|^2 (McCandlish et al. 2018, arXiv 1812.06162), the batch size at which noise and signal are equal.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.invariance.student import Difference, one_sample
from analysis.landscape.minibatch import batch_gradient
from analysis.landscape.objective import Objective
from trainables.norm_statistics import batches_of
from trainables.spec import SpecError

__all__ = ["CONFIDENCE", "GradientStatistics", "gradient_statistics", "statistics_of"]

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""Nominal coverage of every interval here."""
ROUNDING = 1e-12
"""Of a squared gradient: a smaller squared deviation is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientStatistics:
    """Gradient of the mean loss and of mini-batches at one solution; losses in nats, so gradients in nats per weight.

    Attributes:
        norm: |G|, of the gradient of the mean loss over all samples.
        batch_norm: mean of |g_B| over mini-batches, not squared.
        batch_norm_se: its standard error over mini-batches.
        noise: tr S, trace of the covariance of single samples' gradients, without bias for randomly ordered samples.
        noise_low: lower end of its 95 % interval (jackknife over mini-batches, on the logarithm).
        noise_high: upper end; infinite where all noise comes from a single mini-batch.
        noise_scale: tr S / |G|^2 in samples, |G|^2 freed of the noise in it; None where that leaves nothing, so that
            the gradient cannot be told from 0.
        noise_scale_low: lower end of its 95 % interval (jackknife on the inverse); None where the interval holds no
            positive number.
        noise_scale_high: upper end; None where the interval has none because a zero gradient is within it.
        weight_norm: ||w|| of the weights the gradient is taken by.
        batches: how many mini-batches.
        samples: n.
    """

    norm: float
    batch_norm: float
    batch_norm_se: float
    noise: float
    noise_low: float
    noise_high: float
    noise_scale: float | None
    noise_scale_low: float | None
    noise_scale_high: float | None
    weight_norm: float
    batches: int
    samples: int

    def as_rows(self) -> dict[str, float]:
        """Row keys and finite numbers; what could not be told is left out.

        The keys `effective_*` hold norms times ||w|| and noise times ||w||^2: the same numbers on the unit sphere. They
        are invariant where all the weights are scale-invariant, and mean nothing elsewhere (see `invariants`).
        """
        gradient = {"norm": self.norm, "batch_norm": self.batch_norm, "batch_norm_se": self.batch_norm_se}
        noise = {"noise": self.noise, "noise_low": self.noise_low, "noise_high": self.noise_high}
        scale = {
            "noise_scale": self.noise_scale,
            "noise_scale_low": self.noise_scale_low,
            "noise_scale_high": self.noise_scale_high,
        }
        rows = {
            **gradient,
            **noise,
            **{key: value for key, value in scale.items() if value is not None},
            **{f"effective_{key}": value * self.weight_norm for key, value in gradient.items()},
            **{f"effective_{key}": value * self.weight_norm**2 for key, value in noise.items()},
        }
        return {key: value for key, value in rows.items() if math.isfinite(value)}


def gradient_statistics(objective: Objective, *, batch_size: int) -> GradientStatistics:
    """Norm and noise of the gradient, from mini-batches in the stored order.

    Costs one forward and backward pass over the samples. Keeps the gradient of every mini-batch: batches x P numbers.

    Args:
        objective: the loss around the solution. With `Norms.BATCH` every mini-batch is normalised by its own
            statistics, and the gradient of the mean loss is the mean over mini-batches.
        batch_size: samples in a mini-batch; the last one may hold fewer.

    Returns:
        The statistics.

    Raises:
        SpecError: fewer than three mini-batches, so that there would be no error to state, or a gradient that is not
            finite.
    """
    parts = list(batches_of(objective.samples, batch_size)) if batch_size > 0 else []
    if len(parts) < 3:
        raise SpecError(
            [
                f"batch_size must leave at least 3 mini-batches of {objective.samples} samples, found {batch_size}; "
                f"at most {objective.samples // 3} does"
            ]
        )
    gradients = torch.stack([batch_gradient(objective, part)[1] for part in parts])
    return statistics_of(gradients, [part.stop - part.start for part in parts], objective.weights)


def statistics_of(gradients: Tensor, sizes: Sequence[int], weights: Tensor) -> GradientStatistics:
    """The statistics of given mini-batch gradients.

    Args:
        gradients: mean gradient of each mini-batch, `[K, P]`.
        sizes: samples in each, K.
        weights: the solution, `[P]`.

    Returns:
        The statistics.

    Raises:
        SpecError: a gradient that is not finite.
    """
    if bad := int((~torch.isfinite(gradients).all(1)).sum()):
        raise SpecError(
            [f"gradients must be finite, found NaN or infinity in those of {bad} of {len(sizes)} mini-batches"]
        )
    gradients = gradients.double()
    products: Floats = (gradients @ gradients.T).cpu().numpy()
    counts = np.array(sizes, dtype=np.float64)
    norms = one_sample(np.sqrt(np.diag(products)))
    noise, low, high = _noise(products, counts)
    scale, scale_low, scale_high = _noise_scale(products, counts)
    return GradientStatistics(
        norm=math.sqrt(_mean_sq(products, counts)),
        batch_norm=norms.value,
        batch_norm_se=float(norms.error),
        noise=noise,
        noise_low=low,
        noise_high=high,
        noise_scale=scale,
        noise_scale_low=scale_low,
        noise_scale_high=scale_high,
        weight_norm=float(weights.double().norm()),
        batches=len(sizes),
        samples=sum(sizes),
    )


def _mean_sq(products: Floats, sizes: Floats) -> float:
    """|G|^2 of the samples in these mini-batches."""
    weights = sizes / sizes.sum()
    return max(float(weights @ products @ weights), 0.0)


def _trace(products: Floats, sizes: Floats) -> float:
    """Tr S: the mean square between groups (one-way analysis of variance), whose expectation does not need equal sizes.

    sum_k b_k |g_k - G|^2 / (K - 1); 0 where it is no more than rounding.
    """
    weights = sizes / sizes.sum()
    towards = products @ weights
    deviations = np.diag(products) - 2 * towards + weights @ towards
    deviations[deviations < ROUNDING * np.diag(products)] = 0.0
    return float(sizes @ deviations) / (len(sizes) - 1)


def _inverse_scale(products: Floats, sizes: Floats) -> float:
    """|G|^2 / tr S, |G|^2 without bias: E|mean of n samples|^2 = |G|^2 + tr S / n."""
    trace = _trace(products, sizes)
    return _mean_sq(products, sizes) / trace - 1 / float(sizes.sum()) if trace > 0 else math.inf


def _log_trace(products: Floats, sizes: Floats) -> float:
    trace = _trace(products, sizes)
    return math.log(trace) if trace > 0 else -math.inf


def _noise(products: Floats, sizes: Floats) -> tuple[float, float, float]:
    """Tr S and its interval, on the logarithm because a variance is skewed and positive."""
    value = _trace(products, sizes)
    if value == 0:
        return 0.0, 0.0, 0.0
    half = _half_width(_log_trace, products, sizes)
    return value, value * math.exp(-half), value * math.exp(half)


def _noise_scale(products: Floats, sizes: Floats) -> tuple[float | None, float | None, float | None]:
    """Tr S / |G|^2 and its interval, found on the inverse: there a gradient of 0 is a number like others."""
    inverse = _inverse_scale(products, sizes)
    if math.isinf(inverse):
        return 0.0, 0.0, 0.0
    half = _half_width(_inverse_scale, products, sizes)
    value, low, high = (1 / x if x > 0 else None for x in (inverse, inverse + half, inverse - half))
    return value, low, high


def _half_width(statistic: Callable[[Floats, Floats], float], products: Floats, sizes: Floats) -> float:
    """Half of Student's interval of a statistic of mini-batches, by leaving out one of them at a time."""
    count = len(sizes)
    left_out = np.array(
        [statistic(products[np.ix_(kept, kept)], sizes[kept]) for kept in ~np.eye(count, dtype=np.bool_)]
    )
    if not np.isfinite(left_out).all():  # all noise comes from a single mini-batch
        return math.inf
    error = float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))
    low, high = Difference(value=0.0, error=error, df=count - 1, n=count, sd=error).interval(CONFIDENCE)
    return (high - low) / 2
