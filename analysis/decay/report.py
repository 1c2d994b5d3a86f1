"""The report of a decay study: what each decay does, when it should come, how many are needed."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.averages import measured_averages
from analysis.averages_section import averages_section
from analysis.content import Content
from analysis.decay.answer import decay_answer
from analysis.decay.events import Event
from analysis.decay.excursions import Excursions, excursions_of
from analysis.decay.find import ArmDecays, DecayFindings, find_decays
from analysis.decay.jumps import Jump
from analysis.decay.words import arm_sentences, comparison_words, rebound_words
from analysis.estimates import Estimate, finite_or_none
from analysis.exhibit import Exhibit
from analysis.figures.decay_course import decay_course_table, draw_decay_course
from analysis.figures.decay_grid import decay_grid_table, draw_decay_grid
from analysis.figures.decay_timing import decay_seeds_table, decay_timing_table, draw_decay_timing
from analysis.figures.style import render
from analysis.invariance.courses import Network, networks_of
from analysis.invariance.drop import drop_test
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
    extra = [_drop_sentence(network, result) for network, result in drops] + _excursion_sentences(left, study)
    data["sentence"] = " ".join([*extra, data["sentence"]])
    data["tests"] = {f"{result.key}{network.suffix}": result.as_json() for network, result in drops}
    data["excursions"] = [_as_json(each) for each in left]
    averages = measured_averages(networks[0])
    data["averages"] = averages.as_json() if averages else None
    ordered = sorted(found.arms, key=lambda each: each is not found.headline)
    sections = [*_drops(drops), *(_section(found, each) for each in ordered), *_left(left, study)]
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
                "drop": f"{check['arm']} x {check['factor']:g}" if check["arm"] != "both" else "both",
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
    return Section(
        title=each.arm.label or "Results",
        sentence=" ".join(arm_sentences(each)),
        tables=tuple(table for table in tables if len(table.frame)),
        exhibits=tuple(_exhibits(found, each, suffix)),
        notes=tuple(
            rebound_words(rebound)
            for event in each.shown
            for quantity in ("error", "loss")
            if (rebound := each.rebound(event, quantity)) is not None
        ),
    )


def _exhibits(found: DecayFindings, each: ArmDecays, suffix: str) -> Iterator[Exhibit]:
    confidence = f"{100 * found.study.settings.confidence:g} % intervals"
    course = decay_course_table(found, each)
    if len(course):
        yield Exhibit(
            name=f"decay-course{suffix}",
            title="Around a decay",
            caption=f"Mean over seeds with {confidence} (Student), decays laid over each other; thin: what theory "
            "predicts.",
            drawing=render(draw_decay_course(course)),
            table=course,
        )
    timing = each.timing
    if timing is None:
        return
    table = decay_timing_table(timing)
    yield Exhibit(
        name=f"decay-timing{suffix}",
        title="Final error by decay time",
        caption=f"Mean final test error over {timing.seeds} seeds with {confidence} (Student), one line for each "
        "initial learning rate and weight decay. Shaded: the times that may be the best.",
        drawing=render(draw_decay_timing(table, decay_seeds_table(timing), timing.best_line.interval, timing.margin)),
        table=table,
    )
    grid = decay_grid_table(timing)
    yield Exhibit(
        name=f"decay-grid{suffix}",
        title="Final error by decay time, initial learning rate and weight decay",
        caption="Mean final test error in points and half its interval; framed: the best.",
        drawing=render(draw_decay_grid(grid)),
        table=grid,
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


def _left(left: list[Excursions], study: Study) -> Iterator[Section]:
    """A section for runs that left a low loss again."""
    if not left:
        return
    rows = [
        {
            "network": each.arm.label or "the network",
            "stretch": f"{each.words}, steps {each.level.start:,} to {each.level.stop:,}",
            "runs": str(each.runs),
            "below": f"{each.reached}, first at {each.first:,.0f}" if each.reached else "0",
            "lowest loss": f"{each.lowest:.2g}",
            "leaves": f"{each.crossings:.3g}",
            "in the last 3/4": f"{each.late:.3g}",
            "loss at the end": f"{each.end:.2g}",
        }
        for each in left
    ]
    yield Section(
        title="Leaving a solution again",
        sentence=" ".join(_excursion_sentences(left, study)),
        tables=(
            PageTable(
                name="excursions",
                title="Crossings of the training loss",
                caption=f"How often the training loss crosses {study.settings.converged_loss:g} upwards, mean over "
                "runs; the loss at the end is the largest of the runs.",
                frame=pd.DataFrame(rows),
                data=pd.DataFrame([_as_json(each) for each in left]),
                words=("stretch",),
            ),
        ),
    )


def _excursion_sentences(left: list[Excursions], study: Study) -> list[str]:
    """What happens with weight decay, and once it is off."""
    said = []
    for each in left:
        name = f"{each.arm.label}: " if each.arm.label else ""
        level = f"{study.settings.converged_loss:g}"
        if each.late >= 1:  # every run, on average
            said.append(
                f"{name}with {each.words} the training loss gets below {level} (lowest {each.lowest:.2g}) and leaves "
                f"again {each.late:.3g} times in the last three quarters of {each.level.steps:,} steps."
            )
        elif each.level.weight_decay == 0 and each.reached:
            said.append(f"{name}with {each.words} it does not leave again (loss at the end {each.end:.2g}).")
    return said


def _as_json(each: Excursions) -> dict[str, object]:
    return {
        "arm": each.arm.label,
        "lr": each.level.lr,
        "weight_decay": each.level.weight_decay,
        "start": each.level.start,
        "stop": each.level.stop,
        "runs": each.runs,
        "reached": each.reached,
        "first": finite_or_none(each.first),
        "lowest": finite_or_none(each.lowest),
        "crossings": each.crossings,
        "crossings_in_last_three_quarters": each.late,
        "loss_at_end": finite_or_none(each.end),
    }


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
