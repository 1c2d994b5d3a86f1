"""The local learning coefficient: how fast volume grows with loss around a solution.

lambda = n beta (E[L(w)] - L(w*)) over the posterior around the solution w*, tempered by beta = 1 / log n (Watanabe
2013; Lau et al. 2023, arXiv 2308.12108), its samples drawn by stochastic-gradient Langevin dynamics: each step adds

    step / 2 (-n beta g_B(w) - gamma (w - w*)) + sqrt(step) (x + x') / 2

to the weights, x and x' being this step's and the next step's standard normal numbers: shared between steps they leave
no error of the step on a quadratic (Leimkuhler and Matthews 2013, arXiv 1203.5428). A regular model with d parameters
has d / 2, a degenerate one less. What more draws do not mend, the noise of mini-batches and the step elsewhere than on
a quadratic, shrinks with the step, so the coefficient is taken at halved steps until halving changes little.
"""

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.invariance.student import one_sample, welch
from analysis.landscape.directions import normal_like, unit_direction
from analysis.landscape.minibatch import batch_gradient
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from trainables.spec import SpecError

__all__ = ["LocalLearningCoefficient", "local_learning_coefficient", "split_rhat"]

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RHAT = 1.05
"""Largest split R-hat of chains that agree."""
CHANGE = 0.1
"""Largest relative change of a converged value when the step was halved: about as much error of the step is left."""
ERROR = 0.05
"""Largest standard error of that change, relative to the value."""
STIFFNESS = 1.0
"""First step times the largest curvature of the tempered loss; 4 is where the dynamics become unstable."""
MOST = 1e30
"""Energy beyond which a chain has left the range of numbers."""
POWER_STEPS = 10
"""Hessian products that find the largest curvature, well enough to set a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalLearningCoefficient:
    """The coefficient of one solution, and whether to believe it.

    Attributes:
        value: the estimate at the smallest step; NaN where the chains left the range of numbers.
        standard_error: between chains.
        low: lower end of Student's 95 % interval over chains; the errors of the step and of `gamma` are not in it.
        high: upper end.
        rhat: split R-hat of the loss; 1 where chains agree and do not drift.
        coarse: the estimate at twice the step.
        converged: whether `value` may be used.
        reason: why not; empty where it may.
        step: smallest step, squared weights.
        gamma: strength that holds the chains near the solution; the value depends on it.
        chains: how many.
        draws: of each chain behind `value`.
        gradients: mini-batch gradients that it took.
    """

    value: float
    standard_error: float
    low: float
    high: float
    rhat: float
    coarse: float
    converged: bool
    reason: str
    step: float
    gamma: float
    chains: int
    draws: int
    gradients: int

    def as_rows(self) -> dict[str, float]:
        """Row keys and finite numbers; only where `converged` is 1 is `value` an estimate."""
        rows = {
            "value": self.value,
            "value_se": self.standard_error,
            "value_low": self.low,
            "value_high": self.high,
            "rhat": self.rhat,
            "coarse": self.coarse,
            "converged": float(self.converged),
            "step": self.step,
            "gamma": self.gamma,
        }
        return {key: value for key, value in rows.items() if math.isfinite(value)}


def local_learning_coefficient(
    objective: Objective,
    *,
    chains: int = 4,
    draws: int = 100,
    burn_in: int = 25,
    batch_size: int = 64,
    gamma: float | None = None,
    step: float | None = None,
    rounds: int = 6,
    seed: int = 0,
) -> LocalLearningCoefficient:
    """Estimate the coefficient by chains of Langevin dynamics that start at the solution.

    Costs chains x (burn_in + draws) mini-batch gradients a round, for at least two rounds: at the defaults 1000, at
    most 3000, and 10 Hessian products where no step is given.

    Args:
        objective: the loss, per sample a negative log-likelihood in nats, around a solution at which it is lowest.
        chains: independent ones, at least 4.
        draws: of each chain in each round.
        burn_in: steps of each chain that are dropped after a change of the step.
        batch_size: samples in a mini-batch, drawn anew at each step, with replacement.
        gamma: strength of the normal prior around the solution; None takes P / ||w||^2, a spread as large as the
            weights themselves, so that scaling scale-invariant weights changes nothing.
        step: the first; None takes 1 over the largest curvature, n beta lambda_max + gamma.
        rounds: of draws, at most; each halves the step or, where chains disagree, goes on at the same.
        seed: of start, noise and mini-batches.

    Returns:
        The coefficient with its verdict.

    Raises:
        SpecError: fewer than four chains, two rounds or two samples, too few draws, a step, gamma or batch size out of
            range, no gamma for weights that are 0, or batch statistics, under which the loss is no mean over samples.
    """
    faults = []
    if chains < 4:
        faults.append(f"chains must be at least 4 so that they can be compared, found {chains}")
    if draws < 4:
        faults.append(f"draws must be at least 4, found {draws}")
    if rounds < 2:
        faults.append(f"rounds must be at least 2: a single size of step proves nothing, found {rounds}")
    if objective.norms is Norms.BATCH:
        faults.append("norms must not be batch: the loss must be a mean over samples; take reestimated or stored")
    if batch_size < 1:
        faults.append(f"batch_size must be at least 1, found {batch_size}")
    if step is not None and not step > 0:
        faults.append(f"step must be positive, found {step}; None takes one that fits the curvature")
    if gamma is not None and not gamma >= 0:
        faults.append(f"gamma must be at least 0, found {gamma}; None takes one that fits the weights")
    if objective.samples < 2:
        faults.append(f"samples must be at least 2: the temperature is 1 / log n, found {objective.samples}")
    if gamma is None and not bool(objective.weights.any()):
        faults.append("gamma must be given where all weights are 0, found none")
    if faults:
        raise SpecError(faults)
    pull = objective.size / float(objective.weights.double().norm()) ** 2 if gamma is None else gamma
    temperature = objective.samples / math.log(objective.samples)
    if step is None:
        step = STIFFNESS / (temperature * _largest_curvature(objective, seed) + pull)
    tempered = _Tempered(objective, objective.losses(), temperature, pull, batch_size)
    generators = [torch.Generator().manual_seed(seed + row) for row in range(chains)]
    places = [objective.weights] * chains
    kept, coarse = np.empty((chains, 0)), None
    for spent in range(1, rounds + 1):
        skipped = 0 if kept.size else burn_in
        found = [
            tempered.run(place, generator, step, skipped, burn_in + draws - skipped)
            for place, generator in zip(places, generators, strict=True)
        ]
        kept = np.concatenate([kept, np.array([energies for _, energies in found])], axis=1)
        reason, then = _judge(kept, coarse)
        if then is _Then.STOP or spent == rounds:
            break
        if then is _Then.FINER:
            step, coarse, kept = step / 2, kept, np.empty((chains, 0))
        # chains that went off start anew: a smaller step may hold them
        places = [place if np.isfinite(row).all() else objective.weights for place, row in found]
    mean = one_sample(kept.mean(axis=1) if np.isfinite(kept).all() else np.full(chains, math.nan))
    low, high = mean.interval(CONFIDENCE)
    return LocalLearningCoefficient(
        value=mean.value,
        standard_error=float(mean.error),
        low=float(low),
        high=float(high),
        rhat=split_rhat(kept),
        coarse=math.nan if coarse is None else float(coarse.mean()),
        converged=not reason,
        reason=reason,
        step=step,
        gamma=pull,
        chains=chains,
        draws=kept.shape[1],
        gradients=spent * chains * (burn_in + draws),
    )


@dataclass(frozen=True)
class _Tempered:
    """The tempered posterior around a solution.

    Attributes:
        objective: the loss.
        base: loss of each sample at the solution, `[n]`.
        temperature: n beta.
        gamma: strength of the prior.
        batch_size: of the gradients.
    """

    objective: Objective
    base: Tensor
    temperature: float
    gamma: float
    batch_size: int

    def run(
        self, weights: Tensor, generator: torch.Generator, step: float, burn_in: int, draws: int
    ) -> tuple[Tensor, Floats]:
        """Go on with one chain.

        Args:
            weights: where it stands, `[P]`.
            generator: its randomness.
            step: of the dynamics.
            burn_in: steps whose energy is dropped.
            draws: steps whose energy is kept.

        Returns:
            Where it stands then, and n beta (L_B(w) - L_B(w*)) at every kept step, `[draws]`: on one mini-batch the
            losses of both places rise and fall together, so the difference is far less noisy than L_B(w) alone.
        """
        centre, samples = self.objective.weights, self.objective.samples
        energies = np.empty(burn_in + draws)
        noise = normal_like(centre, generator)
        for draw in range(burn_in + draws):
            batch = torch.randint(samples, (self.batch_size,), generator=generator).to(centre.device)
            losses, gradient = batch_gradient(self.objective, batch, weights)
            energy = self.temperature * float((losses - self.base[batch]).double().mean())
            energies[draw] = energy if abs(energy) < MOST else math.inf
            force = self.temperature * gradient + self.gamma * (weights - centre)
            after = normal_like(centre, generator)
            weights = weights - step / 2 * force + math.sqrt(step) / 2 * (noise + after)
            noise = after
        return weights, energies[burn_in:]


class _Then(Enum):
    STOP = auto()
    FINER = auto()
    LONGER = auto()


def _judge(kept: Floats, coarse: Floats | None) -> tuple[str, _Then]:
    """Why draws at one step, and those at twice the step, give no value (empty where they do), and what would help."""
    if not np.isfinite(kept).all():
        return "the chains left the range of numbers; a smaller step is needed", _Then.FINER
    if coarse is None:
        return "the step was not halved; more rounds are needed", _Then.FINER
    mean = one_sample(kept.mean(axis=1))
    if mean.value <= 0:
        return "the chains found lower losses than the solution's, which is not at a minimum", _Then.STOP
    rhat = split_rhat(kept)
    if rhat > RHAT:
        return f"the chains do not agree (split R-hat {rhat:.3f}, allowed {RHAT}); more draws are needed", _Then.LONGER
    if not np.isfinite(coarse).all():
        return "at twice the step the chains left the range of numbers; a smaller step is needed", _Then.FINER
    change = welch(kept.mean(axis=1), coarse.mean(axis=1))
    if abs(change.value) > max(CHANGE * mean.value, 2 * change.error):
        share = f"{abs(change.value) / mean.value:.0%}"
        return f"halving the step changed the value by {share}, allowed {CHANGE:.0%}; a smaller is needed", _Then.FINER
    if change.error > ERROR * mean.value:
        share = f"{change.error / mean.value:.1%}"
        why = f"the effect of the step is known to {share} of the value, allowed {ERROR:.0%}; more draws are needed"
        return why, _Then.LONGER
    return "", _Then.STOP


def split_rhat(draws: Floats) -> float:
    """Gelman and Rubin's R-hat with every chain cut in halves, which also sees chains that drift together.

    Args:
        draws: [chains, draws]; of an odd number the first is dropped.

    Returns:
        The square root of total over within-half variance; 1 where halves agree (Gelman et al., Bayesian Data Analysis,
        3rd edition, section 11.4). 1 where nothing varies, NaN where a draw is not finite.
    """
    if not np.isfinite(draws).all():
        return math.nan
    half = draws.shape[1] // 2
    halves = np.concatenate([draws[:, -2 * half : -half], draws[:, -half:]])
    within = float(halves.var(axis=1, ddof=1).mean())
    between = float(halves.mean(axis=1).var(ddof=1))
    if within == 0 and between == 0:
        return 1.0
    return math.sqrt((half - 1) / half + between / within) if within else math.inf


def _largest_curvature(objective: Objective, seed: int) -> float:
    """About the largest absolute eigenvalue of the Hessian, by power iteration."""
    vector = unit_direction(objective.weights, torch.Generator().manual_seed(seed))
    size = 0.0
    for _ in range(POWER_STEPS):
        product = objective.hessian(vector)
        size = float(product.norm())
        if size == 0:
            break
        vector = product / size
    return size
