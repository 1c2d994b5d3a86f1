"""The answer about decays as data. Errors are fractions, times are steps; null where something is not known."""

from typing import Any

from analysis.decay.events import Event
from analysis.decay.find import ArmDecays, DecayFindings
from analysis.decay.outcomes import Config
from analysis.decay.timing import Timing
from analysis.decay.words import arm_sentences, sentence
from analysis.estimates import finite_or_none

__all__ = ["arm_answer", "decay_answer"]


def decay_answer(found: DecayFindings) -> dict[str, Any]:
    """The whole study's answer.

    Args:
        found: what was found in it.

    Returns:
        The headline arm's answer; with several arms, `arm` and `arms` beside it.
    """
    study, headline = found.study, found.headline
    data = {"name": study.sweep.get("name"), "question": study.sweep.get("question")}
    data |= arm_answer(headline) if headline is not None else _nothing()
    data |= {"sentence": sentence(found), "notes": [*(headline.notes if headline else ()), *found.notes]}
    data |= {"member_steps": study.member_steps, "by_status": study.by_status}
    data |= {"margin": study.settings.margin, "confidence": study.settings.confidence}
    if headline is not None and len(found.arms) > 1:
        data["arm"] = dict(headline.arm.axes)
        data["arms"] = [{"arm": dict(each.arm.axes), **arm_answer(each)} for each in found.arms]
    return data


def arm_answer(found: ArmDecays) -> dict[str, Any]:
    """One arm's answer.

    Args:
        found: what was found in it.

    Returns:
        Keys `sentence, metric, chosen_on, jumps, best_single_decay, recommended_decay_at, recommended_ci,
        recommended_ci_at_these_settings, significant, within_margin, grid, timings, decays_needed, comparisons,
        n_seeds, n_clusters, notes`.
        `recommended_decay_at` is null where no decay at all is best.
    """
    timing = found.timing
    return {
        "sentence": " ".join(arm_sentences(found)),
        "metric": "final_test_error",
        "chosen_on": found.outcomes.chosen_on,
        "jumps": [_jumps(found, event) for event in found.events],
        **_recommended(timing),
        "timings": [{**_frame(each), **_recommended(each)} for each in found.timings],
        "decays_needed": found.needed,
        "comparisons": [each.as_json() for each in found.comparisons],
        "n_seeds": found.seeds,
        "n_clusters": len(set(found.arm.clusters.tolist())),
        "notes": list(found.notes),
    }


def _nothing() -> dict[str, Any]:
    """The keys of an arm's answer where there is no arm."""
    return {
        "sentence": "",
        "metric": "final_test_error",
        "chosen_on": None,
        "jumps": [],
        **_recommended(None),
        "timings": [],
        "decays_needed": None,
        "comparisons": [],
        "n_seeds": 0,
        "n_clusters": 0,
        "notes": [],
    }


def _recommended(timing: Timing | None) -> dict[str, Any]:
    if timing is None:
        empty = ["best_single_decay", "recommended_decay_at", "recommended_ci", "recommended_ci_at_these_settings"]
        return {**dict.fromkeys([*empty, "significant"]), "within_margin": [], "grid": []}
    return {
        "best_single_decay": {
            **_config(timing.single_config),
            "error": timing.single.error.as_json(),
            "error_on_seeds_that_chose": timing.single.own_seeds,
        },
        "recommended_decay_at": timing.decay_at,
        "recommended_ci": [finite_or_none(end) for end in timing.interval],
        "recommended_ci_at_these_settings": [finite_or_none(end) for end in timing.best_line.interval],
        "significant": timing.significant,
        "within_margin": list(timing.best_line.within_margin),
        "grid": timing.grid_json(),
    }


def _frame(timing: Timing) -> dict[str, Any]:
    return {"total_steps" if timing.equal_total else "steps_after_decay": timing.steps}


def _config(config: Config) -> dict[str, Any]:
    return {
        "initial_lr": config.initial_lr,
        "weight_decay": config.weight_decay,
        "final_lr": config.final_lr,
        "steps": config.steps,
        "decay_at": list(config.decay_steps),
        "decay_fraction": [step / config.steps for step in config.decay_steps],
        "lr_factors": list(config.lr_factors),
        "wd_factors": list(config.wd_factors),
    }


def _jumps(found: ArmDecays, event: Event) -> dict[str, Any]:
    decay = event.decay
    return {
        "decay_at": decay.step,
        "lr": [decay.before.lr, decay.after.lr],
        "weight_decay": [decay.before.weight_decay, decay.after.weight_decay],
        "lr_factor": decay.lr_factor,
        "wd_factor": decay.wd_factor,
        "momentum": event.momentum,
        "decays_before": event.number,
        "steps_before": decay.before.steps,
        "steps_after": decay.after.steps,
        "recovery_steps": finite_or_none(event.recovery),
        "reached": event.reached,
        "settled_before": event.settled,
        "n_seeds": len(event.members),
        "groups": [jump.as_json() for jump in found.jumps if jump.event is event],
        "courses": {each.quantity: each.as_json() for each in found.rebounds if each.event is event},
    }
