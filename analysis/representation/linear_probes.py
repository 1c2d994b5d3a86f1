"""What a linear classifier can read from a layer, beside what it could learn anyway (a control task).

Hewitt & Liang, EMNLP 2019: the control task replaces labels by a fixed random function of a sample's type. Inputs that
are no words have no types; the cell of the nearest of some fixed samples, in input space, stands for it. A probe that
does well on the control task reads the input, not what the network made of it; selectivity is the accuracy above it.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.estimates import Estimate, share_estimate
from analysis.representation.centring import finite
from analysis.representation.intervals import as_rows
from trainables.spec import SpecError

__all__ = ["LinearProbe", "control_labels", "linear_probe"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIT, VALIDATION = 0.5, 0.2
"""Shares of the samples that are fitted, and on which the strength is chosen; the rest is tested."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty that are tried (scikit-learn's C)."""
SAMPLES_PER_TYPE = 8
"""Of the control task, on average: few enough that the function is intricate, enough that each type recurs."""
_SMALL_HESSIAN = 400  # weights up to which Newton's method is faster than L-BFGS


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A layer's linear probe, on samples it was not fitted to.

    Attributes:
        accuracy: share of samples classified rightly, with Wilson's interval.
        control: the same on the control task.
        selectivity: accuracy - control, on the same samples; Newcombe's interval for paired shares (Statistics in
            Medicine 1998, method 8).
        strength: scikit-learn's C of the probe.
        control_strength: of the control task's probe.
    """

    accuracy: Estimate
    control: Estimate
    selectivity: Estimate
    strength: float
    control_strength: float

    @property
    def n(self) -> int:
        """Samples that were tested."""
        return self.accuracy.n

    def as_rows(self) -> dict[str, float]:
        """Name to number, with `_low` and `_high`."""
        return as_rows({name: getattr(self, name) for name in ("accuracy", "control", "selectivity")})


def control_labels(x: Tensor, labels: Tensor, *, types: Tensor | None = None, seed: int = 0) -> Tensor:
    """Labels of the control task: a random function of each sample's type.

    Args:
        x: network inputs, `[n, ...]`; read where there are no types.
        labels: classes, `[n]`; the control task has them in about the same proportions over types.
        types: a number for each sample, such as its word, `[n]`; None numbers it by the nearest of every eighth sample
            or so, drawn by `seed`.
        seed: fixes those samples and the function, so that several layers and networks have the same control task.

    Returns:
        Classes, `[n]`.
    """
    generator = np.random.default_rng([seed, 0xC0])
    if types is None:
        flat = x.reshape(len(x), -1).float().cpu()
        chosen = generator.choice(len(flat), -(-len(flat) // SAMPLES_PER_TYPE), replace=False)
        types = torch.cdist(flat, flat[torch.from_numpy(chosen)]).argmin(1)
    _, codes = torch.unique(types, return_inverse=True)
    count = int(codes.max()) + 1
    # evenly spaced in the sorted labels: every class has its share of the types
    shares = labels.sort().values[((torch.arange(count) + 0.5) * len(labels) / count).long()]
    return shares[torch.from_numpy(generator.permutation(count))][codes]


def linear_probe(
    units: Tensor, labels: Tensor, control: Tensor, *, seed: int = 0, confidence: float = 0.95
) -> LinearProbe:
    """Multinomial logistic regression with an L2 penalty on standardised activations.

    Samples are split once by `seed`: half is fitted, a fifth chooses the strength (the strongest penalty among the
    best), then both are fitted together and the rest is tested. The control task chooses a strength of its own.

    Args:
        units: activations, `[n, units]`.
        labels: classes, `[n]`.
        control: labels of the control task, `[n]`.
        seed: fixes the split.
        confidence: nominal coverage.

    Returns:
        The probe's quality.

    Raises:
        SpecError: fewer than 20 samples, a single class among those that are fitted, or activations that are not
            finite.
    """
    n = len(units)
    if n < 20 or not n == len(labels) == len(control):
        raise SpecError([f"a linear probe needs at least 20 samples with labels, found {n} and {len(labels)} labels"])
    order = np.random.default_rng([seed, 0x5B]).permutation(n)
    parts = np.split(order, [int(FIT * n), int((FIT + VALIDATION) * n)])
    fitted = np.concatenate(parts[:2])
    x = finite(units)
    seen = x[fitted]
    varies = seen.max(axis=0) > seen.min(axis=0)
    x = (x - seen.mean(axis=0)) / np.where(varies, seen.std(axis=0), 1.0)
    right, strengths = [], []
    for targets in (labels.long().numpy(), control.long().numpy()):
        if len(np.unique(targets[parts[0]])) < 2:
            raise SpecError(["a linear probe needs samples of two classes or more, found one; take more samples"])
        scores = [_right(x, targets, parts[0], parts[1], strength).mean() for strength in STRENGTHS]
        strengths.append(STRENGTHS[int(np.argmax(scores))])
        right.append(_right(x, targets, fitted, parts[2], strengths[-1]))
    real, other = (share_estimate(int(r.sum()), len(r), confidence) for r in right)
    return LinearProbe(real, other, _difference(real, other, *right), *strengths)


def _right(x: Floats, y: Ints, fit: Ints, judge: Ints, strength: float) -> npt.NDArray[np.bool_]:
    """Which samples of `judge` a probe fitted to `fit` classifies rightly."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = x.shape[1] * len(np.unique(y[fit]))
    probe = LogisticRegression(
        C=strength, solver="newton-cholesky" if weights <= _SMALL_HESSIAN else "lbfgs", max_iter=200
    )
    with warnings.catch_warnings():  # a probe is judged by what it says of other samples, converged or not
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter(
            "ignore", LinAlgWarning
        )  # of Newton's method, which scikit-learn then gives up for L-BFGS
        probe.fit(x[fit], y[fit])
    found: npt.NDArray[np.bool_] = probe.predict(x[judge]) == y[judge]
    return found


def _difference(a: Estimate, b: Estimate, right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> Estimate:
    """The difference of two shares of the same samples, from their Wilson intervals and their correlation."""
    deviations = right_a - a.value, right_b - b.value
    spread = np.sqrt((deviations[0] ** 2).mean() * (deviations[1] ** 2).mean())
    phi = float((deviations[0] * deviations[1]).mean() / spread) if spread > 0 else 0.0

    def reach(first: float, second: float) -> float:
        return float(np.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0)))

    value = a.value - b.value
    low = value - reach(a.value - a.low, b.high - b.value)
    high = value + reach(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high, a.n, a.confidence)
