"""What captions of an arm's exhibits say alike: file names, seeds, intervals."""

from analysis.findings import Findings

__all__ = ["exhibit_name", "interval_words", "seeds_words"]


def exhibit_name(found: Findings, name: str) -> str:
    """File name of an exhibit: the headline arm's as it is, another arm's with its number."""
    return name if found.arm is found.study.headline else f"{name}-arm{found.arm.number}"


def seeds_words(found: Findings) -> str:
    """How many seeds, and on how many draws of the data where seeds share them."""
    draws = f" on {found.clusters} data draws" if found.clusters < found.seeds else ""
    return f"{found.seeds} seed{'' if found.seeds == 1 else 's'}{draws}"


def interval_words(found: Findings) -> str:
    """The coverage of the study's intervals."""
    return f"{100 * found.study.settings.confidence:g} % intervals"
