"""`lratlas plan`: what a sweep amounts to, before anything runs."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sweeps.equilibrium import Equilibrium
    from sweeps.plan import Plan
    from sweeps.schema import Sweep

__all__ = ["plan"]


def plan(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A preset's name or a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Dry run: members, shared beginnings, packs, and what they will cost on this machine.

    Example: lratlas plan band-digits --set axes.seed.range=2
    """
    from sweeps.own_name import check_own_tasks
    from sweeps.plan import plan as make_plan
    from sweeps.resources import this_machine
    from sweeps.sweep import load_sweep

    checked = load_sweep(sweep, changes or [])
    here = this_machine()
    made = make_plan(checked, **asdict(here))
    check_own_tasks(made.recipes)
    if as_json:
        print(json.dumps(made.as_json()))
        return
    _show(checked, made)


def _show(sweep: "Sweep", made: "Plan") -> None:
    from rich.console import Console
    from rich.table import Table

    from sweeps.words import count, duration, size

    shared = made.member_steps_without_sharing / made.member_steps
    widths = sorted({pack.width for pack in made.packs})
    cores, gpus = made.resources.cores, made.resources.gpus
    place = f"{gpus} GPUs" if sweep.run.gpus_per_pack else f"{cores} cores" if cores > 1 else "1 core"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("members", count(len(made.members)), _by_phase(sweep, made))
    table.add_row("segments", count(made.segments), "stretches of training, shared beginnings once")
    table.add_row("packs", count(len(made.packs)), f"{' or '.join(map(str, widths))} rows each, for {place}")
    table.add_row(
        "member-steps", count(made.member_steps), f"{count(made.member_steps_without_sharing)} without sharing"
    )
    table.add_row("sharing saves", f"{1 - 1 / shared:.0%}", f"{shared:.1f} times fewer steps")
    table.add_row("time", f"about {duration(made.estimated_seconds)}", "start, compilation and report included")
    table.add_row("memory", f"about {size(made.estimated_memory_bytes)}", "all processes together")
    where = " of a GPU" if sweep.run.gpus_per_pack else ""
    each = f"of a pack at work{where}, data and step included, for each of its rows"
    table.add_row("per member", f"about {size(made.estimated_memory_bytes_per_member)}", each)
    table.add_row("disk", f"about {size(made.estimated_disk_bytes)}", "the results folder when it is fullest")
    budget = made.checkpoint_budget_bytes
    limit = "no budget is set" if budget is None else f"of a budget of {size(budget)}"
    table.add_row("weights", f"at most {size(made.kept_weights_bytes)}", f"of them, kept in checkpoints/; {limit}")
    if made.probed_solutions and sweep.probes:
        kinds = " and ".join(kind for kind in ("geometry", "features") if getattr(sweep.probes, kind))
        meaning = f"whose {kinds} are measured after training; their time is not in the one above"
        table.add_row("probes", f"up to {count(made.probed_solutions)} solutions", meaning)
    if made.equilibrium:
        table.add_row("equilibrium", *_equilibrium(made.equilibrium, made.steps_per_epoch))
    console = Console(highlight=False)
    console.print(f"[bold]{sweep.name}[/bold]  {sweep.question}")
    console.print(table)
    for note in made.notes:
        console.print(f"Note: {note}.", style="yellow")


def _equilibrium(found: "Equilibrium", per_epoch: int | None) -> tuple[str, str]:
    """Time to equilibrium of scale-invariant weights, in steps and epochs, and whether the schedules wait for it."""
    ends = dict.fromkeys([f"{found.shortest:,.0f}", f"{found.longest:,.0f}"])
    epochs = (
        dict.fromkeys(f"{steps / per_epoch:,.0f}" for steps in (found.shortest, found.longest)) if per_epoch else {}
    )
    passes = f" ({' to '.join(epochs)} passes)" if epochs else ""
    waits = (
        "every first phase is as long"
        if not found.unfinished
        else f"{found.unfinished} of {found.settings} settings of the first phase are shorter"
    )
    meaning = "4 (1 - momentum) / (LR x weight decay): scale-invariant weights then have forgotten how they began"
    return f"{' to '.join(ends)} steps{passes}", f"{meaning}; {waits}"


def _by_phase(sweep: "Sweep", made: "Plan") -> str:
    """How many members end with each phase."""
    from collections import Counter

    found = Counter(member.phases[-1].name for member in made.members)
    names = dict.fromkeys(phase.name for part in sweep.parts.values() for phase in part.phases)
    return " + ".join(f"{found[name]:,} {name}" for name in names if found[name])
