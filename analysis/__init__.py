"""From a results folder's files to numbers, figures and a report.

Importing the package is light: pandas, SciPy and matplotlib are loaded where they are used.
"""

from importlib import import_module
from typing import Any

__all__ = ["ANALYSES", "Answer", "Study", "load_study", "write_report"]

ANALYSES: dict[str, str] = {
    "regimes": "convergence, chaotic equilibrium or divergence: each member's regime and the thresholds between them",
    "band": "final quality by initial learning rate, the band around the best one and the gain over regime 1",
    "invariance": "whether learning rate and weight decay act only through their product: tests and verdicts",
    "decay": "what each decay does, when it should come, how many are needed",
    "features": "which features networks use: accuracy per feature and Fourier band, sparsity, representations, CKA",
    "geometry": "of kept weights: angles, barriers, the 2A/2B border, curvature, gradients, sharpness, width, planes",
    "report": "everything above as one HTML page, figures, tables and answer.json in DIR/report",
}

_HOMES = {"Answer": "report", "write_report": "report", "Study": "study", "load_study": "study"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"analysis.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'analysis' has no attribute {name!r}")
