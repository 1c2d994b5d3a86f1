"""What is trained: tasks, models, packs and the training loop. No Ray, no MLflow.

The package itself is light; torch is loaded by the submodules that compute.
"""

from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status
from trainables.spec import Measure, Member, Pack, Phase, Recipe, Segment, SpecError, Swa

__all__ = [
    "EpochRow",
    "Measure",
    "Member",
    "MemberStatus",
    "Pack",
    "Phase",
    "ProbeRow",
    "Recipe",
    "Segment",
    "SpecError",
    "Status",
    "Swa",
]
