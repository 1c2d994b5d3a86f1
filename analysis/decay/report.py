"""The report of a decay study: what each decay does, when it should come, how many are needed."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.averages import measured_averages
from analysis.averages_section import averages_section
from analysis.content import Content
from analysis.decay.answer import decay_answer
from analysis.decay.events import Event
from analysis.decay.excursions import excursions_of
from analysis.decay.excursions_section import excursion_sentences, excursions_json, excursions_section
from analysis.decay.exhibits import exhibits_of
from analysis.decay.find import ArmDecays, DecayFindings, find_decays
from analysis.decay.jumps import Jump
from analysis.decay.waits import waits_table
from analysis.decay.words import arm_sentences, comparison_words, rebound_words
from analysis.estimates import Estimate
from analysis.invariance.courses import Network, networks_of
from analysis.invariance.drop import drop_test, drop_words
from analysis.invariance.drops import drops_of
from analysis.invariance.margins import Margins
from analysis.invariance.verdict import TestResult
from analysis.sections import PageTable, Section, section_files, sections_page
from analysis.study import Study
from analysis.words import margin_words

__all__ = ["decay_content"]

_NONE = "\N{EN DASH}"

_METHOD = (
    (
        "Jump.",
        "The norm of scale-invariant weights cannot jump, so a learning rate divided by k divides the effective "
        "learning rate eta / ||w||^2 by k at once; at the new equilibrium it is sqrt(2 eta lambda / E[G]), a factor of "
        "1/sqrt(k) if the gradients' noise E[G] is what it was (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916). "
        "Weight decay divided by k changes nothing at once and ends in the same equilibrium. Before and at the end are "
        "means over the last 30 % of the stretch, just after is the first recorded interval.",
    ),
    (
        "Rebound.",
        "Error or loss before, at its best after the decay and at the end. The step of the best is chosen on the other "
        "seeds, so that picking the lowest of many noisy rows does not flatter it.",
    ),
    (
        "Timing.",
        "Final test error by decay time; the best setting is chosen on the other seeds where its own error is told. "
        "Intervals are multiple comparisons with the best, bootstrapped over whole seeds.",
    ),
    (
        "How many decays.",
        "Best schedule with more decays against the best with fewer, paired by seed, at equal and at unequal length.",
    ),
)


def decay_content(study: Study) -> Content:
    """Make the report.

    Args:
        study: the study.

    Returns:
        The report.
    """
    found = find_decays(study)
    margins, networks = Margins.of(study.settings.margins), networks_of(study)
    drops = [(network, result) for network in networks if (result := _drop(network, margins))]
    left = excursions_of(study, [each.arm for each in found.arms])
    data = decay_answer(found)
    extra = [_drop_sentence(network, result) for network, result in drops] + excursion_sentences(left, study)
    data["sentence"] = " ".join([*extra, data["sentence"]])
    data["tests"] = {f"{result.key}{network.suffix}": result.as_json() for network, result in drops}
    data["excursions"] = [excursions_json(each) for each in left]
    averages = measured_averages(networks[0])
    data["averages"] = averages.as_json() if averages else None
    ordered = sorted(found.arms, key=lambda each: each is not found.headline)
    sections = [*_drops(drops), *(_section(found, each) for each in ordered), *excursions_section(left, study)]
    sections += [averages_section(averages)] if averages else []
    html = sections_page(
        study,
        sentence=data["sentence"],
        warnings=_warnings(found),
        facts=_facts(found),
        sections=sections,
        method_paragraphs=_METHOD,
        data=data,
    )
    return Content(sentence=data["sentence"], data=data, html=html, files=section_files(sections))


def _drop(network: Network, margins: Margins) -> TestResult | None:
    """T5 where there are drops of both kinds."""
    frame = drops_of(network).table
    if frame.empty or frame["arm"].nunique() < 2:
        return None
    return drop_test(frame, margins)


def _drop_sentence(network: Network, result: TestResult) -> str:
    name = f"{network.name}: " if network.name else ""
    return f"{name}T5 {result.verdict}: {result.reason}"


def _drops(results: Sequence[tuple[Network, TestResult]]) -> Iterator[Section]:
    """A section for each network's test of drops."""
    for network, result in results:
        rows = [
            {
                "what": check["what"],
                "drop": drop_words(check["arm"], check["factor"]),
                "layer": check["layer"] or _NONE,
                "found": f"{check['found']:.4g} [{check['interval'][0]:.4g}, {check['interval'][1]:.4g}]",
                "expected": f"{check['expected']:.4g}",
                "margin": f"{100 * (np.exp(check['margin']) - 1):.2g} %",
            }
            for check in result.numbers.get("checks", ())
            if check["found"] is not None
        ]
        yield Section(
            title="Drop of the learning rate against drop of the weight decay"
            f"{f', {network.name}' if network.name else ''}: {result.verdict}",
            sentence=result.reason,
            tables=(
                PageTable(
                    name=f"drop-checks{network.suffix}",
                    title="Checks",
                    caption="Ratios to the equilibrium before the drop, means over seeds with 90 % intervals: within "
                    "the margin on both sides is a pass.",
                    frame=pd.DataFrame(rows),
                    words=("what",),
                ),
            ),
        )


def _section(found: DecayFindings, each: ArmDecays) -> Section:
    suffix = f"-arm{each.arm.number}" if len(found.arms) > 1 else ""
    tables = []
    jumps = _jumps(each)
    if jumps:  # decays without recorded norms have none
        tables.append(
            PageTable(
                name=f"jumps{suffix}",
                title="What each kind of decay does",
                caption="Ratios to the equilibrium before the decay, with intervals over seeds; in brackets what "
                "theory predicts. One decay of each kind; answer.json holds all.",
                frame=pd.DataFrame([_jump_row(each, event, jump) for event, jump in jumps]),
                data=pd.DataFrame([_jump_data(jump) for _, jump in jumps]),
                words=("decay",),
            )
        )
    if each.comparisons:
        tables.append(
            PageTable(
                name=f"decays-needed{suffix}",
                title="How many decays are needed",
                caption=f"Paired by seed; needed means better by more than nothing, not needed means within "
                f"{margin_words(found.study.settings.margin)}.",
                frame=pd.DataFrame(
                    [
                        {
                            "length": "equal"
                            if comparison.equal_length
                            else f"against {comparison.than_steps:,} steps",
                            "comparison": comparison_words(comparison),
                        }
                        for comparison in each.comparisons
                    ]
                ),
                words=("comparison",),
            )
        )
    waits = waits_table(each.arm, found.study.tables.members)
    if len(waits):
        tables.append(
            PageTable(
                name=f"waits{suffix}",
                title="Time to equilibrium at the initial rates",
                caption="4 / intrinsic LR steps: then scale-invariant weights have forgotten how they began.",
                frame=waits,
            )
        )
    return Section(
        title=each.arm.label or "Results",
        sentence=" ".join(arm_sentences(each)),
        tables=tuple(table for table in tables if len(table.frame)),
        exhibits=tuple(exhibits_of(found, each, suffix)),
        notes=tuple(
            rebound_words(rebound)
            for event in each.shown
            for quantity in ("error", "loss")
            if (rebound := each.rebound(event, quantity)) is not None
        ),
    )


def _jumps(each: ArmDecays) -> list[tuple[Event, Jump]]:
    return [(event, jump) for event in each.shown for jump in each.jumps if jump.event is event]


def _jump_row(each: ArmDecays, event: Event, jump: Jump) -> dict[str, str]:
    return {
        "decay": event.label,
        "weights": "all" if jump.group in ("scale_invariant", "trained") else jump.group,
        "n": str(jump.just_after.n),
        "ELR just after": f"{_ratio(jump.just_after)} ({jump.predicted_just_after:.3g})",
        "ELR at the end": f"{_ratio(jump.at_end)} ({_plain(jump.predicted_at_end.value)})",
        "angle at the end": f"{_ratio(jump.angle)} ({_plain(jump.predicted_angle)})",
        "E[G] at the end": _ratio(jump.noise),
        "recovered": "yes" if event.reached else "no",
    }


def _jump_data(jump: Jump) -> dict[str, object]:
    content = jump.as_json()
    flat: dict[str, object] = {"decay": jump.event.label}
    for key, value in content.items():
        flat |= {f"{key}_{part}": each for part, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _ratio(value: Estimate) -> str:
    if not np.isfinite(value.value):
        return _NONE
    half = (value.high - value.low) / 2
    return f"{value.value:.4g}" + (f" \N{PLUS-MINUS SIGN} {half:.2g}" if np.isfinite(half) else "")


def _plain(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else _NONE


def _warnings(found: DecayFindings) -> list[tuple[str, str]]:
    headline = found.headline
    warnings = [("Note:", note) for note in found.notes]
    if headline is not None and 0 < headline.seeds <= 5:
        warnings.append((f"{headline.seeds} seeds only:", "intervals are wide for that reason."))
    return warnings


def _facts(found: DecayFindings) -> list[tuple[str, str]]:
    study, headline = found.study, found.headline
    facts = [(str(headline.seeds), "seeds")] if headline else []
    if headline:
        facts.append((str(len({event.decay.words for event in headline.events})), "kinds of decay"))
    return [
        *facts,
        (f"{len(study.tables.members):,}", "trained networks"),
        (f"{study.member_steps:,}", "member-steps, the cost"),
    ]
