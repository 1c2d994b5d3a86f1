"""How long the weights of a plan's members need to forget how they began, said before anything is paid for."""

from collections.abc import Iterable
from dataclasses import dataclass

from analysis.laws import function_steps, intrinsic_lr
from trainables.spec import Member

__all__ = ["Equilibrium", "equilibrium_of"]


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """Time to equilibrium at the initial rates, of scale-invariant weights of free norm under SGD with weight decay.

    Attributes:
        shortest: steps at the largest intrinsic learning rate: 4 / (lr x weight decay / (1 - momentum)).
        longest: steps at the smallest.
        unfinished: settings of the first phase that end before their own time is over.
        settings: different settings of the first phase.
    """

    shortest: float
    longest: float
    unfinished: int
    settings: int


def equilibrium_of(members: Iterable[Member]) -> Equilibrium | None:
    """Look through the schedules.

    Args:
        members: of a plan.

    Returns:
        None where nothing is trained by SGD with weight decay on free norms.
    """
    needed: dict[tuple[float, float, float, int], tuple[float, int]] = {}
    # Members share recipes and schedules, so objects are told apart; holding a member keeps their ids their own.
    looked_at: dict[tuple[int, int, float], Member] = {}
    for member in members:
        looked_at.setdefault((id(member.recipe), id(member.phases), member.momentum), member)
    for member in looked_at.values():
        recipe, phase = member.recipe, member.phases[0]
        if recipe.sphere_radius is not None or recipe.optimizer.adapts:
            continue
        if phase.weight_decay > 0 and phase.curve.is_flat:
            key = (phase.lr, phase.weight_decay, member.momentum, phase.steps)
            if key not in needed:
                steps = function_steps(intrinsic_lr(phase.lr, phase.weight_decay, member.momentum))[1]
                needed[key] = (steps, phase.steps)
    if not needed:
        return None
    return Equilibrium(
        shortest=min(steps for steps, _ in needed.values()),
        longest=max(steps for steps, _ in needed.values()),
        unfinished=sum(steps > done for steps, done in needed.values()),
        settings=len(needed),
    )
