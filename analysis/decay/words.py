"""What was found about decays, in sentences that claim no more than their intervals allow."""

import numpy as np

from analysis.arms import lr_text
from analysis.decay.events import Event
from analysis.decay.find import ArmDecays, DecayFindings
from analysis.decay.jumps import WHOLE, Jump
from analysis.decay.necessity import Comparison, Need
from analysis.decay.outcomes import Config
from analysis.decay.rebounds import Rebound, ReboundVerdict
from analysis.decay.timing import Timing
from analysis.estimates import Estimate
from analysis.words import margin_words, percent, points

__all__ = [
    "arm_sentences",
    "comparison_words",
    "config_words",
    "jump_words",
    "rebound_words",
    "sentence",
    "timing_words",
]


def sentence(found: DecayFindings) -> str:
    """The answer of a study: the headline arm's, then the other arms', then what could not be said."""
    headline = found.headline
    if headline is None:
        return " ".join(found.notes)
    others = [each for each in found.arms if each is not headline]
    parts = [*arm_sentences(headline)]
    for each in others:
        parts += arm_sentences(each)
    return " ".join([*parts, *found.notes])


def arm_sentences(found: ArmDecays) -> list[str]:
    """The answer of one arm.

    Args:
        found: what was found in it.

    Returns:
        Sentences: the recommended time, the number of decays, what happens at each kind of decay, notes.
    """
    said = []
    if found.timing is not None:
        said.append(timing_words(found.timing))
    said += [comparison_words(each) for each in found.comparisons if each.pooled and each.equal_length]
    if found.needed is not None:
        said.append(_needed_words(found.needed))
    for event in found.shown:
        jump = found.jump(event)
        if jump is not None:
            said.append(jump_words(jump))
        error = found.rebound(event, "error")
        if error is not None:
            said.append(rebound_words(error, None if jump is None else event))
    prefix = f"With {found.arm.label}: " if found.arm.label and said else ""
    if prefix:
        acronym = said[0][1:2].isupper()  # LR, WD
        said[0] = prefix + (said[0] if acronym else said[0][:1].lower() + said[0][1:])
    return [*said, *found.notes]


def timing_words(timing: Timing) -> str:
    """The recommended decay time, with what the data cannot tell it from."""
    config, line = timing.config, timing.best_line
    own = "on the seeds that chose it" if timing.choice.own_seeds else "on seeds that did not choose it"
    what = config_words(config) if config.decays else f"no decay ({_start(config)})"
    parts = [f"The best is {what}, with an error of {percent(timing.choice.error)} % {own}"]
    confidence = f"{100 * timing.choice.error.confidence:g} %"
    low, high = timing.interval
    if np.isnan(low):
        parts.append("one seed leaves no interval for the decay time")
    elif timing.significant:
        parts.append(f"every other decay time is worse ({confidence} confidence)")
    else:
        tried = sorted({time for each in timing.lines for time in each.times})
        inside = [time for time in tried if low <= time <= high]
        all_times = " (all that were tried)" if inside == tried else ""
        end = " (and none)" if _ends_with_none(timing, high) else ""
        parts.append(
            f"the difference to other times is not significant: decay times from {low:,.0f} to {high:,.0f} steps{end} "
            f"may be the best{all_times} ({confidence} confidence)"
        )
    within = [
        "none" if never else f"{time:,}"
        for time, never in zip(line.times, line.never, strict=True)
        if time in line.within_margin
    ]
    parts.append(f"within {margin_words(timing.margin)} of the best at these settings: {', '.join(within)}")
    return f"{'; '.join(parts)} ({_seeds(timing.seeds)})."


def comparison_words(found: Comparison) -> str:
    """Whether more decays are needed."""
    fewer = "a single decay" if found.than == 1 else "no decay"
    length = "" if found.equal_length else f" of {found.than_steps:,} steps"
    if found.than == 0:
        subject = _capital(found.schedule)
    else:
        subject = f"{'The best of' if found.schedule.startswith('all') else 'The schedule with'} {found.schedule}"
    gain = f"{points(found.gain)} against {fewer}{length}, {_seeds(found.gain.n)}"
    if found.verdict is Need.UNKNOWN:
        return f"{subject}: a gain of {gain}; too few seeds for an interval, so nothing can be said."
    if found.verdict is Need.NEEDED:
        return f"{subject} is better, and needed: a gain of {gain}."
    if found.verdict is Need.NOT_NEEDED:
        return f"{subject} is not needed: no gain of {margin_words(found.margin)} ({gain})."
    return f"{subject}: a difference that is not significant ({gain})."


def jump_words(jump: Jump) -> str:
    """The effective learning rate and the angle at a decay, beside what theory says."""
    event = jump.event
    where = "" if jump.group in WHOLE else f" of {jump.group}"
    over = ""
    if np.isfinite(jump.predicted_interval) and jump.interval > 1:
        over = f", {jump.predicted_interval:.3g} over the {jump.interval} steps that were averaged"
    parts = [
        f"{_capital(event.label)}: the effective learning rate{where} is {_ratio(jump.just_after)} times its old "
        f"equilibrium just after (predicted {jump.predicted_just_after:.3g} at once{over})"
    ]
    end = f"{_ratio(jump.at_end)} times at the end"
    if np.isfinite(jump.predicted_at_end.value):
        noise = f", gradient noise being {jump.noise.value:.3g} times what it was"
        end += f" ({'predicted' if event.reached else 'on its way to'} {jump.predicted_at_end.value:.3f}{noise})"
    parts.append(end)
    if np.isfinite(jump.angle.value):
        angle = f"the angle per step is {_ratio(jump.angle)} times at the end"
        parts.append(angle + (f" (predicted {jump.predicted_angle:.3f})" if np.isfinite(jump.predicted_angle) else ""))
    return f"{', '.join(parts[:-1])}{', and ' if len(parts) > 1 else ''}{parts[-1]} ({_seeds(jump.just_after.n)})."


def rebound_words(found: Rebound, introduced: Event | None = None) -> str:
    """The course of an error or a loss after a decay.

    Args:
        found: the course.
        introduced: the decay, where the sentence before was about it.

    Returns:
        The sentence.
    """
    unit, scale = ("points", 100.0) if found.is_error else ("", 1.0)
    digits = 1 if found.is_error else 3

    def number(estimate: Estimate) -> str:
        return f"{scale * estimate.value:.{digits}f}"

    def difference(estimate: Estimate) -> str:
        if found.is_error:
            return points(estimate)
        interval = f" [{estimate.low:+.3f}, {estimate.high:+.3f}]" if np.isfinite(estimate.low) else ""
        return f"{estimate.value:+.3f}{interval}"

    where = "" if introduced is found.event else f"After {found.event.label}, "
    subject = f"the {found.quantity.replace('_', ' ')}"
    falls = "falls" if found.drop.low > 0 or np.isnan(found.drop.low) else "goes"
    course = f"{where}{subject} {falls} from {number(found.before)} to {number(found.best)}{f' {unit}' if unit else ''}"
    how = f"{_seeds(found.rebound.n)}, the best stretch chosen on the others"
    end, change = number(found.end), difference(found.rebound)
    if found.verdict is ReboundVerdict.UNKNOWN:
        text = f"{course} and ends at {end} ({change}; one seed, on which the best stretch was chosen: no interval)"
    elif found.verdict is ReboundVerdict.REBOUND:
        text = f"{course} and returns to {end}: a rebound of {change} ({how})"
    elif found.verdict is ReboundVerdict.NO_REBOUND:
        text = f"{course} and ends at {end}: no rebound of {margin_words(found.margin)} ({change}; {how})"
    else:
        text = f"{course} and ends at {end}: a rebound that is not significant ({change}; {how})"
    return f"{_capital(text)}."


def config_words(config: Config) -> str:
    """A schedule with decays: when, what falls, from where."""
    drops = [
        ", ".join(
            part
            for part in (
                f"LR x {lr:.3g}" if lr != 1 else "",
                (f"WD x {wd:.3g}" if wd else "WD off") if wd != 1 else "",
            )
            if part
        )
        for lr, wd in zip(config.lr_factors, config.wd_factors, strict=True)
    ]
    times = " and ".join(f"{drop} at step {step:,}" for drop, step in zip(drops, config.decay_steps, strict=True))
    share = f" ({100 * config.decay_steps[0] / config.steps:.0f} %)" if config.decays == 1 else ""
    return f"{times} of {config.steps:,}{share} from {_start(config)}"


def _needed_words(needed: int) -> str:
    if needed == 0:
        return "No decay is needed."
    return "One decay is enough." if needed == 1 else f"{needed} decays are needed."


def _start(config: Config) -> str:
    scale = f", weights x {config.kicks[0]:g}" if config.kicks[0] != 1 else ""
    return f"LR {lr_text(config.initial_lr)}, WD {lr_text(config.weight_decay)}{scale}"


def _ends_with_none(timing: Timing, high: float) -> bool:
    return any(
        never and time == high for line in timing.lines for time, never in zip(line.times, line.never, strict=True)
    )


def _ratio(estimate: Estimate) -> str:
    if not np.isfinite(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
