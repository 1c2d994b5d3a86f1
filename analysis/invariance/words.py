"""Verdicts as sentences."""

from analysis.arms import lr_text
from analysis.invariance.cells import seeds_words
from analysis.invariance.find import InvarianceFindings, NetworkFindings
from analysis.invariance.verdict import Verdict, p_text

__all__ = ["network_sentence", "sentence"]

_MEANING = {
    Verdict.EQUIVALENT: "learning rate and weight decay act only through their product",
    Verdict.DIFFERENT: "learning rate and weight decay do not act through their product alone",
    Verdict.INCONCLUSIVE: "whether learning rate and weight decay act only through their product is not decided",
}


def sentence(found: InvarianceFindings) -> str:
    """The study's answer in a few sentences.

    Args:
        found: the findings.

    Returns:
        The headline's verdict with what it rests on, then the other networks'.
    """
    parts = [network_sentence(found.headline)]
    parts += [_short(each) for each in found.networks[1:] if each.verdict is not None]
    if found.control is not None:
        said = f"rejected ({p_text(found.control_p)})" if found.control_p is not None else "not split: too few runs"
        parts.append(f"The negative control, {found.control.network.name}, is {said}.")
    return " ".join(parts)


def network_sentence(found: NetworkFindings) -> str:
    """One network's verdict, what it rests on, and every test that was made.

    Args:
        found: its findings.

    Returns:
        Sentences.
    """
    name = f"{found.network.name}: " if found.network.name else ""
    if found.verdict is None:
        tests = "; ".join(f"{test.key} {test.verdict}" for test in found.tests if test.made)
        return f"{name}the negative control, there to be rejected: {tests or 'no test could be made'}."
    verdict = found.verdict.verdict
    said = [f"{verdict}: {_MEANING[verdict]}{_range(found)}.", found.verdict.reason]
    # what the verdict does not rest on, and would not be heard of otherwise
    others = [
        f"{test.key} {test.verdict}: {test.reason}"
        for test in found.tests
        if test.made and test.key in ("T3", "T4", "T5") and test.verdict is not verdict
    ]
    if verdict is Verdict.INCONCLUSIVE and others:  # what was found comes before what was not
        return name + " ".join([*others, f"Over all tests {said[0]}", *said[1:]])
    return name + " ".join([*said, *others])


def _short(found: NetworkFindings) -> str:
    """Another network's verdict, to stand after the headline's."""
    assert found.verdict is not None
    verdict = found.verdict.verdict
    agreeing = [test.key for test in found.tests if test.made and test.verdict is verdict]
    return f"{found.network.name}: {verdict} ({', '.join(agreeing)})."


def _range(found: NetworkFindings) -> str:
    """Where the verdict holds."""
    table = found.runs.table
    if table.empty:
        return ""
    parts = []
    for name, words in (("intrinsic_lr", "intrinsic LR"), ("ratio", "LR/WD")):
        low, high = float(table[name].min()), float(table[name].max())
        ends = lr_text(low) if high < low * 1.000001 else f"{lr_text(low)} to {lr_text(high)}"
        parts.append(f"{words} {ends}")
    return f" ({', '.join(parts)}, {seeds_words(table)} in each cell)"
