"""Neural collapse NC1 to NC4 of a classifier's last features (Papyan, Han & Donoho, PNAS 2020, arXiv 2008.08186).

Every class counts alike, whatever its number of samples: class means mu_c, their mean mu, S_B and S_W are averages over
classes. Only what lies along the class means enters, so no matrix of units by units is ever made.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.estimates import Estimate, share_estimate
from analysis.representation.centring import finite
from analysis.representation.intervals import as_rows, jackknife_error, student, without_bias
from trainables.spec import SpecError

__all__ = ["Collapse", "collapse"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GROUPS = 20
"""Parts of each class left out in turn for the standard error."""
RANK = 1e-6
"""Singular values of the class means up to this share of the largest count as zero."""


@dataclass(frozen=True, slots=True)
class Collapse:
    """How far a network is from neural collapse; 0 everywhere where it has collapsed.

    With two classes the centred means are opposite by construction: NC2 is 0 then and says nothing.

    Attributes:
        nc1: variability within classes, tr(S_W pinv(S_B)) / K.
        nc2_norms: unequal lengths of the centred class means, standard deviation / mean.
        nc2_angles: mean absolute deviation of the cosines between them from -1 / (K - 1).
        nc3: no self-duality, || W / ||W|| - M / ||M|| ||^2 of the last layer's weight W and the centred class means M,
            both [K, units], by Frobenius norms; from 0 to 4.
        nc4: share of samples for which the nearest class mean and the network decide differently.
        n: samples.
        classes: K.
    """

    nc1: Estimate
    nc2_norms: Estimate
    nc2_angles: Estimate
    nc3: Estimate
    nc4: Estimate
    n: int
    classes: int

    def as_rows(self) -> dict[str, float]:
        """Name to number, with `_low` and `_high`."""
        return as_rows({name: getattr(self, name) for name in ("nc1", "nc2_norms", "nc2_angles", "nc3", "nc4")})


def collapse(
    features: Tensor, labels: Tensor, weight: Tensor, predictions: Tensor, confidence: float = 0.95
) -> Collapse:
    """Neural collapse of one network on one set of samples, usually of the training set.

    Intervals of NC1 to NC3 are Student's around a jackknife over twentieths of every class, that of NC4 is Wilson's.
    Chance sets the means of few samples apart and makes NC1 come out too small: the jackknife's estimate of that bias
    is taken off. NC2 of few samples is a little large.

    Args:
        features: what the last linear layer reads, `[n, units]`.
        labels: classes 0 to K - 1, `[n]`; at least two samples of each.
        weight: of the last linear layer, `[K, units]`; `[1, units]` for the one logit of two classes, which is the
            same network as two logits with the weights -w/2 and w/2.
        predictions: the network's decisions, classes `[n]`.
        confidence: nominal coverage.

    Returns:
        The figures.

    Raises:
        SpecError: shapes that do not fit, numbers that are not finite, a class with fewer than two samples, or class
            means that are all the same.
    """
    h, own = finite(features), labels.long().numpy()
    w = weight.detach().double().numpy()
    w = np.concatenate([-w, w]) if len(w) == 1 else w
    classes = len(w)
    if not np.isfinite(w).all():
        raise SpecError(["collapse needs finite weights, found NaN or infinity; this network says nothing"])
    if w.shape[1] != h.shape[1] or not len(h) == len(own) == len(predictions):
        found = f"{tuple(weight.shape)}, {tuple(features.shape)}, {len(own)} labels, {len(predictions)} predictions"
        raise SpecError([f"collapse needs a weight [K, units] and features [n, units] of n labels, found {found}"])
    counts = np.bincount(own, minlength=classes)
    if len(counts) > classes or counts.min() < 2:
        found = f"collapse needs at least 2 samples of each of {classes} classes, found {counts.tolist()}"
        raise SpecError([f"{found}; take more samples"])
    groups = min(GROUPS, int(counts.min()))
    part = _rank_in_class(own) % groups
    sums = np.zeros((groups, classes, h.shape[1]))
    np.add.at(sums, (part, own), h)
    sizes = np.zeros((groups, classes))
    np.add.at(sizes, (part, own), 1)
    means = sums.sum(0) / counts[:, None]
    figures = _figures(h, own, means, w)
    without = np.stack(
        [
            _figures(h[part != g], own[part != g], (sums.sum(0) - sums[g]) / (counts - sizes[g])[:, None], w)
            for g in range(groups)
        ]
    )
    figures[0] = max(without_bias(float(figures[0]), without[:, 0]), 0.0)
    names = ("nc1", "nc2_norms", "nc2_angles", "nc3")
    estimates = {
        name: student(float(value), jackknife_error(column), groups, len(h), confidence, least=0.0)
        for name, value, column in zip(names, figures, without.T, strict=True)
    }
    nearest = ((means**2).sum(1) - 2 * h @ means.T).argmin(1)
    differ = int((nearest != predictions.long().numpy()).sum())
    return Collapse(**estimates, nc4=share_estimate(differ, len(h), confidence), n=len(h), classes=classes)


def _rank_in_class(labels: Ints) -> Ints:
    """How many earlier samples have the same label."""
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))])
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def _figures(h: Floats, labels: Ints, means: Floats, weight: Floats) -> Floats:
    """NC1, both NC2 and NC3 for known class means."""
    classes = len(means)
    centred = means - means.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    if singular[0] <= np.finfo(np.float64).eps * np.abs(means).max():
        raise SpecError(["collapse needs class means that differ, found the same for all; the features carry no class"])
    kept = singular > RANK * singular[0]
    along = (h - means[labels]) @ directions[kept].T
    shares = 1 / (classes * np.bincount(labels, minlength=classes)[labels])
    nc1 = ((along**2 * (classes / singular[kept] ** 2)).sum(1) @ shares) / classes
    lengths = np.linalg.norm(centred, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a class mean at the centre has no direction
        cosines = centred @ centred.T / np.outer(lengths, lengths)
    angles = np.abs(cosines + 1 / (classes - 1))[~np.eye(classes, dtype=bool)].mean()
    duality = ((weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)) ** 2).sum()
    return np.array([nc1, lengths.std() / lengths.mean(), angles, duality])
